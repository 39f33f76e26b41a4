//! How much a destination of copies may have, and whether it is left alone for a moment.

use std::cell::Cell;
use std::time::Instant;

use weir_telemetry::MirrorEvent;

use crate::settings::MirrorLimits;

/// A destination of copies as one worker sees it.
#[derive(Debug, Default)]
pub(super) struct Destination {
    under_way: Cell<usize>,
    failures: Cell<u32>,
    paused_until: Cell<Option<Instant>>,
}

impl Destination {
    /// Admits a copy, or says why not. Each admission must be followed by one [`Destination::on_end`].
    pub(super) fn admit(&self, limits: &MirrorLimits, now: Instant) -> Result<(), MirrorEvent> {
        if let Some(until) = self.paused_until.get() {
            // After the pause one copy at a time tries whether the destination is back.
            if now < until || self.under_way.get() > 0 {
                return Err(MirrorEvent::Breaker);
            }
        }
        if self.under_way.get() >= limits.max_copies {
            return Err(MirrorEvent::Busy);
        }
        self.under_way.set(self.under_way.get() + 1);
        Ok(())
    }

    /// An admitted copy has ended.
    pub(super) fn on_end(&self, event: MirrorEvent, limits: &MirrorLimits, now: Instant) {
        self.under_way.set(self.under_way.get() - 1);
        match event {
            MirrorEvent::Sent => {
                self.failures.set(0);
                self.paused_until.set(None);
            }
            MirrorEvent::Connect | MirrorEvent::Timeout | MirrorEvent::Failed => {
                self.failures.set(self.failures.get().saturating_add(1));
                if self.failures.get() >= limits.breaker_failures {
                    self.paused_until.set(Some(now + limits.breaker_pause));
                }
            }
            // These say nothing about the destination, or only that it is slow.
            _ => {}
        }
    }

    pub(super) fn is_forgettable(&self) -> bool {
        self.under_way.get() == 0 && self.failures.get() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_destination_that_keeps_failing_is_left_alone_and_then_tried_by_one_copy() {
        let limits = MirrorLimits { breaker_failures: 2, max_copies: 3, ..MirrorLimits::default() };
        let (destination, start) = (Destination::default(), Instant::now());
        for _ in 0..2 {
            assert_eq!(destination.admit(&limits, start), Ok(()));
            destination.on_end(MirrorEvent::Connect, &limits, start);
        }
        assert_eq!(destination.admit(&limits, start), Err(MirrorEvent::Breaker));
        let later = start + limits.breaker_pause + Duration::from_millis(1);
        assert_eq!(destination.admit(&limits, later), Ok(()));
        assert_eq!(destination.admit(&limits, later), Err(MirrorEvent::Breaker));
        destination.on_end(MirrorEvent::Sent, &limits, later);
        for _ in 0..3 {
            assert_eq!(destination.admit(&limits, later), Ok(()));
        }
        assert_eq!(destination.admit(&limits, later), Err(MirrorEvent::Busy));
        assert!(!destination.is_forgettable());
    }
}
