//! What could not be done is tried again.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::Publisher;
use crate::cycle::Cycle;
use crate::log::LogError;
use crate::unrecorded::write_all;

impl Publisher {
    /// Tries again what failed for a reason that may have passed: writing to the log, settling, a change that the
    /// kernel's side refused. To be called every few seconds; does nothing when there is nothing to do.
    pub fn retry(&mut self) -> Option<Arc<Cycle>> {
        if let Err(reason) = self.write_unrecorded() {
            warn!("the revision in force is still not recorded: {reason}");
        }
        self.save_seen();
        if !self.is_settled {
            let _tried_again_later = self.settle_now();
        }
        self.make_ready();
        let (source, change, _) = self.failed.take_if(|(_, _, not_before)| *not_before <= Instant::now())?;
        Some(self.apply(&source, &change))
    }

    /// Whether [`Publisher::retry`] has something to do.
    pub fn has_unfinished(&self) -> bool {
        let unrecorded = !self.shared.state().unrecorded.is_empty();
        let is_due = self.failed.as_ref().is_some_and(|(_, _, not_before)| *not_before <= Instant::now());
        let is_unready = self.unready.as_ref().is_some_and(|(due, _)| *due <= Instant::now());
        unrecorded || is_unready || !self.unsaved_seen.is_empty() || !self.is_settled || is_due
    }

    pub(super) fn write_unrecorded(&self) -> Result<usize, LogError> {
        let next = || self.shared.state().unrecorded.front().cloned();
        let done = |sequence| self.shared.state().unrecorded.retain(|unrecorded| unrecorded.sequence() != sequence);
        write_all(&self.shared.log, next, done)
    }

    pub(super) fn save_seen(&mut self) {
        while let Some((source, seen)) = self.unsaved_seen.first_key_value() {
            if let Err(reason) = self.shared.log.note_seen(source, seen) {
                warn!(source, "what the source has is not noted and will be tried again: {reason}");
                return;
            }
            self.unsaved_seen.pop_first();
        }
    }

    pub(super) fn settle_now(&mut self) -> Result<(), String> {
        let result = self.interception.settle(&self.snapshot.load());
        self.is_settled = result.is_ok();
        if let Err(reason) = &result {
            warn!("the kernel's side has leftovers of earlier revisions: {reason}");
        }
        result
    }
}
