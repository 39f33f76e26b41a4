//! The connections of one worker to an endpoint. What was used last is used first, so that a pool shrinks by itself.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use tokio::sync::Notify;
use tokio::time::Instant;
use weir_core::balance::{Outcome, Outlier, OutlierDetection, PeakEwma};
use weir_core::name::PeerAddr;
use weir_telemetry::{Shard, WorkerEvent};

use super::breaker::Breakers;
use super::lease::{Carrier, Lease, RawLease, Reused};
use super::{ConnectError, Open, Sender, http1, http2};
use crate::listener::OwnAddresses;
use crate::settings::{Locality, Upstream};
use crate::socket::{SocketOptions, is_exhaustion};
use crate::stream::Stream;
use crate::tunnel::{Tunnels, Way};
use crate::watch::Clock;

/// What the endpoints of a worker share.
pub(super) struct Shared {
    pub(super) limits: Upstream,
    pub(super) idle_ticks: u32,
    pub(super) options: SocketOptions,
    pub(super) own: Arc<OwnAddresses>,
    pub(super) shard: Arc<Shard>,
    pub(super) clock: Rc<Clock>,
    /// Where the node is.
    pub(super) locality: Locality,
    pub(super) breakers: Arc<Breakers>,
    /// Counts changes of which endpoints are well.
    pub(super) generation: Cell<u64>,
    /// To what runs on other nodes.
    pub(super) tunnels: Tunnels,
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
    /// Since when this worker knows it, in the worker's time.
    since: Duration,
    /// What an answer is expected to take.
    latency: Cell<PeakEwma>,
    /// Whether it answers as it should.
    outlier: Cell<Outlier>,
    /// Whether it fails its health checks.
    is_failing: Cell<bool>,
    shared: Rc<Shared>,
}

struct Idle {
    way: Way,
    connection: Box<http1::Connection>,
    since: u32,
}

impl Endpoint {
    pub(super) fn new(address: SocketAddr, shared: &Rc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            address,
            active: Cell::new(0),
            waiting: Cell::new(0),
            freed: Notify::new(),
            idle: RefCell::default(),
            http2: RefCell::default(),
            is_connecting: Cell::new(false),
            connected: Notify::new(),
            last_used: Cell::new(shared.clock.now()),
            since: shared.clock.time(),
            latency: Cell::default(),
            outlier: Cell::default(),
            is_failing: Cell::new(false),
            shared: Rc::clone(shared),
        })
    }

    /// Requests of this worker that are under way to it.
    pub(super) fn load(&self) -> u32 {
        self.active.get()
    }

    /// What an answer is expected to take.
    pub(super) fn latency(&self) -> f64 {
        self.latency.get().micros()
    }

    /// For how long this worker has known it.
    pub(super) fn age(&self) -> Duration {
        self.shared.clock.time().saturating_sub(self.since)
    }

    /// Whether it is neither ejected nor failing its health checks.
    pub(super) fn is_well(&self) -> bool {
        !self.is_failing.get() && !self.is_ejected()
    }

    pub(super) fn set_failing(&self, is_failing: bool) {
        self.is_failing.set(is_failing);
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.outlier.get().is_ejected(self.shared.clock.time())
    }

    /// A request to it has ended after this time. `true` when it ought to be left alone for that.
    pub(super) fn on_outcome(&self, outcome: Outcome, latency: Duration, policy: Option<&OutlierDetection>) -> bool {
        let now = self.shared.clock.time();
        let mut expected = self.latency.get();
        expected.observe(latency, outcome != Outcome::Good, now);
        self.latency.set(expected);
        policy.is_some_and(|policy| {
            let mut outlier = self.outlier.get();
            let is_outlier = outlier.on_outcome(outcome, policy, now);
            self.outlier.set(outlier);
            is_outlier
        })
    }

    /// Takes no requests for a while: the time that it has asked for, or one that grows.
    pub(super) fn eject(&self, asked: Option<Duration>, policy: &OutlierDetection) {
        let mut outlier = self.outlier.get();
        let time = outlier.eject(asked, policy, self.shared.clock.time());
        self.outlier.set(outlier);
        self.shared.shard.on(WorkerEvent::EndpointEjected);
        self.shared.generation.set(self.shared.generation.get() + 1);
        tracing::info!(endpoint = %self.address, seconds = time.as_secs_f64(), "an endpoint is left alone: it answers badly");
    }

    /// Ends an ejection whose time is over.
    fn readmit(&self) {
        let mut outlier = self.outlier.get();
        if outlier.end_ejection(self.shared.clock.time()) {
            self.outlier.set(outlier);
            self.shared.shard.on(WorkerEvent::EndpointReadmitted);
            self.shared.generation.set(self.shared.generation.get() + 1);
        }
    }

    /// Forgets what nobody will need: whether the endpoint itself can be forgotten.
    pub(super) fn is_forgettable(self: &Rc<Self>) -> bool {
        let has_none = self.idle.borrow().is_empty() && self.http2.borrow().is_empty();
        let age = self.shared.clock.now().wrapping_sub(self.last_used.get());
        Rc::strong_count(self) == 1 && has_none && age > self.shared.idle_ticks && !self.is_ejected()
    }

    /// Closes every connection that is not in use.
    pub(super) fn clear(&self) {
        self.idle.borrow_mut().clear();
        // Those with requests end with them.
        self.http2.borrow_mut().clear();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection for one request: one that is there already, or a new one.
    pub(crate) async fn lease(self: &Rc<Self>, version: Version, sender: Sender<'_>) -> Result<Lease, ConnectError> {
        if let Some(lease) = self.try_lease(version, sender) {
            return Ok(lease);
        }
        // Boxed: it is rare, and every request's future would have to have room for it.
        Box::pin(self.lease_new(version, sender)).await
    }

    /// A connection that is there already, if the endpoint may have another request.
    fn try_lease(self: &Rc<Self>, version: Version, sender: Sender<'_>) -> Option<Lease> {
        if self.active.get() as usize >= self.shared.limits.max_connections {
            return None;
        }
        if version == Version::HTTP_2 {
            return self.try_stream(sender).map(|stream| {
                self.shared.shard.on(WorkerEvent::UpstreamReused);
                Lease::new(Carrier::Http2(stream), self.slot(), Reused::Yes, sender.way)
            });
        }
        loop {
            let mut idle = self.take_idle(sender.way)?;
            if idle.connection.is_ready() {
                self.shared.shard.on(WorkerEvent::UpstreamReused);
                return Some(Lease::new(Carrier::Http1(idle.connection), self.slot(), Reused::Yes, sender.way));
            }
        }
    }

    /// What was used last of the connections that go this way.
    fn take_idle(&self, way: &Way) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let at = idle.iter().rposition(|idle| idle.way == *way)?;
        Some(idle.remove(at))
    }

    /// A place on a connection of HTTP/2 that is there already. The first with room is taken, so that few are needed; but
    /// only of the same workload's: one that does not read its responses fills the window of all on the connection.
    fn try_stream(&self, sender: Sender<'_>) -> Option<http2::Stream> {
        let most = self.shared.limits.http2.max_streams as usize;
        let connections = self.http2.borrow();
        let mut own = connections.iter().filter(|connection| connection.is_of(sender.account, sender.way));
        own.find(|connection| connection.has_room(most)).map(http2::Connection::stream)
    }

    async fn lease_new(self: &Rc<Self>, version: Version, sender: Sender<'_>) -> Result<Lease, ConnectError> {
        let deadline = Instant::now() + self.shared.limits.connect_timeout;
        let slot = self.wait_for_slot(deadline).await?;
        // While this waited, a connection may have come back.
        if let Some(lease) = self.try_lease(version, sender) {
            return Ok(lease);
        }
        self.connect(slot, version, sender, deadline).await
    }

    /// A new connection, whatever is there already, except of HTTP/2: there those that have not ended are as good.
    pub(crate) async fn lease_fresh(
        self: &Rc<Self>,
        version: Version,
        sender: Sender<'_>,
    ) -> Result<Lease, ConnectError> {
        let deadline = Instant::now() + self.shared.limits.connect_timeout;
        let slot = self.wait_for_slot(deadline).await?;
        self.connect(slot, version, sender, deadline).await
    }

    async fn connect(
        self: &Rc<Self>,
        slot: Slot,
        version: Version,
        sender: Sender<'_>,
        deadline: Instant,
    ) -> Result<Lease, ConnectError> {
        if version == Version::HTTP_2 {
            let stream = self.connect_shared(sender, deadline).await?;
            return Ok(Lease::new(Carrier::Http2(stream), slot, Reused::No, sender.way));
        }
        let stream = self.open(sender.way, sender.client, deadline).await?;
        let open = Open::new(&self.shared.shard);
        let connection = http1::Connection::new(stream, open, &self.shared.limits).await;
        let connection = connection.map_err(|_| ConnectError::Failed)?;
        Ok(Lease::new(Carrier::Http1(Box::new(connection)), slot, Reused::No, sender.way))
    }

    /// A place on a connection of HTTP/2. Of those that want one at the same time the first makes it.
    async fn connect_shared(&self, sender: Sender<'_>, deadline: Instant) -> Result<http2::Stream, ConnectError> {
        loop {
            if let Some(stream) = self.try_stream(sender) {
                return Ok(stream);
            }
            if !self.is_connecting.get() {
                break;
            }
            let connected = tokio::time::timeout_at(deadline, self.connected.notified()).await;
            connected.map_err(|_| ConnectError::Timeout)?;
        }
        let _connecting = Connecting::new(self);
        let stream = self.open(sender.way, sender.client, deadline).await?;
        let open = Open::new(&self.shared.shard);
        let connection = http2::Connection::new(stream, open, sender, &self.shared.limits, &self.shared.clock).await;
        let connection = connection.map_err(|_| ConnectError::Failed)?;
        let stream = connection.stream();
        self.http2.borrow_mut().push(connection);
        Ok(stream)
    }

    /// A connection that is passed on unchanged: the socket, and what holds its place in the endpoint's load.
    pub(crate) async fn lease_raw(
        self: &Rc<Self>,
        way: &Way,
        client: PeerAddr,
    ) -> Result<(Stream, RawLease), ConnectError> {
        let deadline = Instant::now() + self.shared.limits.connect_timeout;
        let slot = self.wait_for_slot(deadline).await?;
        let stream = self.open(way, client, deadline).await?;
        Ok((stream, RawLease::new(slot, Open::new(&self.shared.shard))))
    }

    async fn open(&self, way: &Way, client: PeerAddr, deadline: Instant) -> Result<Stream, ConnectError> {
        if self.shared.own.contains(self.address) {
            return Err(ConnectError::Loop);
        }
        if let Some(via) = way {
            let opened = self.shared.tunnels.open(via, self.address, client, deadline);
            return opened.await.map(|stream| Stream::Tunnel(Box::new(stream)));
        }
        match tokio::time::timeout_at(deadline, self.shared.options.connect(self.address)).await {
            Ok(Ok(stream)) => Ok(Stream::Plain(stream)),
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

    /// Closes connections that were unused for too long, or that the endpoint has closed.
    pub(super) fn sweep(&self) {
        let (now, limit) = (self.shared.clock.now(), self.shared.idle_ticks);
        self.readmit();
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
    pub(super) fn keep(self, mut connection: Box<http1::Connection>, way: Way) {
        let shared = &self.endpoint.shared;
        let mut idle = self.endpoint.idle.borrow_mut();
        if idle.len() < shared.limits.max_idle && connection.rest() {
            idle.push(Idle { way, connection, since: shared.clock.now() });
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
