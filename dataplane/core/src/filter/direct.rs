//! Answers that a rule gives itself.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;

/// An answer instead of an endpoint's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// From 200 to 599.
    pub status: StatusCode,
    /// What stands in it, as plain text.
    pub body: Arc<str>,
}

impl fmt::Display for DirectResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} bytes", self.status.as_u16(), self.body.len())
    }
}
