//! Tunnels that this node makes: for each pair of workloads, and the address of the one that is called, one or a few
//! connections of mutual TLS, shared by all connections of that pair.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use h2::Reason;
use h2::client::{Builder, SendRequest};
use http::header::FORWARDED;
use http::{HeaderValue, Method, Request, Uri};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use weir_core::authorization::Principal;
use weir_core::hbone::{self, Refusal};
use weir_core::name::PeerAddr;
use weir_identity::{Identities, Shown, TunnelConnector};
use weir_telemetry::{Shard, WorkerEvent};

use super::ping::{self, Pinger};
use super::stream::TunnelStream;
use super::{MAX_FRAME_BYTES, TUNNEL_WINDOW, WINDOW, awaited};
use crate::settings::SEND_BUFFER_BYTES;
use crate::socket::{SocketOptions, is_exhaustion};
use crate::upstream::ConnectError;
use crate::watch::Clock;

/// Streams of a tunnel: what ztunnel allows itself, and never more than the peer says.
const STREAMS: usize = 100;

/// In whose name a workload of another node is reached, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Via {
    /// Who calls.
    pub(crate) source: Principal,
    /// Who must answer.
    pub(crate) destination: Principal,
    /// On which node that runs: another's authority does not vouch for it.
    pub(crate) node: Option<Arc<str>>,
}

/// The tunnels of a worker.
pub(crate) struct Tunnels {
    identities: Option<Arc<ArcSwapOption<Identities>>>,
    options: SocketOptions,
    shard: Arc<Shard>,
    clock: Rc<Clock>,
    idle_ticks: u32,
    lines: RefCell<Lines>,
    /// What the tunnels that there are were looked through by.
    seen: RefCell<Option<Arc<Identities>>>,
}

type Lines = HashMap<(Rc<Via>, IpAddr), Rc<Line>, foldhash::fast::RandomState>;

/// All tunnels of a pair of workloads, at one address.
struct Line {
    connections: RefCell<Vec<Rc<Connection>>>,
    is_connecting: Cell<bool>,
    connected: Notify,
    /// Made of these identities; kept, so that a peer that is called again is known.
    connector: RefCell<Option<(Arc<Identities>, TunnelConnector)>>,
    last_used: Cell<u32>,
}

struct Connection {
    sender: RefCell<SendRequest<Bytes>>,
    shown: Shown,
    streams: Cell<usize>,
    idle_since: Cell<u32>,
    clock: Rc<Clock>,
    task: AbortHandle,
}

/// A place on a tunnel, free again when dropped.
pub(crate) struct Place(Rc<Connection>);

impl Place {
    /// Whether the tunnel takes no more connections, because its peer ends it: what is kept on it had better be given up.
    pub(crate) fn is_leaving(&self) -> bool {
        let mut sender = self.0.sender.borrow_mut();
        matches!(sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    fn new(connection: &Rc<Connection>) -> Rc<Self> {
        connection.streams.set(connection.streams.get() + 1);
        Rc::new(Self(Rc::clone(connection)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let connection = &self.0;
        connection.streams.set(connection.streams.get() - 1);
        connection.idle_since.set(connection.clock.now());
    }
}

impl Connection {
    fn has_room(&self) -> bool {
        let mut sender = self.sender.borrow_mut();
        self.streams.get() < STREAMS.min(sender.current_max_send_streams())
            && matches!(sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    }
}

/// The one who makes a tunnel for all who wait for one.
struct Connecting<'a>(&'a Line);

impl<'a> Connecting<'a> {
    fn new(line: &'a Line) -> Self {
        line.is_connecting.set(true);
        Self(line)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.is_connecting.set(false);
        self.0.connected.notify_waiters();
    }
}

impl Tunnels {
    pub(crate) fn new(
        identities: Option<Arc<ArcSwapOption<Identities>>>,
        options: SocketOptions,
        shard: Arc<Shard>,
        clock: Rc<Clock>,
        idle_ticks: u32,
    ) -> Self {
        let (lines, seen) = (RefCell::default(), RefCell::default());
        Self { identities, options, shard, clock, idle_ticks, lines, seen }
    }

    /// A connection to a workload of another node for a client.
    pub(crate) async fn open(
        &self,
        via: &Rc<Via>,
        address: SocketAddr,
        client: PeerAddr,
        deadline: Instant,
    ) -> Result<TunnelStream, ConnectError> {
        let opened = self.open_unbounded(via, address, client);
        tokio::time::timeout_at(deadline, opened).await.map_err(|_| ConnectError::Timeout)?
    }

    async fn open_unbounded(
        &self,
        via: &Rc<Via>,
        address: SocketAddr,
        client: PeerAddr,
    ) -> Result<TunnelStream, ConnectError> {
        let line = self.line(via, address.ip());
        let mut is_second = false;
        loop {
            let place = self.place(&line, via, address.ip()).await?;
            match ask(place, address, client).await {
                Ok(stream) => return Ok(stream),
                // Nobody has looked at it: another tunnel may take it (RFC 9113, section 8.7).
                Err(Asked::Unseen) if !is_second => is_second = true,
                Err(Asked::Unseen) => return Err(ConnectError::Failed),
                Err(Asked::Refused(Refusal::Denied)) => return Err(ConnectError::Denied),
                Err(Asked::Refused(_)) => return Err(ConnectError::Failed),
            }
        }
    }

    fn line(&self, via: &Rc<Via>, ip: IpAddr) -> Rc<Line> {
        let mut lines = self.lines.borrow_mut();
        let line = lines.entry((Rc::clone(via), ip)).or_insert_with(|| {
            Rc::new(Line {
                connections: RefCell::default(),
                is_connecting: Cell::new(false),
                connected: Notify::new(),
                connector: RefCell::default(),
                last_used: Cell::new(0),
            })
        });
        line.last_used.set(self.clock.now());
        Rc::clone(line)
    }

    /// A place on a tunnel. Of those that want one at the same time the first makes it.
    async fn place(&self, line: &Rc<Line>, via: &Via, ip: IpAddr) -> Result<Rc<Place>, ConnectError> {
        loop {
            if let Some(connection) = line.connections.borrow().iter().find(|one| one.has_room()) {
                return Ok(Place::new(connection));
            }
            if !line.is_connecting.get() {
                break;
            }
            line.connected.notified().await;
        }
        let _connecting = Connecting::new(line);
        let made = self.connect(line, via, ip).await;
        self.shard.on(if made.is_ok() { WorkerEvent::TunnelOpened } else { WorkerEvent::TunnelFailed });
        let connection = made?;
        let place = Place::new(&connection);
        line.connections.borrow_mut().push(connection);
        Ok(place)
    }

    async fn connect(&self, line: &Line, via: &Via, ip: IpAddr) -> Result<Rc<Connection>, ConnectError> {
        let connector = awaited(|| self.connector(line, via)).await.ok_or(ConnectError::NoIdentity)?;
        let stream: TcpStream = match self.options.connect(SocketAddr::new(ip, hbone::PORT)).await {
            Ok(stream) => stream,
            Err(error) if is_exhaustion(&error) => return Err(ConnectError::OutOfSockets),
            Err(_) => return Err(ConnectError::Failed),
        };
        let (stream, shown) = connector.connect(ip, stream).await.map_err(|error| {
            tracing::warn!(%ip, destination = %via.destination, source = %via.source, %error, "no tunnel");
            ConnectError::Failed
        })?;
        if let (Some(by), Some(node)) = (&shown.peer.node, &via.node)
            && **by != **node
        {
            tracing::warn!(%ip, destination = %via.destination, node = by, "no tunnel: the node speaks for what does not run there");
            return Err(ConnectError::Failed);
        }
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(TUNNEL_WINDOW)
            .max_frame_size(MAX_FRAME_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES);
        let (sender, mut connection) = builder.handshake(stream).await.map_err(|_| ConnectError::Failed)?;
        let pinger = connection.ping_pong().map(Pinger::new);
        // Whatever it ends with, its streams have heard of it.
        let task = tokio::task::spawn_local(async move {
            match pinger {
                Some(pinger) => drop(ping::with(connection, pinger).await),
                None => drop(connection.await),
            }
        });
        Ok(Rc::new(Connection {
            sender: RefCell::new(sender),
            shown,
            streams: Cell::new(0),
            idle_since: Cell::new(self.clock.now()),
            clock: Rc::clone(&self.clock),
            task: task.abort_handle(),
        }))
    }

    fn connector(&self, line: &Line, via: &Via) -> Option<TunnelConnector> {
        let identities = self.identities.as_ref()?.load_full()?;
        let mut known = line.connector.borrow_mut();
        if let Some((of, connector)) = &*known
            && Arc::ptr_eq(of, &identities)
        {
            return Some(connector.clone());
        }
        let connector = identities.connector(&via.source, &via.destination)?;
        *known = Some((identities, connector.clone()));
        Some(connector)
    }

    /// Closes tunnels that were unused for too long, or whose peers are not believed any more, and forgets those that have
    /// ended.
    pub(crate) fn sweep(&self) {
        let identities = self.identities.as_ref().and_then(|identities| identities.load_full());
        let is_new = {
            let mut seen = self.seen.borrow_mut();
            let is_new = seen.as_ref().map(Arc::as_ptr) != identities.as_ref().map(Arc::as_ptr);
            seen.clone_from(&identities);
            is_new
        };
        let is_believed = |connection: &Connection| {
            !is_new
                || identities.as_ref().is_some_and(|now| connection.shown.is_believed(now.trust(), SystemTime::now()))
        };
        let now = self.clock.now();
        self.lines.borrow_mut().retain(|_, line| {
            line.connections.borrow_mut().retain(|connection| {
                if !is_believed(connection) {
                    tracing::warn!(peer = %connection.shown.peer.principal, "a tunnel is closed: its peer is not believed any more");
                    self.shard.on(WorkerEvent::TunnelDisbelieved);
                    connection.task.abort();
                    return false;
                }
                let is_used = connection.streams.get() > 0
                    || now.wrapping_sub(connection.idle_since.get()) <= self.idle_ticks;
                // Dropped with its last stream, it says farewell by itself.
                is_used && !connection.task.is_finished()
            });
            let is_used = now.wrapping_sub(line.last_used.get()) <= self.idle_ticks;
            is_used || !line.connections.borrow().is_empty()
        });
    }

    /// Lets every tunnel end with its last stream.
    pub(crate) fn clear(&self) {
        self.lines.borrow_mut().clear();
    }
}

/// Why a tunnel has not taken a connection.
enum Asked {
    /// It has not looked at it.
    Unseen,
    Refused(Refusal),
}

impl From<h2::Error> for Asked {
    fn from(error: h2::Error) -> Self {
        let is_unseen = error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM) || error.is_io();
        if is_unseen { Self::Unseen } else { Self::Refused(Refusal::Unreachable) }
    }
}

/// Asks for a connection to an address, and waits until it is there.
async fn ask(place: Rc<Place>, address: SocketAddr, client: PeerAddr) -> Result<TunnelStream, Asked> {
    let refused = Asked::Refused(Refusal::BadRequest);
    let Ok(uri) = Uri::try_from(address.to_string()) else { return Err(refused) };
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = uri;
    if let Ok(forwarded) = HeaderValue::try_from(hbone::forwarded(client.0)) {
        request.headers_mut().insert(FORWARDED, forwarded);
    }
    let (response, send) = place.0.sender.borrow_mut().send_request(request, false)?;
    let response = response.await?;
    // Anything but this opens nothing.
    if response.status() != http::StatusCode::OK {
        return Err(Asked::Refused(Refusal::of(response.status())));
    }
    Ok(TunnelStream::new(send, response.into_body(), Some(place)))
}
