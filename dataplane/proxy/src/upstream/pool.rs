//! All endpoints that a worker has connections to, and the clusters that they are picked from.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use weir_core::cluster::{Cluster, Family};
use weir_core::name::PeerAddr;
use weir_telemetry::Shard;

use super::breaker::{Breakers, Counted, Permit};
use super::endpoint::{Endpoint, Shared};
use super::members::Members;
use crate::listener::OwnAddresses;
use crate::settings::{Settings, Upstream};
use crate::socket::SocketOptions;
use crate::tunnel::Tunnels;
use crate::watch::Clock;

/// All endpoints that a worker has connections to.
pub(crate) struct Pools {
    endpoints: RefCell<HashMap<SocketAddr, Rc<Endpoint>, foldhash::fast::RandomState>>,
    /// Found by where a cluster lies in memory: they hold it there.
    members: RefCell<HashMap<(usize, Family), Rc<Members>, foldhash::fast::RandomState>>,
    /// The addresses that fail their health checks.
    failing: RefCell<Arc<HashSet<SocketAddr>>>,
    shared: Rc<Shared>,
}

/// The endpoint that a request is to go to.
pub(crate) struct Picked {
    pub(crate) endpoint: Rc<Endpoint>,
    /// Who wants to know what becomes of the request.
    pub(crate) observer: Option<Rc<Members>>,
    /// Its place among those that may be under way, where there is a bound.
    pub(crate) permit: Option<Permit>,
}

/// As many requests are under way to a cluster as may be.
#[derive(Debug)]
pub(crate) struct Full;

impl Pools {
    pub(crate) fn new(
        settings: &Settings,
        limits: &Upstream,
        breakers: Arc<Breakers>,
        options: SocketOptions,
        own: Arc<OwnAddresses>,
        shard: Arc<Shard>,
        clock: Rc<Clock>,
    ) -> Self {
        let (idle_ticks, limits, locality) =
            (clock.ticks(limits.idle_timeout), limits.clone(), settings.locality.clone());
        let identities = settings.identity.as_ref().map(|own| Arc::clone(&own.identities));
        let tunnels = Tunnels::new(identities, options.clone(), Arc::clone(&shard), Rc::clone(&clock), idle_ticks);
        let generation = Cell::new(0);
        let shared = Shared { limits, idle_ticks, options, own, shard, clock, locality, breakers, generation, tunnels };
        let (endpoints, members, failing) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { endpoints, members, failing, shared: Rc::new(shared) }
    }

    /// Picks the endpoint for a request of a client; `key` is the hash of what is to lead to the same one again. A
    /// connection has one family from end to end, so that the client's own address tells that of the address it meant.
    pub(crate) fn pick(&self, cluster: &Arc<Cluster>, client: PeerAddr, key: Option<u64>, roll: u64) -> Option<Picked> {
        self.members(cluster, client).pick(key, roll)
    }

    /// The endpoint with this id, by [`weir_core::session::endpoint_id`], if it is there and well.
    pub(crate) fn pick_kept(&self, cluster: &Arc<Cluster>, client: PeerAddr, id: u64) -> Option<Picked> {
        self.members(cluster, client).pick_kept(id)
    }

    /// The same for another try, at an endpoint that is not among those that were tried, if there is one.
    pub(crate) fn pick_other(
        &self,
        cluster: &Arc<Cluster>,
        client: PeerAddr,
        roll: u64,
        tried: &[SocketAddr],
    ) -> Option<Picked> {
        self.members(cluster, client).pick_other(roll, tried)
    }

    /// A place for one more request to a cluster, or a retry of one. `Err` when there is none.
    pub(crate) fn admit(
        &self,
        cluster: &Arc<Cluster>,
        client: PeerAddr,
        counted: Counted,
    ) -> Result<Option<Permit>, Full> {
        let most = match counted {
            Counted::Request => cluster.policy.max_requests,
            Counted::Retry => cluster.policy.max_retries,
        };
        let Some(most) = most else { return Ok(None) };
        self.members(cluster, client).under_way().admit(counted, most).map(Some).ok_or(Full)
    }

    fn members(&self, cluster: &Arc<Cluster>, client: PeerAddr) -> Rc<Members> {
        let family = Family::of(client.0.ip());
        let key = (Arc::as_ptr(cluster) as usize, family);
        if let Some(members) = self.members.borrow().get(&key) {
            return Rc::clone(members);
        }
        let members = Rc::new(Members::new(cluster, family, &self.shared, |address| self.endpoint(address)));
        let mut all = self.members.borrow_mut();
        // Those of the same cluster in an earlier configuration: most likely nobody asks for them again.
        all.retain(|(_, other), old| *other != family || !old.is_of(&cluster.name));
        all.insert(key, Rc::clone(&members));
        members
    }

    /// The endpoint with this address.
    pub(crate) fn endpoint(&self, address: SocketAddr) -> Rc<Endpoint> {
        let mut endpoints = self.endpoints.borrow_mut();
        let new = || {
            let endpoint = Endpoint::new(address, &self.shared);
            endpoint.set_failing(self.failing.borrow().contains(&address));
            endpoint
        };
        Rc::clone(endpoints.entry(address).or_insert_with(new))
    }

    /// Takes note of which addresses fail their health checks.
    pub(crate) fn on_health(&self, failing: &Arc<HashSet<SocketAddr>>) {
        if Arc::ptr_eq(&self.failing.borrow(), failing) {
            return;
        }
        *self.failing.borrow_mut() = Arc::clone(failing);
        for (address, endpoint) in &*self.endpoints.borrow() {
            endpoint.set_failing(failing.contains(address));
        }
        self.shared.generation.set(self.shared.generation.get() + 1);
    }

    /// Closes connections that were unused for too long, or that their endpoints have closed, and forgets clusters and
    /// endpoints that nobody uses.
    pub(crate) fn sweep(&self) {
        self.members.borrow_mut().retain(|_, members| members.is_used());
        self.endpoints.borrow_mut().retain(|_, endpoint| {
            endpoint.sweep();
            !endpoint.is_forgettable()
        });
        self.shared.tunnels.sweep();
    }

    /// Closes every connection that is not in use.
    pub(crate) fn clear(&self) {
        self.endpoints.borrow().values().for_each(|endpoint| endpoint.clear());
        self.shared.tunnels.clear();
    }
}
