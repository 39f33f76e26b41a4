//! A client's connection from the first byte to the last: detected, then HTTP or passed on unchanged.

mod first;
mod http1;
mod http2;
mod tls;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use http::HeaderValue;
use tokio::net::TcpStream;
use weir_core::authorization::Principal;
use weir_core::filter::Scheme;
use weir_core::name::{OriginalDst, PeerAddr};
use weir_core::snapshot;
use weir_identity::Application;
use weir_telemetry::{Cause, WorkerEvent};

use self::first::First;
use crate::account::{Account, Connected};
use crate::detect::Protocol;
use crate::headers::Client;
use crate::linger;
use crate::listener::Origin;
use crate::opaque;
use crate::plan::{Entrance, Meant};
use crate::reply;
use crate::stream::{self, Stream};
use crate::tunnel::inbound::Ends;
use crate::tunnel::{self, Caller};
use crate::upstream::Lease;
use crate::watch::{Phase, Reached, Verdict, Watched};
use crate::worker::Worker;

/// What the requests of a client's connection share.
pub(crate) struct Downstream {
    pub(crate) worker: Rc<Worker>,
    pub(crate) peer: PeerAddr,
    /// Who it is by its certificate, where it has come by a tunnel.
    pub(crate) proven: Option<Rc<Principal>>,
    /// What endpoints are told of the peer.
    pub(crate) client: Client,
    pub(crate) meant: Meant,
    /// Whose connection it is.
    pub(crate) account: Rc<Account>,
    pub(crate) watched: Rc<Watched>,
    /// A response was cut off: the client must not take the end of the connection for the end of the response.
    pub(crate) aborted: Cell<bool>,
    upgrade: RefCell<Option<Upgrade>>,
}

/// An endpoint that has agreed to change the protocol.
pub(crate) struct Upgrade {
    pub(crate) lease: Lease,
}

impl Downstream {
    /// Who sends what comes by it.
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller { peer: self.peer, proven: self.proven.as_deref() }
    }

    /// That it leads there.
    pub(crate) fn reached(&self, endpoint: SocketAddr, is_opaque: bool) -> Reached {
        Reached { peer: self.peer, proven: self.proven.clone(), endpoint, is_opaque }
    }

    /// Whether the connection changes its protocol now.
    pub(crate) fn has_upgrade(&self) -> bool {
        self.upgrade.borrow().is_some()
    }

    /// The connection changes its protocol as soon as the response is sent.
    pub(crate) fn set_upgrade(&self, upgrade: Upgrade) {
        *self.upgrade.borrow_mut() = Some(upgrade);
    }
}

/// Serves a connection that was just accepted.
pub(crate) async fn serve(admission: Admission, stream: TcpStream, peer: SocketAddr, origin: Rc<Origin>) {
    let (worker, watched) = (Rc::clone(&admission.worker), Rc::clone(&admission.watched));
    if let Some(own) = leads_to_workload(&worker, &stream, &origin) {
        // Boxed: most connections are none.
        return Box::pin(tunnel::inbound::serve(&admission, stream, Ends { peer, own })).await;
    }
    match meant(&worker, &stream, &origin) {
        Ok((mut meant, protocol)) => {
            let mut stream = Stream::Plain(stream);
            let mut application = None;
            if let Meant::Gateway(at) = &mut meant
                && worker.snapshot().gateway_port(&at.bind).is_some_and(|port| port.is_tls)
            {
                // Boxed: most connections are in the clear.
                let Some(secured) = Box::pin(tls::secure(&worker, &watched, stream, at.bind)).await else { return };
                at.tls = Some(secured.tls);
                (stream, application) = (secured.stream, secured.application);
            }
            let downstream = Rc::new(Downstream {
                client: Client {
                    address: address_value(peer),
                    is_outside: meant.is_outside(),
                    scheme: if meant.is_tls() { Scheme::Https } else { Scheme::Http },
                },
                worker,
                peer: PeerAddr(peer),
                proven: None,
                meant,
                account: Rc::clone(admission.account()),
                watched,
                aborted: Cell::new(false),
                upgrade: RefCell::new(None),
            });
            converse(&downstream, stream, protocol, application).await;
        }
        Err(refusal) => {
            worker.shard.on(refusal);
            stream::reset(&stream);
        }
    }
}

/// A connection that has come by a tunnel.
pub(crate) struct InTunnel {
    /// Where it comes from.
    pub(crate) peer: PeerAddr,
    /// Who it is.
    pub(crate) proven: Rc<Principal>,
    /// Where it leads: to a workload of this node.
    pub(crate) address: SocketAddr,
}

/// Serves a connection that has come by a tunnel. What is none of HTTP is connected to first; then, or if not, it is accepted.
pub(crate) async fn serve_in_tunnel(
    admission: Admission,
    arrived: InTunnel,
    accept: impl FnOnce(bool) -> Option<Stream>,
) {
    let (worker, watched) = (Rc::clone(&admission.worker), Rc::clone(&admission.watched));
    let InTunnel { peer, proven, address } = arrived;
    let itself = || (Meant::Workload(address), snapshot::Protocol::Opaque);
    let known = Meant::Address(OriginalDst(address));
    let protocol = known.protocol(&worker.snapshot());
    let (meant, protocol) = protocol.map_or_else(itself, |protocol| (known, protocol));
    let client = Client { address: address_value(peer.0), is_outside: false, scheme: Scheme::Http };
    let downstream = Rc::new(Downstream {
        worker,
        peer,
        proven: Some(proven),
        client,
        meant,
        account: Rc::clone(admission.account()),
        watched,
        aborted: Cell::new(false),
        upgrade: RefCell::new(None),
    });
    if protocol.may_be_http() {
        let Some(stream) = accept(true) else { return };
        return converse(&downstream, stream, protocol, None).await;
    }
    downstream.watched.enter(Phase::Opaque);
    let opened = downstream.watched.guard(pin!(opaque::open(&downstream))).await;
    let Ok(Some(opened)) = opened else { return drop(accept(false)) };
    let Some(stream) = accept(true) else { return };
    Box::pin(opaque::pass(&downstream, stream, Bytes::new(), Some(opened))).await;
}

/// The address at which a workload of this node accepts tunnels, if that is where a connection was made to.
fn leads_to_workload(worker: &Worker, stream: &TcpStream, origin: &Origin) -> Option<SocketAddr> {
    worker.settings.identity.as_ref().filter(|_| *origin == Origin::Transparent)?;
    let own = stream.local_addr().ok()?;
    tunnel::inbound::leads_to(worker, &worker.snapshot(), own).map(|_| own)
}

/// A connection's place among those of its worker, from the moment it is accepted: a worker that drains must not end
/// between accepting a connection and serving it.
pub(crate) struct Admission {
    worker: Rc<Worker>,
    watched: Rc<Watched>,
    connected: Connected,
    key: usize,
}

impl Admission {
    /// A place for a connection that may be.
    pub(crate) fn new(worker: &Rc<Worker>, connected: Connected, origin: &Rc<Origin>) -> Self {
        worker.shard.on(WorkerEvent::Accepted);
        let watched = Watched::of_connection(Rc::clone(&worker.clock), Rc::clone(origin));
        let key = worker.connections.add(Rc::clone(&watched));
        Self { worker: Rc::clone(worker), watched, connected, key }
    }

    /// Whose it is.
    pub(crate) fn account(&self) -> &Rc<Account> {
        self.connected.account()
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    pub(crate) fn watched(&self) -> &Rc<Watched> {
        &self.watched
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.worker.connections.remove(self.key);
        self.worker.shard.on(WorkerEvent::Closed);
        self.worker.ended.notify_one();
    }
}

fn address_value(peer: SocketAddr) -> HeaderValue {
    HeaderValue::try_from(peer.ip().to_canonical().to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Which frontend the client meant, and what that speaks.
fn meant(worker: &Worker, stream: &TcpStream, origin: &Origin) -> Result<(Meant, snapshot::Protocol), WorkerEvent> {
    let meant = match origin {
        Origin::Service(name) => Meant::Service(name.clone()),
        Origin::Gateway(bind) => Meant::Gateway(Entrance { bind: *bind, tls: None }),
        Origin::Transparent => {
            // The client may be gone already; then there is no telling what it meant.
            let address = stream.local_addr().map_err(|_| WorkerEvent::RefusedUnknown)?;
            if worker.own.contains(address) {
                return Err(WorkerEvent::RefusedOwn);
            }
            Meant::Address(OriginalDst(address))
        }
    };
    let snapshot = worker.snapshot();
    let protocol = meant.protocol(&snapshot);
    if let (Meant::Address(OriginalDst(address)), None, Some(own)) = (&meant, protocol, &worker.settings.identity)
        && snapshot
            .workload(address.ip().to_canonical())
            .is_some_and(|one| one.is_tunnelled_from(&own.node, address.port()))
    {
        // A workload of another node, to which nothing goes but in a tunnel.
        return Ok((Meant::Workload(*address), snapshot::Protocol::Opaque));
    }
    protocol.map(|protocol| (meant, protocol)).ok_or(WorkerEvent::RefusedUnknown)
}

async fn converse(
    downstream: &Rc<Downstream>,
    mut stream: Stream,
    protocol: snapshot::Protocol,
    agreed: Option<Application>,
) {
    let first = match agreed {
        Some(Application::Http1) => Ok(Some(Protocol::Http1.into())),
        Some(Application::Http2) => Ok(Some(Protocol::Http2.into())),
        None => downstream.watched.guard(pin!(first::words(downstream, &mut stream, protocol))).await,
    };
    match first {
        // Each boxed: otherwise a connection that has said nothing yet would have room for the largest of them.
        Ok(Some(First { protocol: Protocol::Http1, seen, .. })) => {
            Box::pin(http1::serve(downstream, stream, seen)).await;
        }
        Ok(Some(First { protocol: Protocol::Http2, seen, .. })) => {
            Box::pin(http2::serve(downstream, stream, seen)).await;
        }
        Ok(Some(First { protocol: Protocol::Other, seen, opened })) => match protocol {
            snapshot::Protocol::Http | snapshot::Protocol::Http2 => {
                Box::pin(refuse(&downstream.worker, stream, Cause::Garbage)).await;
            }
            _ => Box::pin(opaque::pass(downstream, stream, seen, opened)).await,
        },
        Ok(None) => {}
        Err(Verdict::HeadTimeout) => downstream.worker.shard.on_unrouted(Cause::HeaderTimeout),
        Err(verdict) => downstream.worker.shard.on(verdict.event()),
    }
}

/// At most so much of what was read to see what protocol this is.
fn take_seen(seen: &mut Bytes, most: usize) -> Bytes {
    let taken = seen.split_to(seen.len().min(most));
    if seen.is_empty() {
        // The buffer is shared with the whole first read; let it go.
        *seen = Bytes::new();
    }
    taken
}

/// Answers something that is not a request, and closes.
async fn refuse(worker: &Worker, stream: Stream, cause: Cause) {
    worker.shard.on_unrouted(cause);
    linger::close(stream, reply::raw(cause).as_bytes()).await;
}
