//! Filters: what a rule, or one of its destinations, changes about the messages that pass, and what it answers itself.
//!
//! The meaning is that of the filters of the Gateway API's `HTTPRoute`. Everything is a function of the head of a
//! message; where it is applied, and in which order, is the proxy's business (`weir-proxy`, `filters.rs`).

mod cors;
mod direct;
mod fault;
mod headers;
mod limit;
mod path;
mod redirect;

use std::sync::Arc;

use http::HeaderValue;

pub use cors::{AllowList, Cors, OriginPattern, Preflight};
pub use direct::DirectResponse;
pub use fault::{Abort, Fault};
pub use headers::HeaderChanges;
pub use limit::RateLimit;
pub use path::PathChange;
pub use redirect::{Asked, Redirect, Scheme};

/// What is sent to an endpoint instead of what arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The value of `Host`.
    pub host: Option<HeaderValue>,
    /// The path; the query stays.
    pub path: Option<PathChange>,
}

/// The filters of a rule or of a destination.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Bounds how many requests there may be.
    pub limit: Option<RateLimit>,
    /// Makes requests fail or wait.
    pub fault: Option<Fault>,
    /// Sends clients elsewhere.
    pub redirect: Option<Redirect>,
    /// Answers instead of an endpoint.
    pub direct: Option<DirectResponse>,
    /// Answers what browsers ask before a request to another origin, and tells them what they may read.
    pub cors: Option<Cors>,
    /// Changes headers of requests.
    pub request: HeaderChanges,
    /// Changes headers of responses.
    pub response: HeaderChanges,
    /// Changes host and path of requests.
    pub rewrite: Rewrite,
}

impl Filters {
    /// Nothing where there is nothing to do: most rules have no filters, and shall not have room for them.
    pub fn shared(self) -> Option<Arc<Self>> {
        (!self.is_empty()).then(|| Arc::new(self))
    }

    fn is_empty(&self) -> bool {
        self.limit.is_none()
            && self.fault.is_none()
            && self.redirect.is_none()
            && self.direct.is_none()
            && self.cors.is_none()
            && self.request.is_empty()
            && self.response.is_empty()
            && self.rewrite == Rewrite::default()
    }

    /// What it does, a sentence for each filter, for people.
    pub fn describe(&self) -> Vec<String> {
        let mut told = Vec::new();
        told.extend(self.limit.as_ref().map(|limit| format!("limit: {limit}")));
        told.extend(self.fault.as_ref().map(|fault| format!("fault: {fault}")));
        told.extend(self.direct.as_ref().map(|direct| format!("answer: {direct}")));
        told.extend(self.redirect.as_ref().map(|redirect| format!("redirect: {redirect}")));
        told.extend(self.cors.as_ref().map(|cors| format!("CORS: {cors}")));
        if !self.request.is_empty() {
            told.push(format!("request headers: {}", self.request));
        }
        if !self.response.is_empty() {
            told.push(format!("response headers: {}", self.response));
        }
        if let Some(host) = &self.rewrite.host {
            told.push(format!("host becomes {}", String::from_utf8_lossy(host.as_bytes())));
        }
        told.extend(self.rewrite.path.as_ref().map(|path| format!("path: {path}")));
        told
    }
}
