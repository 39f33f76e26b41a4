//! What becomes of a plugin whose instances fail. One client whose requests are too much for it must not take it from the
//! others: then only that client waits. Where it fails for several, or by itself, it is switched off for a while.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::instances::millis;

/// How long it takes until there is a new instance after one has failed: none the first time, then this, and each time
/// twice as long.
const BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);

/// Failures within the window after which it is switched off, and of how many clients they must be. Those that are nobody's
/// are as bad as those of many.
const FAILURES: usize = 5;
const CLIENTS: usize = 3;

/// For how long, and the longest, after it was several times.
const OFF: Duration = Duration::from_secs(30);
const LONGEST_OFF: Duration = Duration::from_secs(600);

/// Failures that are remembered: the oldest go.
const REMEMBERED: usize = 64;

/// An instance has failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// With what came from whom; `None` where it did by itself.
    pub(super) client: Option<IpAddr>,
    /// Whether it had to be stopped: that has held up all others.
    pub(super) is_stopped: bool,
    pub(super) at: u64,
}

/// Times are in milliseconds of the worker's clock.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: VecDeque<Failure>,
    /// Instances that have failed by themselves, one after the other.
    own: u32,
    /// When there may be a new one.
    not_before: u64,
    off_until: u64,
    /// How often it was switched off.
    times_off: u32,
}

fn backoff(count: u32, base: Duration, longest: Duration) -> u64 {
    match count {
        0 | 1 => 0,
        _ => millis(base.saturating_mul(1 << (count - 2).min(16)).min(longest)),
    }
}

impl Breaker {
    /// Whether a client's request is shown to it.
    pub(super) fn admits(&mut self, client: Option<IpAddr>, now: u64) -> bool {
        if now < self.off_until {
            return false;
        }
        let Some(client) = client.filter(|_| !self.failures.is_empty()) else { return true };
        let of_client =
            || self.failures.iter().filter(|one| one.client == Some(client) && now < one.at + millis(WINDOW));
        let Some(last) = of_client().map(|one| one.at).max() else { return true };
        let count = of_client().map(|one| 1 + u32::from(one.is_stopped)).sum();
        now >= last + backoff(count, BACKOFF, LONGEST_BACKOFF)
    }

    /// Whether a new instance may be made.
    pub(super) fn may_start(&self, now: u64) -> bool {
        now >= self.not_before
    }

    /// An exchange ended well: what it did by itself before is forgotten.
    pub(super) fn on_success(&mut self) {
        self.own = 0;
    }

    /// An instance has failed. For how long the plugin is switched off, if it is.
    pub(super) fn on_failure(&mut self, failure: Failure) -> Option<Duration> {
        let now = failure.at;
        if failure.client.is_none() {
            self.own += 1;
            self.not_before = now + backoff(self.own, BACKOFF, LONGEST_BACKOFF);
        }
        self.failures.retain(|one| now < one.at + millis(WINDOW));
        if self.failures.len() == REMEMBERED {
            self.failures.pop_front();
        }
        self.failures.push_back(failure);
        let clients: BTreeSet<_> = self.failures.iter().filter_map(|one| one.client).collect();
        let of_nobody = self.failures.iter().filter(|one| one.client.is_none()).count();
        let is_bad = self.failures.len() >= FAILURES && clients.len() >= CLIENTS || of_nobody >= FAILURES;
        if !is_bad || now < self.off_until {
            return None;
        }
        let off = OFF.saturating_mul(1 << self.times_off.min(16)).min(LONGEST_OFF);
        self.times_off += 1;
        self.off_until = now + millis(off);
        self.failures.clear();
        Some(off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, number]))
    }

    fn trap(client: Option<IpAddr>, at: u64) -> Failure {
        Failure { client, is_stopped: false, at }
    }

    #[test]
    fn one_that_had_to_be_stopped_counts_twice() {
        for (is_stopped, expected) in [(false, [0, 100, 200, 400]), (true, [100, 400, 1_600, 6_400])] {
            let (mut breaker, mut now) = (Breaker::default(), 1_000);
            let waits = expected.map(|_| {
                breaker.on_failure(Failure { client: client(1), is_stopped, at: now });
                let wait = (0..60_000).find(|wait| breaker.admits(client(1), now + wait)).unwrap();
                now += wait;
                wait
            });
            assert_eq!(waits, expected);
        }
    }

    #[test]
    fn one_client_takes_it_from_nobody_else() {
        let (mut breaker, mut now) = (Breaker::default(), 1_000);
        let mut refused = 0;
        for _ in 0..10_000 {
            if breaker.admits(client(1), now) {
                assert_eq!(breaker.on_failure(trap(client(1), now)), None, "one client has switched it off");
            } else {
                refused += 1;
            }
            assert!(breaker.admits(client(2), now) && breaker.may_start(now));
            now += 10;
        }
        assert!(refused > 9_900, "{refused}");
        // After a while without any it is admitted again.
        assert!(breaker.admits(client(1), now + millis(WINDOW)));
    }

    #[test]
    fn what_fails_for_several_is_switched_off() {
        let mut breaker = Breaker::default();
        let off: Vec<_> = (0..5).map(|at| breaker.on_failure(trap(client(at % 3), 1_000 + u64::from(at)))).collect();
        assert_eq!(off, [None, None, None, None, Some(OFF)]);
        assert!(!breaker.admits(client(9), 1_100) && !breaker.admits(None, 1_100));
        let later = 1_004 + millis(OFF);
        assert!(breaker.admits(client(9), later));
        // And the next time for longer.
        let off: Vec<_> = (0..5).filter_map(|at| breaker.on_failure(trap(client(at), later))).collect();
        assert_eq!(off, [OFF * 2]);
    }

    #[test]
    fn what_fails_by_itself_waits_and_is_switched_off() {
        let (mut breaker, mut now, mut waited) = (Breaker::default(), 0, Vec::new());
        let off = loop {
            let off = breaker.on_failure(trap(None, now));
            let wait = (0..).find(|wait| breaker.may_start(now + wait)).unwrap();
            waited.push(wait);
            now += wait;
            if let Some(off) = off {
                break off;
            }
        };
        assert_eq!((off, &waited[..]), (OFF, &[0, 100, 200, 400, 800][..]));
        breaker.on_success();
        breaker.on_failure(trap(None, now));
        assert!(breaker.may_start(now));
    }
}
