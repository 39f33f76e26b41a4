//! What others may know about revisions: the API, the status, the metrics.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;
use weir_config::{Diagnostic, Origin, Parsed, from_canonical};
use weir_core::diff::{ChangeLog, DiffGraph, Limits};
use weir_core::revision::Sequence;
use weir_telemetry::Latencies;

use crate::cycle::{Cycle, Outcome, Rejection};
use crate::log::{Kept, KeptDocument, Log, SelectError, Selector};
use crate::record::{Diff, Record};
use crate::tally::Tally;
use crate::unrecorded::Unrecorded;

/// Cycles that are remembered.
const CYCLES: usize = 64;

/// Announcements that a slow listener may be behind.
const ANNOUNCEMENTS: usize = 64;

/// A revision came into force.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Which.
    pub record: Arc<Record>,
    /// The cycle that it came from.
    pub cycle: u64,
}

/// The revision in force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Which.
    pub record: Arc<Record>,
    /// Whether it is in the log. If not, a restart brings back an earlier one until the source has been read.
    pub is_recorded: bool,
    /// What it is in force in spite of: references that do not resolve, ports that are not routed, and the like.
    pub warnings: Arc<[Diagnostic]>,
}

/// What the publisher and its readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) log: Log,
    pub(crate) announcements: broadcast::Sender<Announcement>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) current: Option<Arc<Record>>,
    pub(crate) warnings: Arc<[Diagnostic]>,
    pub(crate) unrecorded: VecDeque<Arc<Unrecorded>>,
    pub(crate) rejections: BTreeMap<String, Arc<Rejection>>,
    cycles: VecDeque<Arc<Cycle>>,
    tally: Tally,
}

impl Shared {
    pub(crate) fn new(log: Log) -> Self {
        Self { log, announcements: broadcast::channel(ANNOUNCEMENTS).0, state: Mutex::default() }
    }

    /// Held only for moments: nobody waits for the disk with it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn remember(&self, cycle: Arc<Cycle>) {
        let mut state = self.state();
        if state.cycles.len() == CYCLES {
            state.cycles.pop_front();
        }
        state.tally.on_cycle(&cycle);
        state.cycles.push_back(cycle);
    }
}

/// Reads what the publisher knows. Cheap to clone, and usable from any thread; what reads the log may wait for the
/// disk.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
}

impl Reader {
    /// The revision in force; none before the first.
    pub fn current(&self) -> Option<InForce> {
        let state = self.shared.state();
        let record = Arc::clone(state.current.as_ref()?);
        let is_recorded = state.unrecorded.iter().all(|unrecorded| unrecorded.sequence() != record.sequence);
        Some(InForce { record, is_recorded, warnings: Arc::clone(&state.warnings) })
    }

    /// At most `limit` revisions, the newest first, of those before `before`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn list(&self, limit: usize, before: Option<Sequence>) -> Result<Vec<Record>, SelectError> {
        let unrecorded: Vec<_> = self.shared.state().unrecorded.iter().rev().cloned().collect();
        let is_before = |sequence| before.is_none_or(|before| sequence < before);
        let unrecorded = unrecorded.iter().filter(|unrecorded| is_before(unrecorded.sequence()));
        let mut records: Vec<_> = unrecorded.take(limit).map(|unrecorded| unrecorded.kept.record.clone()).collect();
        records.extend(self.shared.log.list(limit - records.len(), before)?);
        Ok(records)
    }

    /// The revision that a selector names, with the graph of what it changed.
    ///
    /// # Errors
    /// When it names none, or several.
    pub fn find(&self, selector: &Selector) -> Result<Kept, SelectError> {
        if let Some(unrecorded) = self.unrecorded(selector) {
            return Ok(unrecorded.kept.clone());
        }
        let record = self.shared.log.find(selector)?;
        let graph = self.shared.log.graph(record.sequence)?;
        Ok(Kept { record, graph })
    }

    fn unrecorded(&self, selector: &Selector) -> Option<Arc<Unrecorded>> {
        let state = self.shared.state();
        let current = state.current.as_ref().map(|record| record.sequence);
        let is_meant = |unrecorded: &&Arc<Unrecorded>| match selector {
            Selector::Current => Some(unrecorded.sequence()) == current,
            Selector::Sequence(sequence) => unrecorded.sequence() == *sequence,
            Selector::Prefix(prefix) => unrecorded.kept.record.version_id.to_string().starts_with(prefix),
        };
        state.unrecorded.iter().rev().find(is_meant).cloned()
    }

    /// The documents of a revision, in order of their names.
    ///
    /// # Errors
    /// When the selector names none or several, or the log does not have them as they were.
    pub fn documents(&self, selector: &Selector) -> Result<Vec<KeptDocument>, SelectError> {
        if let Some(unrecorded) = self.unrecorded(selector) {
            let kept = |document: &Arc<weir_config::Document>| KeptDocument {
                name: document.name.clone(),
                canonical: document.canonical.to_string(),
            };
            return Ok(unrecorded.documents.iter().map(kept).collect());
        }
        let record = self.shared.log.find(selector)?;
        Ok(self.shared.log.documents(record.sequence)?)
    }

    /// How one revision differs from another.
    ///
    /// # Errors
    /// As [`Reader::documents`].
    pub fn diff(&self, from: &Selector, to: &Selector) -> Result<Diff, SelectError> {
        let (from, to) = (self.documents(from)?, self.documents(to)?);
        if let (Ok(from), Ok(to)) = (parsed(&from), parsed(&to)) {
            return Ok(Diff::between(&from.documents, &to.documents));
        }
        // A revision that this version of Weir does not understand any more: what differs is known all the same.
        fn texts(documents: &[KeptDocument]) -> impl Iterator<Item = (&weir_core::name::ObjectName, &str)> {
            documents.iter().map(|document| (&document.name, document.canonical.as_str()))
        }
        let change_log = ChangeLog::between(texts(&from), texts(&to), &Limits::default());
        let graph = DiffGraph::of(&change_log, |_| Vec::new(), |_| Vec::new(), |_| true);
        Ok(Diff { change_log, graph })
    }

    /// The last update cycles, the newest first.
    pub fn cycles(&self) -> Vec<Arc<Cycle>> {
        self.shared.state().cycles.iter().rev().cloned().collect()
    }

    /// How many update cycles ended in which way since the process began, by the name of the outcome.
    pub fn outcomes(&self) -> [(&'static str, u64); Outcome::NAMES.len()] {
        self.shared.state().tally.outcomes()
    }

    /// How long changes of a source took, from the first sign until new requests saw them.
    pub fn reloads(&self) -> Latencies {
        self.shared.state().tally.reloads()
    }

    /// For each source whose content is not in force, why. Empty when all is well.
    pub fn rejections(&self) -> Vec<Arc<Rejection>> {
        self.shared.state().rejections.values().cloned().collect()
    }

    /// The latest reason why a source's content is not in force; none when all is well.
    pub fn last_error(&self) -> Option<Arc<Rejection>> {
        self.shared.state().rejections.values().max_by_key(|rejection| rejection.cycle).cloned()
    }

    /// Hears of every revision that comes into force from now on. Who falls behind is told that something is missing.
    pub fn announcements(&self) -> broadcast::Receiver<Announcement> {
        self.shared.announcements.subscribe()
    }
}

/// The set of documents that the log kept.
pub(crate) fn parsed(documents: &[KeptDocument]) -> Result<Parsed, Vec<Diagnostic>> {
    from_canonical(
        documents.iter().map(|document| (document.name.clone(), document.canonical.as_str(), Origin::default())),
    )
}
