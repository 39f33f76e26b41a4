//! Sockets and HTTP: accept, detect, route, upstream, mirror, drain.
//!
//! A worker is one thread with one single-threaded runtime; its connections, pools and counters are its own, and the
//! only thing it reads that others write is the current snapshot. This crate decides nothing that can be decided
//! without a socket: which rule, which destination and which endpoint is `weir-core`'s business.

mod accept;
mod access;
mod account;
mod authorize;
mod body;
mod certificates;
mod detect;
mod downstream;
mod drain;
mod error;
mod exchange;
mod filters;
mod gateways;
mod grpc;
mod headers;
mod health;
mod linger;
mod listener;
mod mirror;
mod observe;
mod opaque;
mod plan;
mod plugins;
mod proxy;
mod random;
mod rate;
mod record;
mod relay;
mod reply;
mod retry;
mod session;
mod settings;
mod socket;
mod socket_io;
mod stream;
mod tunnel;
mod upstream;
mod watch;
mod worker;

pub use authorize::Denial;
pub use certificates::GatewayCertificate;
pub use drain::Drain;
pub use error::{BindError, RunError};
pub use gateways::{GatewayAddress, GatewayStatus};
pub use proxy::{Proxy, TransparentSockets};
pub use settings::{
    AccessLog, Downstream, Gateways, Http2, Locality, MirrorLimits, OutOfRange, OwnIdentity, RetryLimits,
    ServiceListener, Settings, Tracing, Transparent, Upstream,
};
