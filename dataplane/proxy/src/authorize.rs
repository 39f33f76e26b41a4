//! Who may reach an endpoint: asked when something is sent there, of the configuration of that moment, so that what is no longer
//! allowed ends at once.

use std::net::SocketAddr;

use http::{Method, request};
use weir_core::authorization::{Connection, Said, Verdict};
use weir_core::name::PeerAddr;
use weir_core::route::{Request, Source};
use weir_core::snapshot::Snapshot;
use weir_telemetry::Cause;

use crate::downstream::Downstream;
use crate::watch::Reached;
use crate::worker::Worker;

/// Whether a request may go to an endpoint as it would arrive there.
pub(crate) fn request(downstream: &Downstream, endpoint: SocketAddr, head: &request::Parts) -> Result<(), Cause> {
    let Downstream { worker, peer, .. } = downstream;
    head_from(worker, *peer, endpoint, head)
}

/// The same, of whoever sends it.
pub(crate) fn head_from(
    worker: &Worker,
    peer: PeerAddr,
    endpoint: SocketAddr,
    head: &request::Parts,
) -> Result<(), Cause> {
    let snapshot = worker.snapshot();
    if !snapshot.has_guards() {
        return Ok(());
    }
    let address = peer.0.ip().to_canonical();
    let request = Request {
        method: &head.method,
        path: if head.method == Method::CONNECT { "/" } else { head.uri.path() },
        query: head.uri.query(),
        headers: &head.headers,
        source: Source { address, workload: snapshot.workload(address).map(|workload| &**workload) },
        attributes: &[],
    };
    decide(&snapshot, peer, endpoint, Said::Request(&request))
}

/// Whether a connection that is no HTTP may go to an endpoint.
pub(crate) fn connection(worker: &Worker, peer: PeerAddr, endpoint: SocketAddr) -> Result<(), Cause> {
    let snapshot = worker.snapshot();
    if snapshot.has_guards() { decide(&snapshot, peer, endpoint, Said::Opaque) } else { Ok(()) }
}

/// Whether what has reached an endpoint may go on. Of requests it is asked what no further request could change.
pub(crate) fn may_go_on(snapshot: &Snapshot, reached: Reached) -> bool {
    let Some(guard) = snapshot.guard(reached.endpoint.ip()) else { return true };
    let connection = between(snapshot, reached.peer, reached.endpoint);
    let said = if reached.is_opaque { Said::Opaque } else { Said::Nothing };
    guard.decide(&connection, said).verdict != Verdict::Deny
}

fn decide(snapshot: &Snapshot, peer: PeerAddr, endpoint: SocketAddr, said: Said<'_>) -> Result<(), Cause> {
    let Some(guard) = snapshot.guard(endpoint.ip()) else { return Ok(()) };
    let decision = guard.decide(&between(snapshot, peer, endpoint), said);
    match (decision.verdict, decision.ruling) {
        (Verdict::Allow, _) | (Verdict::Audit, None) => Ok(()),
        (Verdict::Audit, Some(ruling)) => {
            ruling.tally.audited();
            Ok(())
        }
        (Verdict::Deny | Verdict::Ask, ruling) => {
            ruling.inspect(|ruling| ruling.tally.denied());
            Err(Cause::Denied)
        }
    }
}

fn between(snapshot: &Snapshot, peer: PeerAddr, endpoint: SocketAddr) -> Connection<'_> {
    let address = peer.0.ip().to_canonical();
    Connection::new(address, snapshot.workload(address).map(|workload| &**workload), endpoint.port())
}
