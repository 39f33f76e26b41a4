//! Clusters: named sets of endpoints, and which endpoint takes a request.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::name::ClusterName;

/// One address behind a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens: the pod's address and target port.
    pub address: SocketAddr,
    /// Name of the pod, if the documents say which pod has this address.
    pub workload: Option<Arc<str>>,
    /// Version label of that pod.
    pub version: Option<Arc<str>>,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
}

/// A named set of endpoints. Only endpoints that are ready are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Service and port it stands for.
    pub name: ClusterName,
    /// Ready endpoints, sorted by address and without duplicates.
    pub endpoints: Vec<Endpoint>,
}

impl Cluster {
    /// Picks the endpoint for a request: of two taken at random, the one with less `load` (power of two choices).
    /// `roll` is a random number from the whole range of `u64`. `None` when no endpoint is ready.
    ///
    /// Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12 (2001).
    pub fn pick(&self, roll: u64, load: impl Fn(&Endpoint) -> u32) -> Option<&Endpoint> {
        match self.endpoints.as_slice() {
            [] => None,
            [only] => Some(only),
            many => {
                let count = many.len() as u64;
                let first = (roll >> 32) % count;
                // The second is drawn from the others, so that the two always differ.
                let second = (first + 1 + (roll & 0xffff_ffff) % (count - 1)) % count;
                let (first, second) = (&many[first as usize], &many[second as usize]);
                Some(if load(second) < load(first) { second } else { first })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ServiceName;

    fn cluster(count: u8) -> Cluster {
        let endpoint =
            |n| Endpoint { address: SocketAddr::from(([10, 0, 0, n], 80)), workload: None, version: None, node: None };
        Cluster {
            name: ClusterName { service: ServiceName::new("default", "a"), port: 80 },
            endpoints: (0..count).map(endpoint).collect(),
        }
    }

    #[test]
    fn empty_and_single_need_no_choice() {
        assert_eq!(cluster(0).pick(7, |_| 0), None);
        assert_eq!(cluster(1).pick(u64::MAX, |_| 9).map(|e| e.address.port()), Some(80));
    }

    #[test]
    fn the_less_loaded_of_two_distinct_endpoints_wins() {
        let cluster = cluster(2);
        for roll in [0, 1, u64::MAX, 1 << 32, (1 << 32) + 1] {
            let busy_first = cluster.pick(roll, |e| u32::from(e.address == cluster.endpoints[0].address));
            assert_eq!(busy_first, Some(&cluster.endpoints[1]), "roll {roll}");
        }
    }

    #[test]
    fn every_endpoint_is_reachable() {
        let cluster = cluster(5);
        let mut seen = std::collections::BTreeSet::new();
        for first in 0..5_u64 {
            seen.insert(cluster.pick(first << 32, |_| 0).unwrap().address);
        }
        assert_eq!(seen.len(), 5);
    }
}
