//! Who may reach an endpoint: asked when something is sent there, of the configuration of that moment, so that what is no longer
//! allowed ends at once.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, request};
use weir_core::authorization::{Connection, Ruling, Said, Verdict};
use weir_core::route::{Request, Source};
use weir_core::snapshot::Snapshot;
use weir_telemetry::Cause;

use crate::downstream::Downstream;
use crate::tunnel::Caller;
use crate::watch::Reached;
use crate::worker::Worker;

/// Characters of a path that are told.
const SHOWN_PATH: usize = 128;

/// Something that a policy kept from an endpoint, or has told of.
#[derive(Clone, Debug)]
pub struct Denial {
    /// The client.
    pub source: SocketAddr,
    /// The endpoint.
    pub destination: SocketAddr,
    /// What says so.
    pub rule: Option<Arc<Ruling>>,
    /// Whether it was kept out; else it was told of.
    pub is_denied: bool,
    /// Method and path of a request.
    pub request: Option<Box<str>>,
}

/// Whether a request may go to an endpoint as it would arrive there.
pub(crate) fn request(downstream: &Downstream, endpoint: SocketAddr, head: &request::Parts) -> Result<(), Cause> {
    head_from(&downstream.worker, downstream.caller(), endpoint, head)
}

/// The same, of whoever sends it.
pub(crate) fn head_from(
    worker: &Worker,
    caller: Caller<'_>,
    endpoint: SocketAddr,
    head: &request::Parts,
) -> Result<(), Cause> {
    let snapshot = worker.snapshot();
    if !snapshot.has_guards() {
        return Ok(());
    }
    let address = caller.peer.0.ip().to_canonical();
    let request = Request {
        method: &head.method,
        path: if head.method == Method::CONNECT { "/" } else { head.uri.path() },
        query: head.uri.query(),
        headers: &head.headers,
        source: Source { address, workload: snapshot.workload(address).map(|workload| &**workload) },
        attributes: &[],
    };
    decide(worker, &snapshot, caller, endpoint, Said::Request(&request))
}

/// Whether a connection that is no HTTP may go to an endpoint.
pub(crate) fn connection(worker: &Worker, caller: Caller<'_>, endpoint: SocketAddr) -> Result<(), Cause> {
    let snapshot = worker.snapshot();
    if snapshot.has_guards() { decide(worker, &snapshot, caller, endpoint, Said::Opaque) } else { Ok(()) }
}

/// Whether a connection may go to an endpoint, as far as that can be told before anything is said on it.
pub(crate) fn beginning(worker: &Worker, caller: Caller<'_>, endpoint: SocketAddr) -> Result<(), Cause> {
    let snapshot = worker.snapshot();
    let Some(guard) = snapshot.guard(endpoint.ip()) else { return Ok(()) };
    match guard.decide(&between(&snapshot, caller, endpoint), Said::Nothing).verdict {
        // Asked again, with what there is to tell of it then.
        Verdict::Allow | Verdict::Ask | Verdict::Audit => Ok(()),
        Verdict::Deny => decide(worker, &snapshot, caller, endpoint, Said::Nothing),
    }
}

/// Whether what has reached an endpoint may go on. Of requests it is asked what no further request could change.
pub(crate) fn may_go_on(snapshot: &Snapshot, reached: &Reached) -> bool {
    let Some(guard) = snapshot.guard(reached.endpoint.ip()) else { return true };
    let caller = Caller { peer: reached.peer, proven: reached.proven.as_deref() };
    let connection = between(snapshot, caller, reached.endpoint);
    let said = if reached.is_opaque { Said::Opaque } else { Said::Nothing };
    guard.decide(&connection, said).verdict != Verdict::Deny
}

fn decide(
    worker: &Worker,
    snapshot: &Snapshot,
    caller: Caller<'_>,
    endpoint: SocketAddr,
    said: Said<'_>,
) -> Result<(), Cause> {
    let Some(guard) = snapshot.guard(endpoint.ip()) else { return Ok(()) };
    let decision = guard.decide(&between(snapshot, caller, endpoint), said);
    let is_denied = match (decision.verdict, decision.ruling) {
        (Verdict::Allow, _) | (Verdict::Audit, None) => return Ok(()),
        (Verdict::Audit, Some(ruling)) => {
            ruling.tally.audited();
            false
        }
        (Verdict::Deny | Verdict::Ask, ruling) => {
            ruling.inspect(|ruling| ruling.tally.denied());
            true
        }
    };
    let request = match said {
        Said::Request(request) => Some(shown(request)),
        Said::Nothing | Said::Opaque => None,
    };
    let rule = decision.ruling.map(Arc::clone);
    // Who does not keep up with it misses some; they are counted all the same.
    let _ = worker.denials.try_send(Denial { source: caller.peer.0, destination: endpoint, rule, is_denied, request });
    if is_denied { Err(Cause::Denied) } else { Ok(()) }
}

/// Method and path, of which the beginning is enough.
fn shown(request: &Request<'_>) -> Box<str> {
    let path: String = request.path.chars().take(SHOWN_PATH).collect();
    format!("{} {path}", request.method).into()
}

fn between<'a>(snapshot: &'a Snapshot, caller: Caller<'a>, endpoint: SocketAddr) -> Connection<'a> {
    let address = caller.peer.0.ip().to_canonical();
    match caller.proven {
        Some(principal) => Connection::proven(address, principal, endpoint.port()),
        None => Connection::new(address, snapshot.workload(address).map(|workload| &**workload), endpoint.port()),
    }
}
