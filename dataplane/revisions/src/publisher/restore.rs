//! Brings the last good revision back when the node starts.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use weir_config::{Diagnostic, Parsed, Severity};

use super::Publisher;
use crate::cycle::{Cycle, Outcome, Running, StepName, Trigger};
use crate::log::LogError;
use crate::preparation::Unready;
use crate::reader::parsed;

/// Who is at fault when the last good revision cannot be put in force.
pub(super) const LOG: &str = "version log";

/// How often what is in force and not ready is looked at.
const UNREADY_EVERY: Duration = Duration::from_secs(30);

impl Publisher {
    /// Puts the log's newest revision in force, before any source has been read. It makes no new revision: it is the
    /// one that was in force. No earlier one is taken if that cannot be done, because what was replaced was replaced
    /// for a reason; [`Reader::last_error`](crate::Reader::last_error) says why then, until a source's content is
    /// accepted.
    ///
    /// `sources` are the names of the sources that there will be.
    pub fn restore(&mut self, sources: &[&str]) -> Arc<Cycle> {
        let mut cycle = self.begin(Trigger::Restore, Instant::now(), SystemTime::now());
        let outcome = match self.restore_within(&mut cycle, sources) {
            Ok(outcome) => outcome,
            Err(error) => self.fail(&cycle, LOG, StepName::Compared, error.to_string()),
        };
        self.finish(cycle, outcome)
    }

    fn restore_within(&mut self, cycle: &mut Running, sources: &[&str]) -> Result<Outcome, LogError> {
        for source in sources {
            if let Some(seen) = self.shared.log.seen(source)? {
                self.seen.insert((*source).to_owned(), seen);
            }
        }
        let Some(record) = self.shared.log.latest()? else {
            return Ok(Outcome::Unchanged { reason: "the version log is empty".to_owned() });
        };
        // Sequences go on from here even if this revision cannot be put in force.
        self.last_sequence = record.sequence;
        let kept = self.shared.log.documents(record.sequence)?;
        let read = cycle.step(StepName::Compared, || {
            let read = parsed(&kept);
            (read, format!("{} documents of revision {}", kept.len(), record.version()))
        });
        let Parsed { documents, diagnostics: warnings, .. } = match read {
            Ok(parsed) => parsed,
            Err(diagnostics) => return Ok(self.not_restored(cycle, diagnostics)),
        };
        let compiled = cycle.step(StepName::Compiled, || {
            let compiled = self.compile(&documents, record.sequence);
            let detail = format!("{} errors and warnings", compiled.diagnostics.len() + warnings.len());
            (compiled, detail)
        });
        let mut diagnostics = [warnings, compiled.diagnostics].concat();
        let Some(candidate) = compiled.snapshot else {
            return Ok(self.not_restored(cycle, diagnostics));
        };
        // A plugin that cannot be loaded any more is one that fails: what becomes of its requests, its document says.
        let unready = self.prepare(cycle, &candidate, &documents);
        if !unready.is_empty() {
            self.unready = Some((self.due(), diagnostics.clone()));
        }
        diagnostics.extend(warnings_of(unready));
        if let Err(reason) = self.stage(cycle, &candidate) {
            return Ok(self.fail(cycle, LOG, StepName::Planned, reason));
        }
        let record = Arc::new(record);
        self.swap(cycle, candidate, Arc::clone(&record), diagnostics);
        self.documents = documents;
        self.settle(cycle);
        self.announce(cycle, Arc::clone(&record));
        Ok(Outcome::Restored { version: record.version() })
    }

    /// When what is not ready is looked at again: something may have come back that was not there when the node started.
    fn due(&mut self) -> Instant {
        let latest = Instant::now() + UNREADY_EVERY;
        self.again.take().map_or(latest, |again| again.min(latest))
    }

    /// Tries again to make ready what is in force and was not when the node started.
    pub(super) fn make_ready(&mut self) {
        let Some((_, others)) = self.unready.take_if(|(due, _)| *due <= Instant::now()) else { return };
        let current = self.snapshot.load_full();
        let unready = self.preparation.prepare(&current);
        self.again = unready.iter().filter_map(|one| one.again).min().map(|again| Instant::now() + again);
        let said = |one: &Unready| self.documents.error(&one.object, one.field, one.message.clone());
        let said: Vec<_> = unready.iter().map(said).collect();
        let is_ready = said.is_empty();
        self.shared.state().warnings = others.iter().cloned().chain(warnings_of(said)).collect();
        if is_ready {
            tracing::info!("all plugins are loaded now");
        } else {
            self.unready = Some((self.due(), others));
        }
    }

    fn not_restored(&self, cycle: &Running, diagnostics: Vec<Diagnostic>) -> Outcome {
        let outcome = Outcome::rejected(&diagnostics);
        self.reject(cycle, LOG, diagnostics);
        outcome
    }
}

fn warnings_of(errors: Vec<Diagnostic>) -> impl Iterator<Item = Diagnostic> {
    errors.into_iter().map(|one| Diagnostic { severity: Severity::Warning, ..one })
}
