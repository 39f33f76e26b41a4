//! Tunnels between nodes: HBONE ([`weir_core::hbone`]), whose ends show the certificates of the workloads that talk.

pub(crate) mod inbound;
mod outbound;
mod ping;
mod stream;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use weir_core::authorization::Principal;
use weir_core::name::PeerAddr;
use weir_core::snapshot::Snapshot;
use weir_core::workload::Enrolment;

pub(crate) use inbound::Inbound;
pub(crate) use outbound::{Place, Tunnels, Via};
pub(crate) use stream::{TunnelRead, TunnelStream, TunnelWrite};

use crate::settings::OwnIdentity;
use crate::worker::Worker;

/// What one connection in a tunnel may send before it is read.
const WINDOW: u32 = 1 << 20;
/// The same of all connections of a tunnel together: more, so that one that is not read does not keep up the others.
const TUNNEL_WINDOW: u32 = 4 << 20;
/// Bytes of a frame. Larger ones cost less; what is larger than a record of TLS gains nothing.
const MAX_FRAME_BYTES: u32 = 64 * 1_024;

/// How often it is looked for a certificate that is not there yet, or has just expired, and how many times: one that can be had at
/// all is there within a second.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 40;

/// Waits a moment for what may not be there yet.
async fn awaited<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return Some(found);
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}

/// How an endpoint is connected to: as it is, or in a tunnel.
pub(crate) type Way = Option<Rc<Via>>;

/// Who sends something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) peer: PeerAddr,
    /// Who it is by its certificate, where it has come by a tunnel.
    pub(crate) proven: Option<&'a Principal>,
}

/// How a client's connections to an endpoint go.
pub(crate) fn way(own: Option<&OwnIdentity>, snapshot: &Snapshot, caller: Caller<'_>, endpoint: SocketAddr) -> Way {
    let own = own?;
    let destination = snapshot.workload(endpoint.ip().to_canonical())?;
    if !destination.is_tunnelled_from(&own.node, endpoint.port()) {
        return None;
    }
    let source = || {
        let workload = snapshot.workload(caller.peer.0.ip().to_canonical())?;
        let is_own = workload.node.as_deref().is_none_or(|node| node == &*own.node);
        // For others nobody here can speak.
        let is_known = workload.enrolment == Enrolment::Enrolled && is_own && caller.proven.is_none();
        is_known.then(|| workload.principal.clone())
    };
    let source = source().unwrap_or_else(|| own.principal.clone());
    Some(Rc::new(Via { source, destination: destination.principal.clone(), node: destination.node.clone() }))
}

impl Worker {
    /// How a client's connections to an endpoint go.
    pub(crate) fn way(&self, caller: Caller<'_>, endpoint: SocketAddr) -> Way {
        let own = self.settings.identity.as_ref()?;
        way(Some(own), &self.snapshot(), caller, endpoint)
    }
}
