//! Health checks: what endpoints are asked now and then, and what is made of their answers.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};

/// How endpoints are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub question: Question,
    /// From one question to the next.
    pub interval: Duration,
    /// How long an answer may take, with connecting.
    pub timeout: Duration,
    /// Good answers in a row after which an endpoint is well again, at least 1.
    pub healthy_threshold: u32,
    /// Bad answers in a row after which it is not, at least 1.
    pub unhealthy_threshold: u32,
}

/// What an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether it accepts a connection.
    Tcp,
    /// A request.
    Http {
        /// `GET` or `HEAD`, mostly.
        method: Method,
        /// The path, perhaps with a query.
        path: Arc<str>,
        /// The value of `Host`; `None` for the endpoint's address.
        host: Option<HeaderValue>,
        /// Good statuses; none stands for 200 to 399.
        statuses: Vec<u16>,
    },
    /// `grpc.health.v1.Health/Check` about this service; empty for the server as a whole
    /// (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).
    Grpc {
        /// Its full name.
        service: Arc<str>,
    },
}

impl Question {
    /// Whether a response with this status is a good answer.
    pub fn is_good(&self, status: u16) -> bool {
        match self {
            Self::Http { statuses, .. } if !statuses.is_empty() => statuses.contains(&status),
            Self::Http { .. } => (200..400).contains(&status),
            Self::Tcp | Self::Grpc { .. } => status == 200,
        }
    }
}

/// What is known of an endpoint from its answers. It is well to begin with: whoever lists it says that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    is_well: bool,
    /// Answers in a row that say the opposite.
    against: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { is_well: true, against: 0 }
    }
}

impl Health {
    /// Whether it is well.
    pub fn is_well(&self) -> bool {
        self.is_well
    }

    /// An answer came, or none. `true` when this changes whether the endpoint is well.
    pub fn on_answer(&mut self, is_good: bool, check: &HealthCheck) -> bool {
        if is_good == self.is_well {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let most = if is_good { check.healthy_threshold } else { check.unhealthy_threshold };
        if self.against < most {
            return false;
        }
        *self = Self { is_well: is_good, against: 0 };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_answers_in_a_row_change_what_an_endpoint_is() {
        let check = HealthCheck {
            question: Question::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        };
        let mut health = Health::default();
        // Each answer, and what the endpoint is after it.
        for (number, answers) in
            ["+w", "-w", "-w", "+w", "-w", "-w", "-f", "-f", "+f", "-f", "+f", "+w"].iter().enumerate()
        {
            let before = health.is_well();
            let changed = health.on_answer(answers.starts_with('+'), &check);
            assert_eq!(health.is_well(), answers.ends_with('w'), "answer {number}");
            assert_eq!(changed, before != health.is_well(), "answer {number}");
        }
    }

    #[test]
    fn which_statuses_are_good() {
        let http = |statuses: &[u16]| Question::Http {
            method: Method::GET,
            path: "/".into(),
            host: None,
            statuses: statuses.to_vec(),
        };
        for (question, good, bad) in [
            (http(&[]), &[200, 204, 302, 399][..], &[199, 400, 404, 503][..]),
            (http(&[200, 503]), &[200, 503], &[204, 404]),
            (Question::Grpc { service: "".into() }, &[200], &[204, 503]),
        ] {
            assert!(good.iter().all(|status| question.is_good(*status)), "{question:?}");
            assert!(bad.iter().all(|status| !question.is_good(*status)), "{question:?}");
        }
    }
}
