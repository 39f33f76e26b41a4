//! From what is wanted and what is there to what is to be done: pure, over maps of values.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use weir_ebpf_common::{
    Addr, BackendRecord, Config, MAX_BACKENDS, MAX_NODE_ADDRESSES, MAX_PLACES, MAX_POD_ADDRESSES, MAX_PODS,
    MAX_POLICIES, MAX_SERVICES, PlaceRecord, PodRecord, PolicyKey, PolicyRecord, SOURCE_ANY, ServiceAction as Action,
    ServiceKey, ServiceRecord, TCP, UDP,
};

use crate::{Desired, FailMode, IfIndex, PodEntry, Policy, Prefix, Protocol, ServiceAction, ServiceAddr, alias};

/// What the maps hold.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct State {
    pub(crate) pods: BTreeMap<u32, PodRecord>,
    pub(crate) netns: BTreeMap<u64, u32>,
    pub(crate) places: BTreeMap<(u32, Addr), PlaceRecord>,
    pub(crate) services: BTreeMap<ServiceKey, ServiceRecord>,
    pub(crate) sets: BTreeMap<u32, Vec<BackendRecord>>,
    pub(crate) policies: BTreeMap<PolicyKey, PolicyRecord>,
    pub(crate) node_addresses: BTreeMap<Addr, u8>,
}

/// Writes to one map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change<K, V> {
    pub(crate) set: Vec<(K, V)>,
    pub(crate) remove: Vec<K>,
    pub(crate) added: usize,
}

impl<K, V> Change<K, V> {
    fn is_nothing(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

/// All writes, and the state they lead to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    pub(crate) pods: Change<u32, PodRecord>,
    pub(crate) netns: Change<u64, u32>,
    pub(crate) places: Change<(u32, Addr), PlaceRecord>,
    pub(crate) services: Change<ServiceKey, ServiceRecord>,
    pub(crate) sets: Change<u32, Vec<BackendRecord>>,
    pub(crate) policies: Change<PolicyKey, PolicyRecord>,
    pub(crate) node_addresses: Change<Addr, u8>,
    /// Bits of [`Config::flags`] that follow from the desired state.
    pub(crate) flags: u32,
}

impl Plan {
    /// Whether policy says something else of any flow.
    pub(crate) fn changes_policy(&self) -> bool {
        !self.policies.is_nothing() || !self.places.is_nothing() || !self.pods.is_nothing()
    }
}

/// Something in a desired state that cannot be brought about.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A backend of the other family than its service.
    #[error("service {0:?} has a backend of another address family")]
    Family(ServiceAddr),
    /// Port zero.
    #[error("service {0:?} or one of its backends has port 0")]
    Port(ServiceAddr),
    /// More addresses than a pod's record holds.
    #[error("pod at link {0:?} has {1} addresses; at most {MAX_POD_ADDRESSES} are supported")]
    Addresses(IfIndex, usize),
    /// A prefix longer than its address.
    #[error("{0:?} has more bits than its address")]
    Prefix(Prefix),
    /// A map is too small.
    #[error("{count} {what} do not fit: at most {limit}")]
    Full {
        /// What.
        what: &'static str,
        /// How many are desired.
        count: usize,
        /// How many fit.
        limit: u32,
    },
}

/// Plans the way from `actual` to `desired`. All errors are collected.
pub(crate) fn plan(actual: &State, desired: &Desired, default: FailMode) -> Result<Plan, Vec<PlanError>> {
    let mut compiler = Compiler { state: State::default(), errors: Vec::new(), default };
    compiler.pods(desired);
    compiler.places(desired);
    compiler.policies(desired);
    compiler.services(actual, desired);
    compiler.check_sizes();
    let Compiler { state, errors, .. } = compiler;
    if !errors.is_empty() {
        return Err(errors);
    }
    let flags = if state.policies.is_empty() { 0 } else { Config::POLICIES };
    Ok(Plan {
        pods: diff(&actual.pods, &state.pods),
        netns: diff(&actual.netns, &state.netns),
        places: diff(&actual.places, &state.places),
        services: diff(&actual.services, &state.services),
        sets: diff(&actual.sets, &state.sets),
        policies: diff(&actual.policies, &state.policies),
        node_addresses: diff(&actual.node_addresses, &state.node_addresses),
        flags,
    })
}

/// What to write and remove to get from one map to the other.
pub(crate) fn diff<K: Ord + Clone, V: PartialEq + Clone>(
    actual: &BTreeMap<K, V>,
    desired: &BTreeMap<K, V>,
) -> Change<K, V> {
    let set: Vec<_> = desired
        .iter()
        .filter(|(key, value)| actual.get(key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let added = set.iter().filter(|(key, _)| !actual.contains_key(key)).count();
    let remove = actual.keys().filter(|key| !desired.contains_key(key)).cloned().collect();
    Change { set, remove, added }
}

struct Compiler {
    state: State,
    errors: Vec<PlanError>,
    default: FailMode,
}

impl Compiler {
    fn pods(&mut self, desired: &Desired) {
        for (ifindex, pod) in &desired.pods {
            if pod.addresses.len() > MAX_POD_ADDRESSES {
                self.errors.push(PlanError::Addresses(*ifindex, pod.addresses.len()));
                continue;
            }
            self.state.pods.insert(ifindex.0, pod_record(pod, self.default));
            if let Some(cookie) = pod.netns_cookie {
                self.state.netns.insert(cookie, 1);
            }
        }
        let addresses = desired.node_addresses.iter().map(|ip| (Addr::from(*ip), 1));
        self.state.node_addresses.extend(addresses);
    }

    fn places(&mut self, desired: &Desired) {
        for (prefix, ends) in &desired.places {
            match place_key(prefix) {
                Some(key) => {
                    self.state
                        .places
                        .insert(key, PlaceRecord { source: ends.source, guard: ends.guard, mtls: ends.mtls });
                }
                None => self.errors.push(PlanError::Prefix(*prefix)),
            }
        }
    }

    fn policies(&mut self, desired: &Desired) {
        let keys = desired.policies.iter().map(|(policy, answer)| {
            (policy_key(policy), PolicyRecord { verdict: answer.verdict as u32, rule: answer.rule })
        });
        self.state.policies.extend(keys);
    }

    fn services(&mut self, actual: &State, desired: &Desired) {
        let mut fresh = actual.sets.keys().next_back().map_or(1, |last| last.wrapping_add(1));
        for (address, action) in &desired.services {
            let key = service_key(address);
            if address.port == 0 {
                self.errors.push(PlanError::Port(*address));
            }
            let ServiceAction::Balance(backends) = action else {
                let record = ServiceRecord { action: Action::Proxy as u32, ..ServiceRecord::default() };
                self.state.services.insert(key, record);
                continue;
            };
            if backends.iter().any(|(backend, _)| backend.port() == 0) {
                self.errors.push(PlanError::Port(*address));
            }
            if backends.iter().any(|(backend, _)| backend.is_ipv4() != address.ip.is_ipv4()) {
                self.errors.push(PlanError::Family(*address));
            }
            let columns = backend_records(backends);
            let set = self.set_for(&key, &columns, actual, &mut fresh);
            let record = ServiceRecord { action: Action::Balance as u32, set, backends: columns.len() as u32 };
            self.state.services.insert(key, record);
            if !columns.is_empty() {
                self.state.sets.insert(set, columns);
            }
        }
    }

    /// The set a service has, if its content stays; else a number nobody uses. Sets are never
    /// changed in place, so that a draw sees all of the old or all of the new.
    fn set_for(&self, key: &ServiceKey, columns: &[BackendRecord], actual: &State, fresh: &mut u32) -> u32 {
        if columns.is_empty() {
            return 0;
        }
        if let Some(record) = actual.services.get(key)
            && record.action == Action::Balance as u32
            && actual.sets.get(&record.set).is_some_and(|set| set == columns)
            && !self.state.sets.contains_key(&record.set)
        {
            return record.set;
        }
        while *fresh == 0 || actual.sets.contains_key(fresh) || self.state.sets.contains_key(fresh) {
            *fresh = fresh.wrapping_add(1);
        }
        *fresh
    }

    fn check_sizes(&mut self) {
        let backends = self.state.sets.values().map(Vec::len).sum();
        for (what, count, limit) in [
            ("pods", self.state.pods.len(), MAX_PODS),
            ("services", self.state.services.len(), MAX_SERVICES),
            // Half, because old and new sets exist together for a moment.
            ("backends", backends, MAX_BACKENDS / 2),
            ("policies", self.state.policies.len(), MAX_POLICIES),
            ("places", self.state.places.len(), MAX_PLACES),
            ("node addresses", self.state.node_addresses.len(), MAX_NODE_ADDRESSES),
        ] {
            if count > limit as usize {
                self.errors.push(PlanError::Full { what, count, limit });
            }
        }
    }
}

fn pod_record(pod: &PodEntry, default: FailMode) -> PodRecord {
    let mut record = PodRecord { guard: pod.guard, mtls: pod.mtls, ..PodRecord::default() };
    for (slot, ip) in record.addresses.iter_mut().zip(&pod.addresses) {
        *slot = Addr::from(*ip);
    }
    if pod.fail_mode.unwrap_or(default) == FailMode::Open {
        record.flags |= PodRecord::FAIL_OPEN;
    }
    record
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    }
}

fn service_key(address: &ServiceAddr) -> ServiceKey {
    ServiceKey {
        address: Addr::from(address.ip),
        port: address.port.to_be(),
        protocol: number(address.protocol),
        zero: 0,
    }
}

fn policy_key(policy: &Policy) -> PolicyKey {
    let (protocol, port) = policy.port.map_or((0, 0), |(protocol, port)| (number(protocol), port));
    PolicyKey {
        source: policy.source.unwrap_or(SOURCE_ANY),
        guard: policy.guard,
        port: port.to_be(),
        protocol,
        zero: 0,
    }
}

/// Prefix length in the mapped form, and the address with the other bits cleared.
fn place_key(prefix: &Prefix) -> Option<(u32, Addr)> {
    let (offset, width) = if prefix.ip.is_ipv4() { (96, 32) } else { (0, 128) };
    if prefix.bits > width {
        return None;
    }
    let bits = offset + u32::from(prefix.bits);
    let octets = u128::from_be_bytes(Addr::from(prefix.ip).octets());
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    Some((bits, Addr::v6((octets & mask).to_be_bytes())))
}

fn backend_records(backends: &[(std::net::SocketAddr, u32)]) -> Vec<BackendRecord> {
    let weights: Vec<u32> = backends.iter().map(|(_, weight)| *weight).collect();
    alias::columns(&weights)
        .into_iter()
        .map(|column| {
            let (first, second) = (backends[column.first].0, backends[column.second].0);
            BackendRecord {
                address: Addr::from(first.ip()),
                alias: Addr::from(second.ip()),
                port: first.port().to_be(),
                alias_port: second.port().to_be(),
                threshold: column.threshold,
            }
        })
        .collect()
}

/// Adds the addresses of this node's links to those the caller named.
pub(crate) fn with_addresses(desired: &Desired, addresses: &BTreeSet<IpAddr>) -> Desired {
    let mut desired = desired.clone();
    desired.node_addresses.extend(addresses);
    desired
}

#[cfg(test)]
mod tests;
