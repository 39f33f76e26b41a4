//! What keeps the proxy from starting or makes it end.

use std::io;
use std::net::SocketAddr;

use crate::settings::OutOfRange;

/// The proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A setting is outside its range.
    #[error("a setting of the proxy is out of range: {0}")]
    Settings(#[from] OutOfRange),
    /// The access log could not be opened.
    #[error(transparent)]
    AccessLog(#[from] weir_telemetry::access::OpenError),
    /// A listener could not be made.
    #[error(
        "cannot listen on {address} ({step}): {source}; check that the address is this host's, that nothing else \
             listens there, and that marks and transparency are permitted (CAP_NET_ADMIN)"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The step that failed.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// The proxy ended otherwise than by draining.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A worker could not be started.
    #[error("cannot start worker {worker}: {source}; check the limits on threads and file descriptors")]
    Start {
        /// Which, from 0.
        worker: usize,
        /// Why.
        source: io::Error,
    },
    /// A worker ended in a panic.
    #[error("worker {worker} ended in a panic: this is an error in Weir")]
    Panicked {
        /// Which, from 0.
        worker: usize,
    },
}
