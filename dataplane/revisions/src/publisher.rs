//! The one place that knows the order of a change.
//!
//! Detected, compared, diff graph, compiled, planned, applied, recorded, settled, announced. Everything that can
//! refuse a change comes before the swap; any failure there leaves all as it was.
//!
//! **The swap comes before the record.** What is swapped in has been compiled and staged, so neither order can ever
//! load something that was not validated. A crash between the two brings back the revision before, which was in force
//! too; the source is read next, and its change applied as any other. The other order would make the disk a condition
//! of every change: a node whose disk is full or broken could not take back a bad canary. A revision that the log does
//! not take stays in force, is reported as not recorded, and is written as soon as the log takes it. What was not
//! recorded is announced all the same only after the attempt, so that a listener never hears of a revision that a
//! healthy log does not have.
//!
//! **A rollback holds until the source's content changes.** The log remembers the canonical content each source had
//! when it was last accepted; the same content again, also after a restart, does not undo a rollback.

mod change;
mod lend;
mod restore;
mod retry;
mod rollback;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use tracing::{error, info, warn};
use weir_config::{Compiled, Compiler, Diagnostic, DocumentSet, ParseCache};
use weir_core::revision::Sequence;
use weir_core::snapshot::Snapshot;
use weir_core::stats::StatsTable;
use weir_sources::Change;

use crate::cycle::{Cycle, Outcome, Rejection, Running, StepName, Trigger};
use crate::interception::Interception;
use crate::log::{Log, Seen};
use crate::preparation::{NoPreparation, Preparation};
use crate::reader::{Reader, Shared};
use crate::record::Record;

pub use change::Source;

/// Puts configurations in force. Lives on the control thread; its methods compile, and write to the disk.
pub struct Publisher {
    shared: Arc<Shared>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Snapshots that are no longer in force and that requests may still use. They are held here so that they are freed
    /// on this thread: that takes as long as there are objects in them, and no worker shall stand still for it.
    retired: Vec<Arc<Snapshot>>,
    stats: Arc<Mutex<StatsTable>>,
    interception: Box<dyn Interception + Send>,
    preparation: Box<dyn Preparation + Send>,
    parsed: ParseCache,
    compiler: Compiler,
    /// The documents of the revision in force.
    documents: DocumentSet,
    /// The newest place in the log, whether or not that revision could be restored.
    last_sequence: Sequence,
    /// What each source had when its content was last accepted.
    seen: BTreeMap<String, Seen>,
    /// Sources whose entry in `seen` is not on disk.
    unsaved_seen: BTreeMap<String, Seen>,
    /// A change that was right but could not be put in force, to be tried again.
    failed: Option<(Source, Arc<Change>, Instant)>,
    /// When the change that was looked at last may be ready, where that takes time.
    again: Option<Instant>,
    /// What is in force and not ready, since it was when the node started: when it is tried again, and the other warnings.
    unready: Option<(Instant, Vec<Diagnostic>)>,
    is_settled: bool,
    last_cycle: u64,
}

impl Publisher {
    /// A publisher with nothing in force yet; [`Publisher::restore`] comes next.
    pub fn new(
        log: Log,
        snapshot: Arc<ArcSwap<Snapshot>>,
        stats: Arc<Mutex<StatsTable>>,
        interception: Box<dyn Interception + Send>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared::new(log)),
            snapshot,
            retired: Vec::new(),
            stats,
            interception,
            preparation: Box::new(NoPreparation),
            parsed: ParseCache::default(),
            compiler: Compiler::default(),
            documents: DocumentSet::default(),
            last_sequence: Sequence(0),
            seen: BTreeMap::new(),
            unsaved_seen: BTreeMap::new(),
            failed: None,
            again: None,
            unready: None,
            is_settled: true,
            last_cycle: 0,
        }
    }

    /// The same, with what makes plugins ready. To be said before [`Publisher::restore`].
    #[must_use]
    pub fn with_preparation(self, preparation: Box<dyn Preparation + Send>) -> Self {
        Self { preparation, ..self }
    }

    /// The same, in a mesh whose workloads have ids of this trust domain. To be said before [`Publisher::restore`].
    #[must_use]
    pub fn with_trust_domain(self, trust_domain: &str) -> Self {
        Self { compiler: Compiler::new(trust_domain), ..self }
    }

    /// A handle for everyone who wants to know.
    pub fn reader(&self) -> Reader {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// Frees the snapshots that no request uses any more. To be called every few seconds.
    pub fn free_retired(&mut self) {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    fn current(&self) -> Option<Arc<Record>> {
        self.shared.state().current.clone()
    }

    fn begin(&mut self, trigger: Trigger, started: Instant, started_at: SystemTime) -> Running {
        self.last_cycle += 1;
        Running::new(self.last_cycle, trigger, started, started_at)
    }

    /// Ends a cycle: it is remembered and logged.
    fn finish(&self, running: Running, outcome: Outcome) -> Arc<Cycle> {
        let cycle = Arc::new(running.finish(outcome));
        for step in &cycle.steps {
            info!(cycle = cycle.id, step = ?step.name, duration_us = step.duration_us, "{}", step.detail);
        }
        let (id, duration_us) = (cycle.id, cycle.duration_us);
        cycle.warnings.iter().for_each(|warning| warn!(cycle = id, "in force all the same: {warning}"));
        match &cycle.outcome {
            Outcome::Applied { version } => {
                info!(cycle = id, duration_us, sequence = version.sequence.0, version = %version.version_id, "applied");
            }
            Outcome::Restored { version } => {
                info!(cycle = id, duration_us, sequence = version.sequence.0, version = %version.version_id, "restored");
            }
            Outcome::Unchanged { reason } => info!(cycle = id, duration_us, "unchanged: {reason}"),
            Outcome::Rejected { count, diagnostics } => {
                warn!(cycle = id, duration_us, count, "rejected, what was in force stays");
                diagnostics.iter().for_each(|diagnostic| warn!(cycle = id, "{diagnostic}"));
            }
            Outcome::Failed { step, reason } => {
                error!(cycle = id, duration_us, ?step, "failed, what was in force stays: {reason}");
            }
        }
        self.shared.remember(Arc::clone(&cycle));
        cycle
    }

    /// Notes why the content of `source` is not in force.
    fn reject(&self, cycle: &Running, source: &str, diagnostics: Vec<Diagnostic>) {
        let rejection = Rejection { source: source.to_owned(), at: SystemTime::now(), cycle: cycle.id, diagnostics };
        self.shared.state().rejections.insert(source.to_owned(), Arc::new(rejection));
    }

    fn fail(&self, cycle: &Running, source: &str, step: StepName, reason: String) -> Outcome {
        self.reject(cycle, source, vec![Diagnostic::error(reason.clone())]);
        Outcome::Failed { step, reason }
    }

    fn compile(&mut self, documents: &DocumentSet, sequence: Sequence) -> Compiled {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        self.compiler.compile(documents, sequence, &mut stats)
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("current", &self.current()).finish_non_exhaustive()
    }
}
