//! The endpoints of a cluster as this worker's clients of one family reach them, and the choice among them.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use weir_core::balance::{
    self, Algorithm, Candidates, Distance, Maglev, Outcome, Rolls, Standing, TrafficPolicy, Weight, Weights,
};
use weir_core::cluster::{Cluster, Family};
use weir_core::name::ClusterName;
use weir_core::session;

use super::breaker::UnderWay;
use super::endpoint::{Endpoint, Shared};
use super::pool::Picked;

/// The endpoints of a cluster.
pub(crate) struct Members {
    cluster: Arc<Cluster>,
    family: Family,
    all: Vec<Member>,
    /// Those that requests are shared between.
    eligible: RefCell<Eligible>,
    /// What `eligible` was found by.
    generation: Cell<u64>,
    /// Picks so far.
    turn: Cell<u64>,
    table: OnceCell<Maglev>,
    /// Positions by the ids that sessions have; made with the first session.
    by_id: OnceCell<HashMap<u64, usize>>,
    /// Known where there is a bound.
    under_way: OnceCell<Arc<UnderWay>>,
    last_used: Cell<u32>,
    shared: Rc<Shared>,
}

/// Some of the endpoints.
#[derive(Default)]
struct Eligible {
    positions: Vec<usize>,
    weights: Weights,
}

struct Member {
    endpoint: Rc<Endpoint>,
    weight: Weight,
    /// The same pod at its address of the other family.
    other: Option<Rc<Endpoint>>,
    distance: Distance,
}

impl Member {
    fn load(&self) -> u32 {
        self.endpoint.load() + self.other.as_ref().map_or(0, |other| other.load())
    }
}

impl Members {
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        family: Family,
        shared: &Rc<Shared>,
        endpoint: impl Fn(SocketAddr) -> Rc<Endpoint>,
    ) -> Self {
        let own = (shared.locality.node.as_deref(), shared.locality.zone.as_deref());
        let member = |one: &weir_core::cluster::Endpoint| {
            let address = one.address(family);
            Member {
                endpoint: endpoint(address),
                weight: one.weight,
                other: one.addresses.iter().find(|other| *other != address).map(&endpoint),
                distance: Distance::between(own, (one.node.as_deref(), one.zone.as_deref())),
            }
        };
        let all: Vec<Member> = cluster.endpoints_for(family).iter().map(member).collect();
        let members = Self {
            cluster: Arc::clone(cluster),
            family,
            all,
            eligible: RefCell::default(),
            generation: Cell::new(shared.generation.get()),
            turn: Cell::new(0),
            table: OnceCell::new(),
            by_id: OnceCell::new(),
            under_way: OnceCell::new(),
            last_used: Cell::new(shared.clock.now()),
            shared: Rc::clone(shared),
        };
        members.judge();
        members
    }

    fn policy(&self) -> &TrafficPolicy {
        &self.cluster.policy
    }

    /// Finds who is eligible now.
    fn judge(&self) {
        let standing = |member: &Member| Standing { is_well: member.endpoint.is_well(), distance: member.distance };
        let standings: Vec<Standing> = self.all.iter().map(standing).collect();
        *self.eligible.borrow_mut() = self.weighed(self.policy().eligible(&standings));
        self.generation.set(self.shared.generation.get());
    }

    fn weighed(&self, positions: Vec<usize>) -> Eligible {
        let weights = Weights::new(positions.iter().map(|at| self.all[*at].weight));
        Eligible { positions, weights }
    }

    /// Finds who is eligible, if that may have changed.
    fn refresh(&self) {
        self.last_used.set(self.shared.clock.now());
        if self.generation.get() != self.shared.generation.get() {
            self.judge();
        }
    }

    /// Picks an endpoint; for the same key the same one, where the policy is such.
    pub(super) fn pick(self: &Rc<Self>, key: Option<u64>, roll: u64) -> Option<Picked> {
        self.refresh();
        let eligible = self.eligible.borrow();
        let at = match (&self.policy().algorithm, key) {
            (Algorithm::ConsistentHash(_), Some(key)) => {
                self.table().find(key, |at| eligible.positions.contains(&at))?
            }
            _ => eligible.positions[self.pick_of(&eligible, roll)?],
        };
        drop(eligible);
        Some(self.picked(at))
    }

    /// The one with this id, by [`session::endpoint_id`], if it is there and well.
    pub(super) fn pick_kept(self: &Rc<Self>, id: u64) -> Option<Picked> {
        self.refresh();
        let ids = || self.cluster.endpoints_for(self.family).iter().map(session::endpoint_id).zip(0..).collect();
        let at = *self.by_id.get_or_init(ids).get(&id)?;
        self.all[at].endpoint.is_well().then(|| self.picked(at))
    }

    /// Picks one that was not tried, if there is one.
    pub(super) fn pick_other(self: &Rc<Self>, roll: u64, tried: &[SocketAddr]) -> Option<Picked> {
        self.refresh();
        let is_new = |at: &usize| !tried.contains(&self.all[*at].endpoint.address());
        let others = self.weighed(self.eligible.borrow().positions.iter().copied().filter(is_new).collect());
        match self.pick_of(&others, roll) {
            Some(at) => Some(self.picked(others.positions[at])),
            None => self.pick(None, roll),
        }
    }

    fn pick_of(&self, of: &Eligible, roll: u64) -> Option<usize> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        balance::pick(&self.policy().algorithm, turn, Rolls::new(roll), &Among { members: self, of })
    }

    fn picked(self: &Rc<Self>, at: usize) -> Picked {
        let observer = self.policy().observes().then(|| Rc::clone(self));
        Picked { endpoint: Rc::clone(&self.all[at].endpoint), observer, permit: None }
    }

    /// The table for keys: made of addresses, so that it is the same on every node.
    fn table(&self) -> &Maglev {
        let names = self.all.iter().map(|member| (member.endpoint.address().to_string(), member.weight));
        self.table.get_or_init(|| Maglev::of_names(names))
    }

    /// A request to an endpoint has ended after this time; the endpoint may have asked to be left alone for one.
    pub(crate) fn observe(&self, endpoint: &Endpoint, outcome: Outcome, latency: Duration, asked: Option<Duration>) {
        let policy = self.policy().outliers.as_ref();
        let is_outlier = endpoint.on_outcome(outcome, latency, policy);
        let Some(policy) = policy.filter(|_| is_outlier || asked.is_some()) else { return };
        let ejected = self.all.iter().filter(|member| member.endpoint.is_ejected()).count();
        if !endpoint.is_ejected() && policy.may_eject(ejected, self.all.len()) {
            endpoint.eject(asked, policy);
        }
    }

    /// What all workers together have under way to the cluster.
    pub(super) fn under_way(&self) -> &Arc<UnderWay> {
        self.under_way.get_or_init(|| self.shared.breakers.of(&self.cluster.name))
    }

    pub(super) fn is_of(&self, name: &ClusterName) -> bool {
        self.cluster.name == *name
    }

    /// Whether anybody has asked for it lately.
    pub(super) fn is_used(&self) -> bool {
        self.shared.clock.now().wrapping_sub(self.last_used.get()) <= self.shared.idle_ticks
    }
}

/// Some of the endpoints, as they are picked from.
struct Among<'a> {
    members: &'a Members,
    of: &'a Eligible,
}

impl Among<'_> {
    fn member(&self, at: usize) -> &Member {
        &self.members.all[self.of.positions[at]]
    }
}

impl Candidates for Among<'_> {
    fn count(&self) -> usize {
        self.of.positions.len()
    }

    fn load(&self, at: usize) -> u32 {
        self.member(at).load()
    }

    fn latency(&self, at: usize) -> f64 {
        self.member(at).endpoint.latency()
    }

    fn warmth(&self, at: usize) -> u32 {
        let slow_start = self.members.policy().slow_start;
        if slow_start.is_none() { 1_000 } else { balance::warmth(slow_start, self.member(at).endpoint.age()) }
    }

    fn weights(&self) -> &Weights {
        &self.of.weights
    }
}
