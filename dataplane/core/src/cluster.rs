//! Clusters: named sets of endpoints.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::{Arc, LazyLock};

use crate::balance::{TrafficPolicy, Weight, Weights};
use crate::name::ClusterName;
use crate::snapshot::Protocol;

/// A version of the Internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address. One of IPv4 that a socket of IPv6 shows (`::ffff:10.0.0.1`) is of IPv4.
    pub fn of(address: IpAddr) -> Self {
        if address.to_canonical().is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Where an endpoint listens: at one address, or at one of each family.
// The order of the variants is what `Cluster` sorts by: those with IPv4 come first, those with IPv6 last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addresses {
    /// Only of IPv4.
    V4(SocketAddrV4),
    /// One of each, both of the same pod.
    Both(SocketAddrV4, SocketAddrV6),
    /// Only of IPv6.
    V6(SocketAddrV6),
}

impl From<SocketAddr> for Addresses {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(address),
            SocketAddr::V6(address) => Self::V6(address),
        }
    }
}

impl Addresses {
    /// The address of this family, if there is one.
    pub fn of(&self, family: Family) -> Option<SocketAddr> {
        match (self, family) {
            (Self::V4(v4) | Self::Both(v4, _), Family::V4) => Some((*v4).into()),
            (Self::V6(v6) | Self::Both(_, v6), Family::V6) => Some((*v6).into()),
            (Self::V4(_), Family::V6) | (Self::V6(_), Family::V4) => None,
        }
    }

    /// All of them, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> {
        [Family::V4, Family::V6].into_iter().filter_map(|family| self.of(family))
    }
}

/// What listens behind a cluster: one pod, however many families it has addresses of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens: the pod's addresses and target port.
    pub addresses: Addresses,
    /// Name of the pod, if the documents say which pod has this address.
    pub workload: Option<Arc<str>>,
    /// Version label of that pod.
    pub version: Option<Arc<str>>,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// The zone of that.
    pub zone: Option<Arc<str>>,
    /// How much it is to take beside the others.
    pub weight: Weight,
}

impl Endpoint {
    /// Where a client of this family is connected to: the address of its own family, else the other.
    pub fn address(&self, family: Family) -> SocketAddr {
        match (self.addresses, family) {
            (Addresses::V4(v4), _) | (Addresses::Both(v4, _), Family::V4) => v4.into(),
            (Addresses::V6(v6), _) | (Addresses::Both(_, v6), Family::V6) => v6.into(),
        }
    }
}

/// A named set of endpoints. Only endpoints that are ready are in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Service and port it stands for.
    pub name: ClusterName,
    /// What the endpoints speak.
    pub protocol: Protocol,
    /// How they are treated.
    pub policy: Arc<TrafficPolicy>,
    /// Sorted, so that the endpoints with addresses of a family are neighbours.
    endpoints: Vec<Endpoint>,
    /// How many of the first have an address of IPv4.
    v4: usize,
    /// How many of the last have an address of IPv6.
    v6: usize,
}

impl Cluster {
    /// A cluster of these endpoints, in any order.
    pub fn new(name: ClusterName, protocol: Protocol, mut endpoints: Vec<Endpoint>) -> Self {
        endpoints.sort_by_key(|endpoint| endpoint.addresses);
        let count = |family| endpoints.iter().filter(|endpoint| endpoint.addresses.of(family).is_some()).count();
        let (v4, v6) = (count(Family::V4), count(Family::V6));
        Self { name, protocol, policy: usual_policy(), endpoints, v4, v6 }
    }

    /// The endpoint that has this address.
    pub fn endpoint_at(&self, address: SocketAddr) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.addresses.iter().any(|own| own == address))
    }

    /// Whether requests must be shared between the endpoints in a way that only the proxy can.
    pub fn needs_proxy(&self) -> bool {
        self.policy.needs_proxy() || !Weights::new(self.endpoints.iter().map(|endpoint| endpoint.weight)).are_equal()
    }

    /// The same cluster, treated in this way.
    #[must_use]
    pub fn with_policy(self, policy: Arc<TrafficPolicy>) -> Self {
        Self { policy, ..self }
    }

    /// All endpoints, each pod once: those of IPv4 alone, those of both families, those of IPv6 alone; each by address.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The endpoints that take requests of clients of this family: as with kube-proxy those that have an address of
    /// it. Unlike with kube-proxy, which cannot lead from one family to the other, all when none has.
    pub fn endpoints_for(&self, family: Family) -> &[Endpoint] {
        let own = match family {
            Family::V4 => &self.endpoints[..self.v4],
            Family::V6 => &self.endpoints[self.endpoints.len() - self.v6..],
        };
        if own.is_empty() { &self.endpoints } else { own }
    }
}

/// The policy of nearly all clusters, once.
fn usual_policy() -> Arc<TrafficPolicy> {
    static USUAL: LazyLock<Arc<TrafficPolicy>> = LazyLock::new(Arc::default);
    Arc::clone(&USUAL)
}

#[cfg(test)]
mod tests;
