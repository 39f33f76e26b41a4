//! A change from its documents to an announced revision.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tracing::error;
use weir_config::{Diagnostic, DocumentSet, compile};
use weir_core::revision::Sequence;
use weir_core::snapshot::Snapshot;
use weir_core::stats::StatsTable;
use weir_sources::Change;

use super::Publisher;
use crate::cycle::{Cycle, Outcome, Running, StepName, Trigger};
use crate::log::{Kept, Seen};
use crate::preparation::Unready;
use crate::reader::Announcement;
use crate::record::{Cause, ContentHash, Counts, Diff, Record};
use crate::unrecorded::{Unrecorded, enqueue};

/// Where a change comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name: `folder`.
    pub name: String,
    /// Where it reads: the folder's path.
    pub location: PathBuf,
}

/// Documents that are to be put in force.
pub(super) struct Wanted {
    pub(super) documents: DocumentSet,
    pub(super) cause: Cause,
    pub(super) seen: Option<(String, Seen)>,
    /// What was said about the documents one by one.
    pub(super) warnings: Vec<Diagnostic>,
    /// Whose fault it is when they cannot be.
    pub(super) source: String,
}

impl Publisher {
    /// Puts in force what a source has, if that is right and new.
    pub fn apply(&mut self, source: &Source, change: &Arc<Change>) -> Arc<Cycle> {
        let trigger = Trigger::Source { name: source.name.clone() };
        let mut cycle = self.begin(trigger, change.detected, change.detected_at);
        cycle.detected(format!("{} files in {}", change.files.len(), source.location.display()));
        (self.failed, self.again) = (None, None);
        let outcome = self.apply_within(&mut cycle, source, change);
        let not_before = match outcome {
            Outcome::Failed { .. } => Some(Instant::now()),
            _ => self.again.take(),
        };
        self.failed = not_before.map(|not_before| (source.clone(), Arc::clone(change), not_before));
        self.finish(cycle, outcome)
    }

    fn apply_within(&mut self, cycle: &mut Running, source: &Source, change: &Change) -> Outcome {
        let current = self.current().map(|record| record.version_id);
        let parsed = cycle.step(StepName::Compared, || {
            let parsed = self.parsed.parse(&change.files);
            let (id, count) = (parsed.documents.id(), parsed.documents.len());
            let detail = match parsed.has_errors() {
                true => format!("{} errors and warnings", parsed.diagnostics.len()),
                false if Some(id) == current => format!("{count} documents, as in force"),
                false => format!("{count} documents, {}", id.short()),
            };
            ((parsed, id), detail)
        });
        let (parsed, version_id) = parsed;
        if parsed.has_errors() {
            // What is right is compiled nevertheless, so that everything that is wrong is said at once.
            let mut diagnostics = parsed.diagnostics;
            diagnostics.extend(compile(&parsed.documents, Sequence(0), &mut StatsTable::default()).diagnostics);
            return self.rejected(cycle, &source.name, diagnostics);
        }
        let content_hash = ContentHash(change.content_hash);
        let seen = Seen { content_hash, version_id };
        if current == Some(version_id) {
            // The same content, but now with the lines where it is written, which is where the warnings point.
            let mut warnings = parsed.diagnostics;
            warnings.extend(self.compile(&parsed.documents, self.last_sequence).diagnostics);
            self.shared.state().warnings = warnings.into();
            self.documents = parsed.documents;
            return self.unchanged(&source.name, seen, "its content is what is in force");
        }
        if current.is_some() && self.seen.get(&source.name).is_some_and(|before| before.version_id == version_id) {
            return self.unchanged(&source.name, seen, "its content is what it was; the rollback since then holds");
        }
        let cause = Cause::Source { name: source.name.clone(), location: source.location.clone(), content_hash };
        let seen = Some((source.name.clone(), seen));
        let source = source.name.clone();
        self.publish(cycle, Wanted { documents: parsed.documents, cause, seen, warnings: parsed.diagnostics, source })
    }

    fn rejected(&self, cycle: &Running, source: &str, diagnostics: Vec<Diagnostic>) -> Outcome {
        let outcome = Outcome::rejected(&diagnostics);
        self.reject(cycle, source, diagnostics);
        outcome
    }

    /// The source's content is accepted, without a new revision.
    fn unchanged(&mut self, source: &str, seen: Seen, reason: &str) -> Outcome {
        self.shared.state().rejections.remove(source);
        let before = self.seen.insert(source.to_owned(), seen);
        if before.is_none_or(|before| before.version_id != seen.version_id) {
            self.unsaved_seen.insert(source.to_owned(), seen);
            self.save_seen();
        }
        Outcome::Unchanged { reason: reason.to_owned() }
    }

    /// Puts documents in force: from the diff graph to the announcement.
    pub(super) fn publish(&mut self, cycle: &mut Running, wanted: Wanted) -> Outcome {
        let diff = cycle.step(StepName::DiffGraph, || {
            let diff = Diff::between(&self.documents, &wanted.documents);
            let log = &diff.change_log;
            let (added, removed, changed) = (log.added.len(), log.removed.len(), log.changed.len());
            let around = diff.graph.nodes.len().saturating_sub(log.len());
            let detail = format!("{added} added, {removed} removed, {changed} changed, {around} more concerned");
            (diff, detail)
        });
        let parent = self.current();
        let sequence = Sequence(self.last_sequence.0 + 1);
        let compiled = cycle.step(StepName::Compiled, || {
            let compiled = self.compile(&wanted.documents, sequence);
            let detail = format!("{} errors and warnings", compiled.diagnostics.len() + wanted.warnings.len());
            (compiled, detail)
        });
        let mut diagnostics = [wanted.warnings, compiled.diagnostics].concat();
        let Some(candidate) = compiled.snapshot else {
            return self.rejected(cycle, &wanted.source, diagnostics);
        };
        let unready = self.prepare(cycle, &candidate, &wanted.documents);
        if !unready.is_empty() {
            diagnostics.extend(unready);
            return self.rejected(cycle, &wanted.source, diagnostics);
        }
        if let Err(reason) = self.stage(cycle, &candidate) {
            return self.fail(cycle, &wanted.source, StepName::Planned, reason);
        }
        let record = Record {
            sequence,
            version_id: candidate.revision,
            parent: parent.map(|parent| parent.version()),
            applied_at: SystemTime::now(),
            cause: wanted.cause,
            counts: Counts::of(&wanted.documents, &diff.change_log),
            change_log: diff.change_log,
        };
        let record = Arc::new(record);
        self.swap(cycle, candidate, Arc::clone(&record), diagnostics);
        self.last_sequence = sequence;
        self.unready = None;
        self.documents = wanted.documents.clone();
        let kept = Kept { record: (*record).clone(), graph: diff.graph };
        if let Some((source, seen)) = &wanted.seen {
            self.seen.insert(source.clone(), *seen);
            self.unsaved_seen.remove(source);
            self.shared.state().rejections.remove(source);
        }
        self.shared.state().rejections.remove(super::restore::LOG);
        self.record(cycle, Unrecorded { kept, documents: wanted.documents, seen: wanted.seen });
        self.settle(cycle);
        self.announce(cycle, Arc::clone(&record));
        Outcome::Applied { version: record.version() }
    }

    /// Makes the candidate's plugins ready; what is wrong with them.
    pub(super) fn prepare(
        &mut self,
        cycle: &mut Running,
        candidate: &Snapshot,
        documents: &DocumentSet,
    ) -> Vec<Diagnostic> {
        let count = candidate.plugins().len();
        if count == 0 {
            return Vec::new();
        }
        cycle.step(StepName::Prepared, || {
            let unready = self.preparation.prepare(candidate);
            let again = unready.iter().filter_map(|one| one.again).min();
            self.again = again.map(|again| Instant::now() + again);
            let detail = format!("{count} plugins, {} cannot be loaded", unready.len());
            let said = |one: &Unready| documents.error(&one.object, one.field, one.message.clone());
            (unready.iter().map(said).collect(), detail)
        })
    }

    pub(super) fn stage(&mut self, cycle: &mut Running, candidate: &Snapshot) -> Result<(), String> {
        cycle.step(StepName::Planned, || match self.interception.stage(candidate) {
            Ok(plan) => (Ok(()), format!("kernel: +{} ~{} -{}", plan.added, plan.changed, plan.removed)),
            Err(reason) => (Err(reason.clone()), reason),
        })
    }

    /// The moment of the change: from here on new requests see it. The warnings are what it is in force in spite of.
    pub(super) fn swap(
        &mut self,
        cycle: &mut Running,
        candidate: Snapshot,
        record: Arc<Record>,
        warnings: Vec<Diagnostic>,
    ) {
        cycle.warn(&warnings);
        let before = cycle.step(StepName::Applied, || {
            let detail = format!("revision {}", record.version());
            let before = self.snapshot.swap(Arc::new(candidate));
            let mut state = self.shared.state();
            state.current = Some(record);
            state.warnings = warnings.into();
            (before, detail)
        });
        self.retired.push(before);
        self.free_retired();
    }

    fn record(&mut self, cycle: &mut Running, unrecorded: Unrecorded) {
        enqueue(&mut self.shared.state().unrecorded, Arc::new(unrecorded));
        cycle.step(StepName::Recorded, || match self.write_unrecorded() {
            Ok(_) => ((), "on disk".to_owned()),
            Err(reason) => {
                error!("the revision in force is not recorded and will be tried again: {reason}");
                ((), format!("not recorded: {reason}"))
            }
        });
    }

    pub(super) fn settle(&mut self, cycle: &mut Running) {
        cycle.step(StepName::Settled, || match self.settle_now() {
            Ok(()) => ((), "done".to_owned()),
            Err(reason) => ((), format!("left over, will be tried again: {reason}")),
        });
    }

    pub(super) fn announce(&self, cycle: &mut Running, record: Arc<Record>) {
        let id = cycle.id;
        cycle.step(StepName::Announced, || {
            // An error means that nobody waits.
            let told = self.shared.announcements.send(Announcement { record, cycle: id }).unwrap_or(0);
            ((), format!("{told} waiting callers told"))
        });
    }
}
