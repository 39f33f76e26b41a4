//! Connections to endpoints: made, kept, used again.

mod breaker;
mod endpoint;
mod gate;
mod http1;
mod http2;
mod lease;
mod members;
mod pool;

use std::rc::Rc;
use std::sync::Arc;

use http::Request;
use weir_core::name::PeerAddr;
use weir_telemetry::{Cause, Shard, WorkerEvent};

use crate::account::Account;
use crate::body::RequestBody;
use crate::tunnel::Way;

pub(crate) use breaker::{Breakers, Counted, Permit};
pub(crate) use endpoint::Endpoint;
pub(crate) use lease::{Lease, RawLease};
pub(crate) use members::Members;
pub(crate) use pool::{Picked, Pools};

/// Who sends a request, and how it goes to the endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'a> {
    /// Who pays.
    pub(crate) account: &'a Rc<Account>,
    pub(crate) way: &'a Way,
    /// The client that it is for.
    pub(crate) client: PeerAddr,
}

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
    /// There is no certificate to show.
    NoIdentity,
    /// Its node says that a policy denies it.
    Denied,
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
            Self::NoIdentity => Cause::NoIdentity,
            Self::Denied => Cause::Denied,
            Self::Failed => Cause::ConnectFailed,
        }
    }
}

/// A request that is to be sent: there until it is, and again if it was not after all. It is lent from one to the next:
/// a request is large, and each future that it were moved into would have room for it.
pub(crate) type Parcel = Option<Request<RequestBody>>;

/// A request got no response.
pub(crate) struct SendError {
    /// What the client is told.
    pub(crate) cause: Cause,
    /// What the endpoint has seen of the request.
    pub(crate) seen: Seen,
}

impl SendError {
    /// Of a request that is sent a second time by mistake: what came of it the first time, nobody knows here.
    const SENT: Self = Self { cause: Cause::UpstreamClosed, seen: Seen::Perhaps };
}

/// What an endpoint has seen of a request that it did not answer.
pub(crate) enum Seen {
    /// Nothing: it was not sent, and is there again.
    Unsent,
    /// Nothing: it has refused it, or the connection had ended before.
    Refused,
    /// Nothing, very likely: the connection was closed before any byte of a response, as servers close idle ones.
    ClosedEarly,
    /// Perhaps all of it.
    Perhaps,
}

/// A response's body ended before its time.
#[derive(Debug)]
pub(crate) struct Cut;

/// Counts an open connection to an endpoint for as long as it lives.
pub(crate) struct Open(Arc<Shard>);

impl Open {
    fn new(shard: &Arc<Shard>) -> Self {
        shard.on(WorkerEvent::UpstreamConnected);
        Self(Arc::clone(shard))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.on(WorkerEvent::UpstreamClosed);
    }
}
