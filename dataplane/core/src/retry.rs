//! Retries: after which failures a request is tried again, how often, when, and at which destination.

mod budget;

use std::time::Duration;

use http::{Method, StatusCode};

use crate::methods::Methods;
use crate::split::{Destination, Split, Target};

pub use budget::Budget;

/// How a rule has requests tried again.
#[derive(Clone, Debug)]
pub struct Retry<D = Destination> {
    /// Tries after the first, at least 1.
    pub attempts: u32,
    /// The failures that are worth another try.
    pub on: Failures,
    /// The methods whose requests may reach endpoints twice. The others are tried again only after failures that tell
    /// that no endpoint has acted on the request.
    pub methods: Methods,
    /// How long a retry waits.
    pub backoff: Backoff,
    /// After how long a try that is not answered gets another one beside it (hedging); `None`: never.
    pub hedge_after: Option<Duration>,
    /// Where it goes.
    pub to: RetryTo<D>,
}

/// Where retries go.
#[derive(Clone, Debug, PartialEq)]
pub enum RetryTo<D> {
    /// To the first destination of the split that takes requests, by convention the stable one: a canary that fails
    /// must not cost its users more than one try.
    First,
    /// To the destination that failed, at another endpoint if it has one.
    Same,
    /// To this one.
    Other(D),
}

/// How a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no endpoint, no connection to it, or it has refused the request unseen.
    Connect,
    /// The connection ended, or went wrong, before a response.
    Reset,
    /// The try took too long.
    Timeout,
    /// The endpoint answered with this status.
    Status(StatusCode),
    /// The callee answered with this status of gRPC.
    Call(u8),
}

/// A set of failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// [`Failure::Connect`].
    pub connect: bool,
    /// [`Failure::Reset`].
    pub reset: bool,
    /// [`Failure::Timeout`].
    pub timeout: bool,
    /// Sorted.
    statuses: Vec<u16>,
    /// Each a bit.
    calls: u32,
}

impl Failures {
    /// No response at all, whatever kept it from coming.
    pub fn unanswered() -> Self {
        Self { connect: true, reset: true, timeout: true, ..Self::default() }
    }

    /// Adds status codes.
    pub fn add_statuses(&mut self, statuses: impl IntoIterator<Item = u16>) {
        self.statuses.extend(statuses);
        self.statuses.sort_unstable();
        self.statuses.dedup();
    }

    /// Adds a status code of gRPC, below 32.
    pub fn add_call(&mut self, code: u8) {
        self.calls |= bit(code);
    }

    /// Whether a failure is one of them.
    pub fn contains(&self, failure: Failure) -> bool {
        match failure {
            Failure::Connect => self.connect,
            Failure::Reset => self.reset,
            Failure::Timeout => self.timeout,
            Failure::Status(status) => self.statuses.binary_search(&status.as_u16()).is_ok(),
            Failure::Call(code) => self.calls & bit(code) != 0,
        }
    }

    /// What they are, for people.
    pub fn describe(&self) -> String {
        let unanswered =
            [(self.connect, "no connection"), (self.reset, "no response"), (self.timeout, "no answer in time")];
        let mut told: Vec<String> =
            unanswered.into_iter().filter(|(is_in, _)| *is_in).map(|(_, text)| text.to_owned()).collect();
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for status in &self.statuses {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *status => *last = *status,
                _ => ranges.push((*status, *status)),
            }
        }
        told.extend(ranges.into_iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first} to {last}"),
        }));
        told.extend((0..32).filter(|code| self.calls & bit(*code) != 0).map(|code| format!("gRPC status {code}")));
        told.join(", ")
    }
}

fn bit(code: u8) -> u32 {
    1_u32.checked_shl(code.into()).unwrap_or(0)
}

/// How long retries wait: each about twice as long as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The least that the first waits.
    pub base: Duration,
    /// What the least doubles up to.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::from_base(Duration::from_millis(25))
    }
}

impl Backoff {
    /// A backoff that grows to ten times its base.
    pub fn from_base(base: Duration) -> Self {
        Self { base, max: base.saturating_mul(10) }
    }

    /// How long the retry of this number, from 1, waits: at least `base`, doubled with each retry up to `max`, and by
    /// chance up to as much again, so that requests that failed together do not come back together. `roll` is a random
    /// number from the whole range of `u64`.
    pub fn delay(&self, number: u32, roll: u64) -> Duration {
        let doubled = 1_u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX);
        let least = self.base.saturating_mul(doubled).min(self.max);
        let nanos = u64::try_from(least.as_nanos()).unwrap_or(u64::MAX);
        let chance = (u128::from(roll) * u128::from(nanos)) >> 64;
        least.saturating_add(Duration::from_nanos(chance as u64))
    }
}

impl Retry {
    /// Whether a failed try of a request with this method is worth another one.
    pub fn wants(&self, failure: Failure, method: &Method) -> bool {
        let is_harmless = match failure {
            Failure::Connect => true,
            // Whoever names a status of gRPC knows that every call is a POST.
            Failure::Call(_) => true,
            Failure::Reset | Failure::Timeout | Failure::Status(_) => self.methods.contains(method),
        };
        is_harmless && self.on.contains(failure)
    }

    /// Where a request goes whose try at `failed` has failed.
    pub fn destination<'s>(&'s self, split: &'s Split, failed: &'s Destination) -> &'s Destination {
        match &self.to {
            RetryTo::Same => failed,
            RetryTo::Other(other) => other,
            RetryTo::First => {
                let takes_requests = |one: &&Destination| {
                    let redirects = one.filters.as_ref().is_some_and(|filters| filters.redirect.is_some());
                    one.weight > 0 && matches!(one.target, Target::Cluster(_)) && !redirects
                };
                split.destinations.iter().find(takes_requests).unwrap_or(failed)
            }
        }
    }

    /// What it does, for people.
    pub fn describe(&self) -> String {
        let Self { attempts, backoff, .. } = self;
        let times = if *attempts == 1 { "once".to_owned() } else { format!("up to {attempts} times") };
        let place = match &self.to {
            RetryTo::First => "at the first destination".to_owned(),
            RetryTo::Same => "at the same destination".to_owned(),
            RetryTo::Other(other) => format!("at {}", other.name),
        };
        let on = self.on.describe();
        let beside = self.hedge_after.map(|after| format!("; without an answer for {after:?} also beside"));
        let beside = beside.unwrap_or_default();
        format!("tried again {times}, {place}, after at least {:?}, on {on}{beside}", backoff.base)
    }
}

#[cfg(test)]
mod tests;
