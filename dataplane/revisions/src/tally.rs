//! How update cycles ended, and how long changes took, since the process began.

use weir_telemetry::{Histogram, Latencies};

use crate::cycle::{Cycle, Outcome};

/// Counts cycles. Its owner's lock makes it one writer.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    outcomes: [u64; Outcome::NAMES.len()],
    reloads: Histogram,
}

impl Tally {
    pub(crate) fn on_cycle(&mut self, cycle: &Cycle) {
        self.outcomes[cycle.outcome.position()] += 1;
        if let Some(took) = cycle.reload() {
            self.reloads.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    pub(crate) fn outcomes(&self) -> [(&'static str, u64); Outcome::NAMES.len()] {
        std::array::from_fn(|position| (Outcome::NAMES[position], self.outcomes[position]))
    }

    pub(crate) fn reloads(&self) -> Latencies {
        let mut latencies = Latencies::default();
        latencies.add(&self.reloads);
        latencies
    }
}
