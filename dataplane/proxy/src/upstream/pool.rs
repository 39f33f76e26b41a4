//! The connections of one worker to each endpoint. What was used last is used first, so that a pool shrinks by itself.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use weir_core::cluster::{self, Cluster, Family};
use weir_core::name::PeerAddr;
use weir_telemetry::{Shard, WorkerEvent};

use super::ConnectError;
use super::connection::{Connection, Open};
use super::socket::{SocketOptions, is_exhaustion};
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
    idle: RefCell<Vec<Idle>>,
    last_used: Cell<u32>,
    shared: Rc<Shared>,
}

struct Idle {
    connection: Box<Connection>,
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

    /// Picks the endpoint for a request of a client. A connection has one family from end to end, so that the client's
    /// own address tells that of the address it meant.
    pub(crate) fn pick(&self, cluster: &Cluster, client: PeerAddr, roll: u64) -> Option<Rc<Endpoint>> {
        let family = Family::of(client.0.ip());
        let load = |endpoint: &cluster::Endpoint| endpoint.addresses.iter().map(|address| self.load(address)).sum();
        let picked = cluster.pick(family, roll, load)?;
        Some(self.endpoint(picked.address(family)))
    }

    /// Closes connections that were unused for too long, or that their endpoints have closed, and forgets endpoints
    /// that nobody uses.
    pub(crate) fn sweep(&self) {
        let (now, limit) = (self.shared.clock.now(), self.shared.idle_ticks);
        self.endpoints.borrow_mut().retain(|_, endpoint| {
            endpoint.sweep(now, limit);
            let unused = Rc::strong_count(endpoint) == 1 && endpoint.idle.borrow().is_empty();
            !unused || now.wrapping_sub(endpoint.last_used.get()) <= limit
        });
    }

    /// Closes every connection that is not in use.
    pub(crate) fn clear(&self) {
        self.endpoints.borrow().values().for_each(|endpoint| endpoint.idle.borrow_mut().clear());
    }
}

impl Endpoint {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection for one request: one that is there already, or a new one.
    pub(crate) async fn lease(self: &Rc<Self>) -> Result<Lease, ConnectError> {
        if let Some(lease) = self.try_lease() {
            return Ok(lease);
        }
        // Boxed: it is rare, and every request's future would have to have room for it.
        Box::pin(self.lease_new()).await
    }

    /// A connection that is there already, if the endpoint may have another request.
    pub(crate) fn try_lease(self: &Rc<Self>) -> Option<Lease> {
        if self.active.get() as usize >= self.shared.limits.max_connections {
            return None;
        }
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if idle.connection.is_ready() {
                self.shared.shard.on(WorkerEvent::UpstreamReused);
                return Some(self.slot().into_lease(idle.connection, Reused::Yes));
            }
        }
    }

    async fn lease_new(self: &Rc<Self>) -> Result<Lease, ConnectError> {
        let deadline = Instant::now() + self.shared.limits.connect_timeout;
        let slot = self.wait_for_slot(deadline).await?;
        // While this waited, a connection may have come back.
        if let Some(lease) = self.try_lease() {
            return Ok(lease);
        }
        self.connect(slot, deadline).await
    }

    /// A new connection, whatever is there already.
    pub(crate) async fn lease_fresh(self: &Rc<Self>) -> Result<Lease, ConnectError> {
        let deadline = Instant::now() + self.shared.limits.connect_timeout;
        let slot = self.wait_for_slot(deadline).await?;
        self.connect(slot, deadline).await
    }

    async fn connect(self: &Rc<Self>, slot: Slot, deadline: Instant) -> Result<Lease, ConnectError> {
        let stream = self.open(deadline).await?;
        let open = Open::new(&self.shared.shard);
        let connection = Connection::new(stream, open, self.shared.limits.head_bytes).await;
        let connection = connection.map_err(|_| ConnectError::Failed)?;
        Ok(slot.into_lease(Box::new(connection), Reused::No))
    }

    /// A connection that is passed on unchanged: the socket, and what holds its place in the endpoint's load.
    pub(crate) async fn lease_raw(self: &Rc<Self>) -> Result<(TcpStream, RawLease), ConnectError> {
        let deadline = Instant::now() + self.shared.limits.connect_timeout;
        let slot = self.wait_for_slot(deadline).await?;
        let stream = self.open(deadline).await?;
        Ok((stream, RawLease { _slot: slot, _open: Open::new(&self.shared.shard) }))
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
    fn into_lease(self, connection: Box<Connection>, reused: Reused) -> Lease {
        Lease { connection: Some(connection), slot: self, reused }
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

/// Whether a connection had a request before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reused {
    Yes,
    No,
}

/// A connection in use. Dropped, it is closed, unless it was given back before.
pub(crate) struct Lease {
    connection: Option<Box<Connection>>,
    slot: Slot,
    reused: Reused,
}

impl Lease {
    pub(crate) fn is_reused(&self) -> bool {
        self.reused == Reused::Yes
    }

    /// The connection. `None` only after it was given back or taken.
    pub(crate) fn connection(&mut self) -> Option<&mut Connection> {
        self.connection.as_deref_mut()
    }

    /// The connection for good, with its place in the endpoint's load.
    pub(crate) fn take(mut self) -> Option<(Connection, Slot)> {
        Some((*self.connection.take()?, self.slot))
    }

    /// The response has ended: keeps the connection for another request, if it can take one.
    pub(crate) fn give_back(mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let shared = &self.slot.endpoint.shared;
        let mut idle = self.slot.endpoint.idle.borrow_mut();
        if idle.len() < shared.limits.max_idle && connection.is_ready() {
            idle.push(Idle { connection, since: shared.clock.now() });
        }
    }
}

/// What a connection holds that is passed on unchanged: its place in the endpoint's load, and its count.
pub(crate) struct RawLease {
    _slot: Slot,
    _open: Open,
}
