//! Connections to endpoints: made, kept, used again.

mod connection;
mod gate;
mod pool;
mod socket;

pub(crate) use connection::SendError;
pub(crate) use pool::{Endpoint, Lease, Pools};
pub(crate) use socket::{SocketOptions, tune};

use weir_telemetry::Cause;

/// Why there is no connection to an endpoint.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// Too many requests to it are under way or waiting.
    Overflow,
    /// It is an address of this proxy.
    Loop,
    /// It did not accept in time.
    Timeout,
    /// No file descriptors or ports are left.
    OutOfSockets,
    /// It refused, or cannot be reached.
    Failed,
}

impl ConnectError {
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Overflow => Cause::Overflow,
            Self::Loop => Cause::Loop,
            Self::Timeout => Cause::ConnectTimeout,
            Self::OutOfSockets => Cause::OutOfSockets,
            Self::Failed => Cause::ConnectFailed,
        }
    }
}
