//! The access log: a line for each request, or for a share of those that went well.
//!
//! A worker writes lines into a buffer of its own and hands it over when it is full, or when its clock ticks; a thread
//! writes what is handed over. Nobody waits for a file: lines that find no room are lost, and counted.

mod field;
mod file;
mod format;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weir_core::name::ClusterName;

pub use field::{Field, UnknownField};
pub use file::{AccessLog, Destination, OpenError, Sink};
pub use format::{Format, TemplateError};

use crate::call::CallStatus;
use crate::cause::Cause;

/// A request that has ended, as the access log tells of it.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// When its head was there.
    pub began: SystemTime,
    /// Place of the revision that decided about it in the version log.
    pub revision: Option<u64>,
    /// Namespace and name of the pod that it came from, if the mesh knows it.
    pub source: Option<(&'a str, &'a str)>,
    /// Where it came from.
    pub client: SocketAddr,
    /// As the client sent it.
    pub method: &'a str,
    /// As the client sent it.
    pub host: Option<&'a str>,
    /// As the client sent it, without the query: that is where secrets are.
    pub path: &'a str,
    /// The version of HTTP that the client speaks.
    pub protocol: &'static str,
    /// The service that the client asked for.
    pub service: Option<&'a ClusterName>,
    /// The rule that matched.
    pub rule: Option<String>,
    /// Where the last try went.
    pub destination: Option<&'a ClusterName>,
    /// The version label of the pod that the last try went to.
    pub version: Option<&'a str>,
    /// The address of that pod.
    pub endpoint: Option<SocketAddr>,
    /// Where copies went.
    pub mirrors: Vec<&'a ClusterName>,
    /// The plugins that saw it, and how long each took.
    pub plugins: &'a [(Arc<str>, Duration)],
    /// What the client got; `None` when it got nothing, or not all of it.
    pub status: Option<u16>,
    /// Of a call of gRPC.
    pub call: Option<CallStatus>,
    /// Why the proxy answered itself, or cut off.
    pub cause: Option<Cause>,
    /// Tries after the first.
    pub retries: u32,
    /// From the head of the request to the end of the response.
    pub duration: Duration,
    /// From the head of the request to that of the endpoint's response.
    pub response_time: Option<Duration>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// `x-request-id`.
    pub request_id: Option<&'a str>,
    /// The trace that it is part of.
    pub trace_id: Option<&'a str>,
    /// What the client says it is.
    pub user_agent: Option<&'a str>,
}

/// Whether a request that ended so is written whatever the sample: it failed, or the proxy answered for others.
pub fn is_notable(status: Option<u16>, call: Option<CallStatus>, cause: Option<Cause>) -> bool {
    cause.is_some() || status.is_none_or(|status| status >= 500) || call.is_some_and(CallStatus::is_failure)
}

#[cfg(test)]
mod tests;
