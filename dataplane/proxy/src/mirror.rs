//! Copies of requests. A copy costs the request that it copies nothing but the copying: whatever goes wrong with it
//! is counted and forgotten, and whoever is slow loses the copy, not the client's time.

mod copy;
mod destination;
mod queue;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use weir_core::name::ClusterName;

use crate::body::Budget;
use crate::settings::MirrorLimits;
use crate::upstream::Pools;

pub(crate) use copy::{Planned, launch};
pub(crate) use queue::{CopyBody, Tee};

use destination::Destination;

/// What a worker keeps for copies.
pub(crate) struct Mirrors {
    limits: MirrorLimits,
    destinations: RefCell<HashMap<ClusterName, Rc<Destination>, foldhash::fast::RandomState>>,
    budget: Arc<Budget>,
    pools: Pools,
}

impl Mirrors {
    /// `pools` must not be those of clients' requests: copies have connections of their own.
    pub(crate) fn new(limits: &MirrorLimits, pools: Pools) -> Self {
        let budget = Budget::new(limits.total_bytes);
        Self { limits: limits.clone(), destinations: RefCell::default(), budget, pools }
    }

    fn destination(&self, name: &ClusterName) -> Rc<Destination> {
        let mut destinations = self.destinations.borrow_mut();
        if let Some(destination) = destinations.get(name) {
            return Rc::clone(destination);
        }
        Rc::clone(destinations.entry(name.clone()).or_default())
    }

    /// Takes note of which addresses fail their health checks.
    pub(crate) fn on_health(&self, failing: &Arc<HashSet<SocketAddr>>) {
        self.pools.on_health(failing);
    }

    /// Closes what is unused and forgets destinations without copies or failures.
    pub(crate) fn sweep(&self) {
        self.pools.sweep();
        self.destinations.borrow_mut().retain(|_, destination| !destination.is_forgettable());
    }
}
