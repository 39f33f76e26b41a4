//! Tunnels that other nodes make to workloads of this one.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use weir_core::authorization::Principal;
use weir_core::hbone::{self, Refusal};
use weir_core::name::PeerAddr;
use weir_core::snapshot::Snapshot;
use weir_core::workload::Workload;
use weir_identity::{Identities, Peer, Shown};
use weir_telemetry::WorkerEvent;

use super::ping::Pinger;
use super::stream::TunnelStream;
use super::{Caller, MAX_FRAME_BYTES, TUNNEL_WINDOW, WINDOW, awaited};
use crate::account::Metered;
use crate::authorize;
use crate::downstream::{self, Admission, InTunnel};
use crate::listener::Origin;
use crate::settings::SEND_BUFFER_BYTES;
use crate::stream::Stream;
use crate::watch::{Phase, Verdict, Watched};
use crate::worker::Worker;

/// Connections in a tunnel: what ztunnel offers, and more than it uses.
const STREAMS: u32 = 200;
/// Bytes of a request's head.
const HEAD_BYTES: u32 = 16 * 1_024;

/// The tunnels of a worker that others have made.
#[derive(Default)]
pub(crate) struct Inbound {
    open: RefCell<slab::Slab<(Shown, Rc<Watched>)>>,
    /// What they were looked through by.
    seen: RefCell<Option<Arc<Identities>>>,
}

impl Inbound {
    /// Closes those whose peers are not believed any more.
    pub(crate) fn check(&self, worker: &Worker) {
        let identities = worker.identities();
        let mut seen = self.seen.borrow_mut();
        if seen.as_ref().map(Arc::as_ptr) == identities.as_ref().map(Arc::as_ptr) {
            return;
        }
        seen.clone_from(&identities);
        let Some(identities) = identities else { return };
        for (_, (shown, watched)) in &*self.open.borrow() {
            if !shown.is_believed(identities.trust(), SystemTime::now()) {
                tracing::warn!(peer = %shown.peer.principal, "a tunnel is closed: its peer is not believed any more");
                worker.shard.on(WorkerEvent::TunnelDisbelieved);
                watched.condemn(Verdict::Denied);
            }
        }
    }
}

/// A tunnel's place among those of its worker.
struct Place<'a> {
    worker: &'a Worker,
    key: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.worker.inbound.open.borrow_mut().try_remove(self.key);
    }
}

/// The workload of this node to which a connection is a tunnel, if it is one.
pub(crate) fn leads_to<'s>(worker: &Worker, snapshot: &'s Snapshot, own: SocketAddr) -> Option<&'s Arc<Workload>> {
    let identity = worker.settings.identity.as_ref().filter(|_| own.port() == hbone::PORT)?;
    let workload = snapshot.workload(own.ip().to_canonical())?;
    workload.accepts_tunnels_on(&identity.node).then_some(workload)
}

/// Serves a tunnel to a workload of this node, from the handshake to its last connection.
pub(crate) async fn serve(admission: &Admission, stream: TcpStream, ends: Ends) {
    let (worker, watched) = (admission.worker(), admission.watched());
    let acceptor = || {
        let snapshot = worker.snapshot();
        let workload = leads_to(worker, &snapshot, ends.own)?;
        worker.identities()?.acceptor(&workload.principal).cloned()
    };
    let shaken = async {
        let acceptor = awaited(acceptor).await.ok_or(std::io::ErrorKind::NotConnected)?;
        acceptor.accept(stream).await
    };
    let shaken = watched.guard(pin!(shaken)).await;
    let (stream, shown) = match shaken {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => {
            tracing::debug!(peer = %ends.peer, own = %ends.own, %error, "a tunnel is refused");
            return worker.shard.on(WorkerEvent::TunnelRefused);
        }
        Err(Verdict::HeadTimeout) => return worker.shard.on(WorkerEvent::TunnelRefused),
        Err(verdict) => return worker.shard.on(verdict.event()),
    };
    let own = worker.settings.identity.as_ref().map(|own| &own.principal);
    if !may_speak(&worker.snapshot(), &shown.peer, own) {
        tracing::warn!(
            peer = %ends.peer,
            principal = %shown.peer.principal,
            node = shown.peer.node,
            "a tunnel is refused: its node speaks for what does not run there"
        );
        return worker.shard.on(WorkerEvent::TunnelRefused);
    }
    worker.shard.on(WorkerEvent::TunnelAccepted);
    let handshake = builder().handshake(stream);
    let Ok(Ok(connection)) = watched.guard(pin!(handshake)).await else { return };
    let key = worker.inbound.open.borrow_mut().insert((shown.clone(), Rc::clone(watched)));
    let _place = Place { worker, key };
    watched.enter(Phase::NoStreams);
    let tunnel = Rc::new(Tunnel { worker: Rc::clone(worker), watched: Rc::clone(watched), shown, ends });
    let mut conversation = Conversation { tunnel, pinger: None, connection, has_said_farewell: false };
    conversation.pinger = conversation.connection.ping_pong().map(Pinger::new);
    std::future::poll_fn(|context| conversation.poll(context)).await;
    if let Some(verdict) = watched.verdict() {
        worker.shard.on(verdict.event());
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_header_list_size(HEAD_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}

/// Whether the node that vouches for a peer runs it, or the peer is the node itself, which has the same name on all of them (`own`).
/// Of authorities that are no node's nothing can be told.
fn may_speak(snapshot: &Snapshot, peer: &Peer, own: Option<&Principal>) -> bool {
    let Some(node) = &peer.node else { return true };
    let is_there = |workload: &Arc<Workload>| {
        workload.principal == peer.principal && workload.node.as_deref().is_none_or(|own| own == &**node)
    };
    own == Some(&peer.principal) || snapshot.workloads().any(|(_, workload)| is_there(workload))
}

/// Both ends of the connection that a tunnel goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    /// The workload's address, with the port for tunnels.
    pub(crate) own: SocketAddr,
}

/// What the connections of a tunnel share.
struct Tunnel {
    worker: Rc<Worker>,
    watched: Rc<Watched>,
    shown: Shown,
    ends: Ends,
}

struct Conversation<S> {
    tunnel: Rc<Tunnel>,
    pinger: Option<Pinger>,
    connection: Connection<S, Bytes>,
    has_said_farewell: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    /// Reads, writes and begins connections until the tunnel has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let watched = &self.tunnel.watched;
        watched.set_waker(context.waker());
        match watched.verdict() {
            Some(Verdict::KeepAliveTimeout) => self.say_farewell(),
            Some(_) => {
                self.connection.abrupt_shutdown(Reason::NO_ERROR);
                // Once, for as much of the farewell as fits the socket's buffer.
                let _ = self.connection.poll_closed(context);
                return Poll::Ready(());
            }
            None if watched.is_ending() => self.say_farewell(),
            None => {}
        }
        loop {
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, reply)))) => self.begin(request, reply),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        match &mut self.pinger {
            // Its connections hear of it when it is dropped.
            Some(pinger) => pinger.poll(context).map(drop),
            None => Poll::Pending,
        }
    }

    fn say_farewell(&mut self) {
        if !std::mem::replace(&mut self.has_said_farewell, true) {
            self.connection.graceful_shutdown();
        }
    }

    fn begin(&self, request: Request<RecvStream>, reply: SendResponse<Bytes>) {
        let tunnel = Rc::clone(&self.tunnel);
        tunnel.watched.begin_stream();
        tokio::task::spawn_local(async move {
            let watched = Rc::clone(&tunnel.watched);
            tunnel.open(request, reply).await;
            watched.end_stream();
        });
    }
}

impl Tunnel {
    /// Opens a connection, or says why not, and serves it.
    async fn open(self: Rc<Self>, request: Request<RecvStream>, mut reply: SendResponse<Bytes>) {
        match self.admit(&request) {
            Err(refusal) => refuse(&mut reply, refusal),
            Ok((admission, source, address)) => {
                let account = Rc::clone(admission.account());
                let (proven, body) = (Rc::new(self.shown.peer.principal.clone()), request.into_body());
                let serving = async move {
                    let arrived = InTunnel { peer: PeerAddr(source), proven, address };
                    let accept = move |is_reached: bool| {
                        if !is_reached {
                            refuse(&mut reply, Refusal::Unreachable);
                            return None;
                        }
                        let send = reply.send_response(Response::new(()), false).ok()?;
                        Some(Stream::Tunnel(Box::new(TunnelStream::new(send, body, None))))
                    };
                    downstream::serve_in_tunnel(admission, arrived, accept).await;
                };
                Metered::new(&account, serving).await;
            }
        }
    }

    /// A place for a connection that may be; where it comes from, and where it leads.
    fn admit(&self, request: &Request<RecvStream>) -> Result<(Admission, SocketAddr, SocketAddr), Refusal> {
        let own = self.ends.own.ip().to_canonical();
        let port = hbone::target(request.method(), request.uri(), own)?;
        let (worker, address) = (&self.worker, SocketAddr::new(own, port));
        let snapshot = worker.snapshot();
        let source = self.source(&snapshot, request);
        let caller = Caller { peer: PeerAddr(source), proven: Some(&self.shown.peer.principal) };
        authorize::beginning(worker, caller, address).map_err(|_| {
            worker.shard.on(WorkerEvent::OpaqueDenied);
            Refusal::Denied
        })?;
        let connected = worker.accounts.connect(&snapshot, PeerAddr(source)).map_err(|refusal| {
            worker.shard.on(refusal);
            Refusal::Unreachable
        })?;
        Ok((Admission::new(worker, connected, &Rc::new(Origin::Transparent)), source, address))
    }

    /// Where a connection comes from: what the peer says, as far as that is one of those for whom it speaks.
    fn source(&self, snapshot: &Snapshot, request: &Request<RecvStream>) -> SocketAddr {
        let Shown { peer, .. } = &self.shown;
        let is_its = |workload: &Arc<Workload>| {
            let is_there = |node: &str| peer.node.as_deref().is_none_or(|own| own == node);
            workload.principal == peer.principal && workload.node.as_deref().is_none_or(is_there)
        };
        let said = hbone::source(request.headers());
        let said = said.filter(|said| snapshot.workload(said.ip().to_canonical()).is_some_and(is_its));
        said.unwrap_or(self.ends.peer)
    }
}

fn refuse(reply: &mut SendResponse<Bytes>, refusal: Refusal) {
    let mut response = Response::new(());
    *response.status_mut() = refusal.status();
    debug_assert_ne!(refusal.status(), StatusCode::OK);
    // An error says that the peer has lost interest.
    let _ = reply.send_response(response, true);
}

#[cfg(test)]
mod tests {
    use weir_core::revision::{RevisionId, Sequence};

    use super::*;

    #[test]
    fn a_node_speaks_for_what_runs_there() {
        let workload = |name: &str, node: Option<&str>, ip: &str| {
            let own = Workload::new(&"shop".into(), &name.into(), name);
            let addresses = vec![ip.parse().unwrap()];
            Arc::new(Workload { node: node.map(Into::into), addresses, ..own })
        };
        let workloads = [
            workload("cart", Some("one"), "10.0.0.1"),
            workload("cart", Some("two"), "10.0.0.2"),
            workload("pay", Some("two"), "10.0.0.3"),
            workload("old", None, "10.0.0.4"),
        ];
        let snapshot = Snapshot::new(Sequence(1), RevisionId::of([]), Vec::new(), &workloads);
        let principal = |name: &str| Principal::new(weir_core::workload::TRUST_DOMAIN, &"shop".into(), name);
        for (name, node, expected) in [
            ("cart", Some("one"), true),
            ("cart", Some("two"), true),
            ("cart", Some("three"), false),
            ("pay", Some("one"), false),
            ("pay", Some("two"), true),
            ("old", Some("one"), true),
            ("nobody", Some("one"), false),
            ("weir", Some("three"), true),
            ("nobody", None, true),
        ] {
            let (principal_of, not_after) = (principal(name), SystemTime::now());
            let peer = Peer { principal: principal_of, node: node.map(Into::into), not_after };
            assert_eq!(may_speak(&snapshot, &peer, Some(&principal("weir"))), expected, "{name} by {node:?}");
        }
    }
}
