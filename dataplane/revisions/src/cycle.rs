//! An update cycle: what was done about one change, step by step, and how it ended.

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use weir_config::Diagnostic;

use crate::record::{VersionRef, rfc3339};

/// Diagnostics that a cycle keeps; [`Rejection`] has all of the latest.
const DIAGNOSTICS: usize = 100;

/// What was done about one change.
#[derive(Clone, Debug, Serialize)]
pub struct Cycle {
    /// Counts up from 1 while the process lives.
    pub id: u64,
    /// What set it off.
    pub trigger: Trigger,
    /// When; RFC 3339 in UTC.
    #[serde(with = "rfc3339")]
    pub started_at: SystemTime,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The steps that were taken, in order.
    pub steps: Vec<Step>,
    /// What is in force in spite of them, where the cycle put something in force: the first of the warnings.
    pub warnings: Vec<Diagnostic>,
    /// How it ended.
    pub outcome: Outcome,
}

/// What set a cycle off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Trigger {
    /// A source delivered.
    Source {
        /// Its name.
        name: String,
    },
    /// Somebody wanted an earlier revision back.
    Rollback {
        /// Who, as the caller says.
        by: String,
    },
    /// The node started.
    Restore,
}

/// One step of a cycle.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Which.
    pub name: StepName,
    /// When it began, in microseconds from the beginning of the cycle.
    pub at_us: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// What came of it.
    pub detail: String,
}

/// The steps of a cycle, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// The source saw a change, gathered and read it.
    Detected,
    /// Documents were parsed and compared with those in force.
    Compared,
    /// What differs, and what that concerns.
    DiffGraph,
    /// The candidate was compiled.
    Compiled,
    /// The plugins of the candidate were loaded; left out where it has none.
    Prepared,
    /// The kernel's side was planned, and what the candidate needs added.
    Planned,
    /// The candidate was swapped in.
    Applied,
    /// The revision was written to the log.
    Recorded,
    /// What nothing needs any more went from the kernel's side.
    Settled,
    /// Who waits for a revision was told.
    Announced,
}

/// How a cycle ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// A new revision is in force.
    Applied {
        /// Which.
        version: VersionRef,
    },
    /// The last good revision is in force again.
    Restored {
        /// Which.
        version: VersionRef,
    },
    /// There was nothing to do.
    Unchanged {
        /// Why.
        reason: String,
    },
    /// The configuration is wrong; what was in force stays.
    Rejected {
        /// How many errors and warnings there are.
        count: usize,
        /// The first of them.
        diagnostics: Vec<Diagnostic>,
    },
    /// The configuration is right but could not be put in force; what was in force stays. It is tried again.
    Failed {
        /// The step that failed.
        step: StepName,
        /// Why.
        reason: String,
    },
}

/// Why what a source has is not in force.
#[derive(Clone, Debug, Serialize)]
pub struct Rejection {
    /// The source, or `version log`.
    pub source: String,
    /// When; RFC 3339 in UTC.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// The cycle in which that was found.
    pub cycle: u64,
    /// Everything that is wrong.
    pub diagnostics: Vec<Diagnostic>,
}

impl Cycle {
    /// From the first sign of a source's change until new requests saw it. `None` for every other cycle.
    pub fn reload(&self) -> Option<Duration> {
        if !matches!((&self.trigger, &self.outcome), (Trigger::Source { .. }, Outcome::Applied { .. })) {
            return None;
        }
        let applied = self.steps.iter().find(|step| step.name == StepName::Applied)?;
        Some(Duration::from_micros(applied.at_us.saturating_add(applied.duration_us)))
    }
}

impl Outcome {
    /// The names of all outcomes: those in JSON, and the values of the metric's label.
    pub const NAMES: [&'static str; 5] = ["applied", "restored", "unchanged", "rejected", "failed"];

    /// Its name.
    pub fn name(&self) -> &'static str {
        Self::NAMES[self.position()]
    }

    /// The place of its name.
    pub(crate) fn position(&self) -> usize {
        match self {
            Self::Applied { .. } => 0,
            Self::Restored { .. } => 1,
            Self::Unchanged { .. } => 2,
            Self::Rejected { .. } => 3,
            Self::Failed { .. } => 4,
        }
    }

    /// Rejected for these reasons, of which the first are kept.
    pub(crate) fn rejected(diagnostics: &[Diagnostic]) -> Self {
        let first = diagnostics.iter().take(DIAGNOSTICS).cloned().collect();
        Self::Rejected { count: diagnostics.len(), diagnostics: first }
    }
}

/// A cycle that is not over.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) id: u64,
    pub(crate) trigger: Trigger,
    pub(crate) started_at: SystemTime,
    started: Instant,
    steps: Vec<Step>,
    warnings: Vec<Diagnostic>,
}

impl Running {
    pub(crate) fn new(id: u64, trigger: Trigger, started: Instant, started_at: SystemTime) -> Self {
        Self { id, trigger, started_at, started, steps: Vec::new(), warnings: Vec::new() }
    }

    /// Takes a step: runs `action`, which says what came of it.
    pub(crate) fn step<T>(&mut self, name: StepName, action: impl FnOnce() -> (T, String)) -> T {
        let begun = Instant::now();
        let (result, detail) = action();
        self.steps.push(Step {
            name,
            at_us: micros(begun.saturating_duration_since(self.started)),
            duration_us: micros(begun.elapsed()),
            detail,
        });
        result
    }

    /// Notes that the change was detected: the time from the first sign of it until now.
    pub(crate) fn detected(&mut self, detail: String) {
        let duration_us = micros(self.started.elapsed());
        self.steps.push(Step { name: StepName::Detected, at_us: 0, duration_us, detail });
    }

    /// Notes what is put in force in spite of them.
    pub(crate) fn warn(&mut self, warnings: &[Diagnostic]) {
        self.warnings = warnings.iter().take(DIAGNOSTICS).cloned().collect();
    }

    pub(crate) fn finish(self, outcome: Outcome) -> Cycle {
        Cycle {
            id: self.id,
            trigger: self.trigger,
            started_at: self.started_at,
            duration_us: micros(self.started.elapsed()),
            steps: self.steps,
            warnings: self.warnings,
            outcome,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
