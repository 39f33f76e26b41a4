//! Faults: what a rule does to requests so that somebody can see what becomes of it.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::share::Share;

/// Faults of a rule. Each is decided by itself: a request may be delayed and then answered with a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// For how long requests wait, and which share of them.
    pub delay: Option<(Duration, Share)>,
    /// What requests are answered with, and which share of them.
    pub abort: Option<(Abort, Share)>,
}

/// How a request is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// With a status.
    Status(StatusCode),
    /// With a status of gRPC; what is no call of gRPC with 503.
    Call(u8),
}

impl Fault {
    /// How long a request with this random number waits.
    pub fn delay(&self, roll: u64) -> Option<Duration> {
        self.delay.filter(|(_, share)| share.contains(roll)).map(|(delay, _)| delay)
    }

    /// What a request with this random number is answered with.
    pub fn abort(&self, roll: u64) -> Option<Abort> {
        self.abort.filter(|(_, share)| share.contains(roll)).map(|(abort, _)| abort)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = Vec::new();
        if let Some((delay, share)) = self.delay {
            told.push(format!("{} % wait for {delay:?}", share.percent()));
        }
        match self.abort {
            None => {}
            Some((Abort::Status(status), share)) => {
                told.push(format!("{} % are answered with {}", share.percent(), status.as_u16()));
            }
            Some((Abort::Call(code), share)) => {
                told.push(format!("{} % are answered with gRPC status {code}", share.percent()));
            }
        }
        f.write_str(&told.join(", "))
    }
}
