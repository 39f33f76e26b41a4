//! Revisions that are in force, or were, but could not be written to the log yet.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::{error, info};
use weir_config::DocumentSet;
use weir_core::revision::Sequence;

use crate::log::{Kept, Log, LogError, Seen};

/// How many are kept for later. Each holds its documents in memory.
const CAPACITY: usize = 16;

/// A revision to be written.
#[derive(Debug)]
pub(crate) struct Unrecorded {
    pub(crate) kept: Kept,
    pub(crate) documents: DocumentSet,
    /// What its source had, with the source's name.
    pub(crate) seen: Option<(String, Seen)>,
}

impl Unrecorded {
    pub(crate) fn sequence(&self) -> Sequence {
        self.kept.record.sequence
    }

    fn write(&self, log: &Log) -> Result<(), LogError> {
        let seen = self.seen.as_ref().map(|(source, seen)| (source.as_str(), seen));
        log.append(&self.kept.record, &self.kept.graph, &self.documents, seen)
    }
}

/// Puts one more in the queue; the oldest goes when it is full.
pub(crate) fn enqueue(queue: &mut VecDeque<Arc<Unrecorded>>, unrecorded: Arc<Unrecorded>) {
    if queue.len() == CAPACITY
        && let Some(lost) = queue.pop_front()
    {
        error!(sequence = lost.sequence().0, "a revision was never recorded: the log could not be written for long");
    }
    queue.push_back(unrecorded);
}

/// Writes what is in the queue, the oldest first, until one fails.
pub(crate) fn write_all(
    log: &Log,
    next: impl Fn() -> Option<Arc<Unrecorded>>,
    done: impl Fn(Sequence),
) -> Result<usize, LogError> {
    let mut written = 0;
    while let Some(unrecorded) = next() {
        unrecorded.write(log)?;
        done(unrecorded.sequence());
        written += 1;
        info!(sequence = unrecorded.sequence().0, version = %unrecorded.kept.record.version_id, "revision recorded");
    }
    Ok(written)
}
