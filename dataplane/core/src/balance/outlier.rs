//! Outliers: endpoints that answer worse than they should are left alone for a while ("ejected").

use std::time::Duration;

/// When an endpoint is ejected, and for how long. The names are those of Envoy's outlier detection, and the defaults
/// where they make sense for clusters of a few endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Responses of 5xx, or none at all, in a row.
    pub consecutive_5xx: Option<u32>,
    /// Responses of 502, 503 or 504, or none at all, in a row.
    pub consecutive_gateway_errors: Option<u32>,
    /// Requests without a response in a row.
    pub consecutive_local_failures: Option<u32>,
    /// Requests that failed among those of an interval, in percent.
    pub failure_percentage: Option<u8>,
    /// The fewest requests of an interval that are judged by their failures.
    pub request_volume: u32,
    /// What requests are counted within.
    pub interval: Duration,
    /// How long the first ejection lasts; the second twice as long, and so on.
    pub base_ejection: Duration,
    /// No ejection lasts longer.
    pub max_ejection: Duration,
    /// How many endpoints of a hundred may be ejected at a time; at least one.
    pub max_ejection_percent: u8,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: Some(5),
            consecutive_gateway_errors: None,
            consecutive_local_failures: Some(5),
            failure_percentage: None,
            request_volume: 20,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_ejection_percent: 50,
        }
    }
}

/// How an endpoint answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well, or with an error that is the client's.
    Good,
    /// With 502, 503 or 504.
    GatewayError,
    /// With another status of 5xx.
    ServerError,
    /// Not at all.
    Unanswered,
}

impl Outcome {
    /// What a status says.
    pub fn of(status: u16) -> Self {
        match status {
            502..=504 => Self::GatewayError,
            500..=599 => Self::ServerError,
            _ => Self::Good,
        }
    }
}

/// What one endpoint has done lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outlier {
    /// In a row.
    server_errors: u32,
    gateway_errors: u32,
    unanswered: u32,
    /// Since the interval began.
    requests: u32,
    failures: u32,
    interval_from: Duration,
    /// Ejections that count for how long the next one is.
    ejections: u32,
    ejected_until: Option<Duration>,
}

impl Outlier {
    /// Whether it is ejected.
    pub fn is_ejected(&self, now: Duration) -> bool {
        self.ejected_until.is_some_and(|until| now < until)
    }

    /// Ends an ejection whose time is over. `true` if there was one.
    pub fn end_ejection(&mut self, now: Duration) -> bool {
        let is_over = self.ejected_until.is_some_and(|until| now >= until);
        if is_over {
            *self = Self { ejections: self.ejections, interval_from: now, ..Self::default() };
        }
        is_over
    }

    /// A request has ended. `true` when the endpoint ought to be ejected for it. `now` is a time that does not go back.
    pub fn on_outcome(&mut self, outcome: Outcome, policy: &OutlierDetection, now: Duration) -> bool {
        if now.saturating_sub(self.interval_from) >= policy.interval {
            // An interval without an ejection makes up for an earlier one.
            let passed = now.saturating_sub(self.interval_from).as_nanos() / policy.interval.as_nanos().max(1);
            self.ejections = self.ejections.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
            (self.requests, self.failures, self.interval_from) = (0, 0, now);
        }
        let is_bad = outcome != Outcome::Good;
        let count = |counter: &mut u32, counts: bool| *counter = if counts { counter.saturating_add(1) } else { 0 };
        count(&mut self.server_errors, is_bad);
        count(&mut self.gateway_errors, matches!(outcome, Outcome::GatewayError | Outcome::Unanswered));
        count(&mut self.unanswered, outcome == Outcome::Unanswered);
        self.requests = self.requests.saturating_add(1);
        self.failures = self.failures.saturating_add(u32::from(is_bad));
        let has_reached = |counter: u32, limit: Option<u32>| limit.is_some_and(|limit| counter >= limit);
        let fails_often = policy.failure_percentage.is_some_and(|percent| {
            let is_judged = self.requests >= policy.request_volume;
            is_judged && u64::from(self.failures) * 100 >= u64::from(self.requests) * u64::from(percent)
        });
        is_bad
            && (has_reached(self.server_errors, policy.consecutive_5xx)
                || has_reached(self.gateway_errors, policy.consecutive_gateway_errors)
                || has_reached(self.unanswered, policy.consecutive_local_failures)
                || fails_often)
    }

    /// Ejects it, for at least as long as it has asked for itself, if it has. Returns for how long.
    pub fn eject(&mut self, asked: Option<Duration>, policy: &OutlierDetection, now: Duration) -> Duration {
        self.ejections = self.ejections.saturating_add(1);
        let own = policy.base_ejection.saturating_mul(self.ejections);
        let time = asked.unwrap_or(own).min(policy.max_ejection);
        self.ejected_until = Some(now.saturating_add(time));
        time
    }
}

impl OutlierDetection {
    /// Whether one more may be ejected.
    pub fn may_eject(&self, ejected: usize, all: usize) -> bool {
        let most = (all * usize::from(self.max_ejection_percent) / 100).max(1);
        ejected < most
    }
}
