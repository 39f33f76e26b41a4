//! The connections of one worker to each endpoint. What was used last is used first, so that a pool shrinks by itself.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::Version;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use weir_core::cluster::{self, Cluster, Family};
use weir_core::name::PeerAddr;
use weir_telemetry::{Shard, WorkerEvent};

use super::lease::{Carrier, Lease, RawLease, Reused};
use super::socket::{SocketOptions, is_exhaustion};
use super::{ConnectError, Open, http1, http2};
use crate::listener::OwnAddresses;
use crate::settings::Upstream;
use crate::watch::Clock;

/// All endpoints that a worker has connections to.
pub(crate) struct Pools {
    endpoints: RefCell<HashMap<SocketAddr, Rc<Endpoint>, foldhash::fast::RandomState>>,
    shared: Rc<Shared>,
}

struct Shared {
    limits: Upstream,
    idle_ticks: u32,
    options: SocketOptions,
    own: Arc<OwnAddresses>,
    shard: Arc<Shard>,
    clock: Rc<Clock>,
}

/// A worker's connections to one endpoint, and its load there. Lives as long as there are any, whatever the
/// configuration says meanwhile.
pub(crate) struct Endpoint {
    address: SocketAddr,
    active: Cell<u32>,
    waiting: Cell<usize>,
    freed: Notify,
    /// Connections of HTTP/1.1 without a request.
    idle: RefCell<Vec<Idle>>,
    /// Connections of HTTP/2, with requests or without.
    http2: RefCell<Vec<Rc<http2::Connection>>>,
    /// Whether another one of these is being made.
    is_connecting: Cell<bool>,
    connected: Notify,
    last_used: Cell<u32>,
    shared: Rc<Shared>,
}

struct Idle {
    connection: Box<http1::Connection>,
    since: u32,
}

impl Pools {
    pub(crate) fn new(
        limits: &Upstream,
        options: SocketOptions,
        own: Arc<OwnAddresses>,
        shard: Arc<Shard>,
        clock: Rc<Clock>,
    ) -> Self {
        let idle_ticks = clock.ticks(limits.idle_timeout);
        let shared = Rc::new(Shared { limits: limits.clone(), idle_ticks, options, own, shard, clock });
        Self { endpoints: RefCell::default(), shared }
    }

    /// The endpoint with this address.
    pub(crate) fn endpoint(&self, address: SocketAddr) -> Rc<Endpoint> {
        let mut endpoints = self.endpoints.borrow_mut();
        let endpoint = endpoints.entry(address).or_insert_with(|| {
            Rc::new(Endpoint {
                address,
                active: Cell::new(0),
                waiting: Cell::new(0),
                freed: Notify::new(),
                idle: RefCell::default(),
                http2: RefCell::default(),
                is_connecting: Cell::new(false),
                connected: Notify::new(),
                last_used: Cell::new(0),
                shared: Rc::clone(&self.shared),
            })
        });
        Rc::clone(endpoint)
    }

    /// Requests of this worker that are under way to an address.
    pub(crate) fn load(&self, address: SocketAddr) -> u32 {
        self.endpoints.borrow().get(&address).map_or(0, |endpoint| endpoint.active.get())
    }

    fn load_of(&self, endpoint: &cluster::Endpoint) -> u32 {
        endpoint.addresses.iter().map(|address| self.load(address)).sum()
    }

    /// Picks the endpoint for a request of a client. A connection has one family from end to end, so that the client's
    /// own address tells that of the address it meant.
    pub(crate) fn pick(&self, cluster: &Cluster, client: PeerAddr, roll: u64) -> Option<Rc<Endpoint>> {
        let family = Family::of(client.0.ip());
        let picked = cluster.pick(family, roll, |endpoint| self.load_of(endpoint))?;
        Some(self.endpoint(picked.address(family)))
    }

    /// The same for another try, at an endpoint that is not among those that were tried, if there is one.
    pub(crate) fn pick_other(
        &self,
        cluster: &Cluster,
        client: PeerAddr,
        roll: u64,
        tried: &[SocketAddr],
    ) -> Option<Rc<Endpoint>> {
        let family = Family::of(client.0.ip());
        let is_tried = |endpoint: &cluster::Endpoint| tried.contains(&endpoint.address(family));
        let picked = cluster.pick_other(family, roll, |endpoint| self.load_of(endpoint), is_tried)?;
        Some(self.endpoint(picked.address(family)))
    }

    /// Closes connections that were unused for too long, or that their endpoints have closed, and forgets endpoints
    /// that nobody uses.
    pub(crate) fn sweep(&self) {
        let (now, limit) = (self.shared.clock.now(), self.shared.idle_ticks);
        self.endpoints.borrow_mut().retain(|_, endpoint| {
            endpoint.sweep(now, limit);
            let has_none = endpoint.idle.borrow().is_empty() && endpoint.http2.borrow().is_empty();
            let unused = Rc::strong_count(endpoint) == 1 && has_none;
            !unused || now.wrapping_sub(endpoint.last_used.get()) <= limit
        });
    }

    /// Closes every connection that is not in use.
    pub(crate) fn clear(&self) {
        for endpoint in self.endpoints.borrow().values() {
            endpoint.idle.borrow_mut().clear();
            // Those with requests end with them.
            endpoint.http2.borrow_mut().clear();
        }
    }
}

impl Endpoint {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection for one request: one that is there already, or a new one.
    pub(crate) async fn lease(self: &Rc<Self>, version: Version) -> Result<Lease, ConnectError> {
        if let Some(lease) = self.try_lease(version) {
            return Ok(lease);
        }
        // Boxed: it is rare, and every request's future would have to have room for it.
        Box::pin(self.lease_new(version)).await
    }

    /// A connection that is there already, if the endpoint may have another request.
    fn try_lease(self: &Rc<Self>, version: Version) -> Option<Lease> {
        if self.active.get() as usize >= self.shared.limits.max_connections {
            return None;
        }
        if version == Version::HTTP_2 {
            return self.try_stream().map(|stream| {
                self.shared.shard.on(WorkerEvent::UpstreamReused);
                Lease::new(Carrier::Http2(stream), self.slot(), Reused::Yes)
            });
        }
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if idle.connection.is_ready() {
                self.shared.shard.on(WorkerEvent::UpstreamReused);
                return Some(Lease::new(Carrier::Http1(idle.connection), self.slot(), Reused::Yes));
            }
        }
    }

    /// A place on a connection of HTTP/2 that is there already. The first with room is taken, so that few are needed.
    fn try_stream(&self) -> Option<http2::Stream> {
        let most = self.shared.limits.http2.max_streams as usize;
        let connections = self.http2.borrow();
        connections.iter().find(|connection| connection.has_room(most)).map(http2::Connection::stream)
    }

    async fn lease_new(self: &Rc<Self>, version: Version) -> Result<Lease, ConnectError> {
        let deadline = Instant::now() + self.shared.limits.connect_timeout;
        let slot = self.wait_for_slot(deadline).await?;
        // While this waited, a connection may have come back.
        if let Some(lease) = self.try_lease(version) {
            return Ok(lease);
        }
        self.connect(slot, version, deadline).await
    }

    /// A new connection, whatever is there already, except of HTTP/2: there those that have not ended are as good.
    pub(crate) async fn lease_fresh(self: &Rc<Self>, version: Version) -> Result<Lease, ConnectError> {
        let deadline = Instant::now() + self.shared.limits.connect_timeout;
        let slot = self.wait_for_slot(deadline).await?;
        self.connect(slot, version, deadline).await
    }

    async fn connect(self: &Rc<Self>, slot: Slot, version: Version, deadline: Instant) -> Result<Lease, ConnectError> {
        if version == Version::HTTP_2 {
            let stream = self.connect_shared(deadline).await?;
            return Ok(Lease::new(Carrier::Http2(stream), slot, Reused::No));
        }
        let stream = self.open(deadline).await?;
        let open = Open::new(&self.shared.shard);
        let connection = http1::Connection::new(stream, open, self.shared.limits.head_bytes).await;
        let connection = connection.map_err(|_| ConnectError::Failed)?;
        Ok(Lease::new(Carrier::Http1(Box::new(connection)), slot, Reused::No))
    }

    /// A place on a connection of HTTP/2. Of those that want one at the same time the first makes it.
    async fn connect_shared(&self, deadline: Instant) -> Result<http2::Stream, ConnectError> {
        loop {
            if let Some(stream) = self.try_stream() {
                return Ok(stream);
            }
            if !self.is_connecting.get() {
                break;
            }
            let connected = tokio::time::timeout_at(deadline, self.connected.notified()).await;
            connected.map_err(|_| ConnectError::Timeout)?;
        }
        let _connecting = Connecting::new(self);
        let stream = self.open(deadline).await?;
        let open = Open::new(&self.shared.shard);
        let connection = http2::Connection::new(stream, open, &self.shared.limits, &self.shared.clock).await;
        let connection = connection.map_err(|_| ConnectError::Failed)?;
        let stream = connection.stream();
        self.http2.borrow_mut().push(connection);
        Ok(stream)
    }

    /// A connection that is passed on unchanged: the socket, and what holds its place in the endpoint's load.
    pub(crate) async fn lease_raw(self: &Rc<Self>) -> Result<(TcpStream, RawLease), ConnectError> {
        let deadline = Instant::now() + self.shared.limits.connect_timeout;
        let slot = self.wait_for_slot(deadline).await?;
        let stream = self.open(deadline).await?;
        Ok((stream, RawLease::new(slot, Open::new(&self.shared.shard))))
    }

    async fn open(&self, deadline: Instant) -> Result<TcpStream, ConnectError> {
        if self.shared.own.contains(self.address) {
            return Err(ConnectError::Loop);
        }
        match tokio::time::timeout_at(deadline, self.shared.options.connect(self.address)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if is_exhaustion(&error) => Err(ConnectError::OutOfSockets),
            Ok(Err(_)) => Err(ConnectError::Failed),
            Err(_) => Err(ConnectError::Timeout),
        }
    }

    async fn wait_for_slot(self: &Rc<Self>, deadline: Instant) -> Result<Slot, ConnectError> {
        let is_full = || self.active.get() as usize >= self.shared.limits.max_connections;
        if is_full() {
            if self.waiting.get() >= self.shared.limits.max_pending {
                return Err(ConnectError::Overflow);
            }
            let _waiting = Waiting::new(&self.waiting);
            while is_full() {
                let freed = tokio::time::timeout_at(deadline, self.freed.notified()).await;
                freed.map_err(|_| ConnectError::Overflow)?;
            }
        }
        Ok(self.slot())
    }

    fn slot(self: &Rc<Self>) -> Slot {
        self.active.set(self.active.get() + 1);
        self.last_used.set(self.shared.clock.now());
        Slot { endpoint: Rc::clone(self) }
    }

    fn sweep(&self, now: u32, limit: u32) {
        let is_kept = |idle: &mut Idle| now.wrapping_sub(idle.since) <= limit && idle.connection.is_ready();
        self.idle.borrow_mut().retain_mut(is_kept);
        let is_kept = |connection: &Rc<http2::Connection>| {
            connection.is_alive() && connection.idle_ticks().is_none_or(|ticks| ticks <= limit)
        };
        self.http2.borrow_mut().retain(is_kept);
    }
}

/// The one who makes a connection for all who wait for one.
struct Connecting<'a>(&'a Endpoint);

impl<'a> Connecting<'a> {
    fn new(endpoint: &'a Endpoint) -> Self {
        endpoint.is_connecting.set(true);
        Self(endpoint)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.is_connecting.set(false);
        self.0.connected.notify_waiters();
    }
}

struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A place in an endpoint's load; free again when dropped.
pub(crate) struct Slot {
    endpoint: Rc<Endpoint>,
}

impl Slot {
    /// Keeps a connection whose request has ended for another one, if it can take one.
    pub(super) fn keep(self, mut connection: Box<http1::Connection>) {
        let shared = &self.endpoint.shared;
        let mut idle = self.endpoint.idle.borrow_mut();
        if idle.len() < shared.limits.max_idle && connection.is_ready() {
            idle.push(Idle { connection, since: shared.clock.now() });
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.endpoint.active.set(self.endpoint.active.get() - 1);
        if self.endpoint.waiting.get() > 0 {
            self.endpoint.freed.notify_one();
        }
    }
}
