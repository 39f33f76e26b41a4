//! What answers of an endpoint are expected to take.

use std::time::Duration;

/// After this time what was measured counts for about a third.
const DECAY: Duration = Duration::from_secs(10);

/// What is taken for the latency of an endpoint that failed: it may have failed very fast.
const PENALTY: Duration = Duration::from_secs(1);

/// An average of latencies in which the past counts less and less, and that jumps at once to a latency above it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeakEwma {
    micros: f64,
    at: Duration,
}

impl PeakEwma {
    /// The expected latency in microseconds; 0 of an endpoint that nobody knows yet, so that it is tried.
    pub fn micros(&self) -> f64 {
        self.micros
    }

    /// An answer came after this time, or a failure. `now` is a time that does not go back.
    pub fn observe(&mut self, latency: Duration, failed: bool, now: Duration) {
        let latency = if failed { latency.max(PENALTY) } else { latency };
        let micros = latency.as_secs_f64() * 1e6;
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        self.micros = if micros > self.micros {
            micros
        } else {
            let past = (-passed / DECAY.as_secs_f64()).exp();
            self.micros * past + micros * (1.0 - past)
        };
    }
}
