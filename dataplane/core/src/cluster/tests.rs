use std::collections::BTreeSet;

use super::*;
use crate::name::ServiceName;

/// Endpoints as text: one address, or `v4+v6`.
fn cluster(endpoints: &[&str]) -> Cluster {
    let endpoint = |text: &&str| {
        let addresses = match text.split_once('+') {
            Some((v4, v6)) => Addresses::Both(v4.parse().unwrap(), v6.parse().unwrap()),
            None => text.parse::<SocketAddr>().unwrap().into(),
        };
        Endpoint { addresses, workload: None, version: None, node: None }
    };
    let name = ClusterName { service: ServiceName::new("default", "a"), port: 80 };
    Cluster::new(name, Protocol::Http, endpoints.iter().map(endpoint).collect())
}

/// Every address that some roll leads a client of this family to.
fn reached(cluster: &Cluster, family: Family) -> Vec<String> {
    let count = cluster.endpoints().len() as u64;
    let rolls = (0..count * count).map(|n| ((n / count.max(1)) << 32) | (n % count.max(1)));
    let picked = rolls.filter_map(|roll| cluster.pick(family, roll, |_| 0));
    let picked: BTreeSet<SocketAddr> = picked.map(|endpoint| endpoint.address(family)).collect();
    picked.iter().map(SocketAddr::to_string).collect()
}

#[test]
fn a_client_reaches_the_addresses_of_its_family_else_the_others() {
    let cases: [(&[&str], &[&str], &[&str]); 6] = [
        (&[], &[], &[]),
        (&["10.0.0.1:80", "10.0.0.2:80"], &["10.0.0.1:80", "10.0.0.2:80"], &["10.0.0.1:80", "10.0.0.2:80"]),
        (&["[fd::1]:80"], &["[fd::1]:80"], &["[fd::1]:80"]),
        (&["10.0.0.1:80+[fd::1]:80"], &["10.0.0.1:80"], &["[fd::1]:80"]),
        (&["10.0.0.1:80", "[fd::2]:80"], &["10.0.0.1:80"], &["[fd::2]:80"]),
        (
            &["[fd::3]:80", "10.0.0.9:80", "10.0.0.2:80+[fd::1]:80", "10.0.0.1:80+[fd::9]:80", "[fd::2]:80"],
            &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80"],
            &["[fd::1]:80", "[fd::2]:80", "[fd::3]:80", "[fd::9]:80"],
        ),
    ];
    for (endpoints, v4, v6) in cases {
        let cluster = cluster(endpoints);
        assert_eq!(cluster.endpoints().len(), endpoints.len());
        assert_eq!(reached(&cluster, Family::V4), v4, "{endpoints:?} by IPv4");
        assert_eq!(reached(&cluster, Family::V6), v6, "{endpoints:?} by IPv6");
    }
}

#[test]
fn the_order_of_endpoints_does_not_depend_on_that_of_documents() {
    let one = ["[fd::3]:80", "10.0.0.9:80", "10.0.0.2:80+[fd::1]:80"];
    let other = ["10.0.0.2:80+[fd::1]:80", "[fd::3]:80", "10.0.0.9:80"];
    assert_eq!(cluster(&one), cluster(&other));
}

#[test]
fn the_less_loaded_of_two_distinct_endpoints_wins() {
    for endpoints in [["10.0.0.1:80", "10.0.0.2:80"], ["10.0.0.1:80+[fd::1]:80", "10.0.0.2:80+[fd::2]:80"]] {
        let cluster = cluster(&endpoints);
        for family in [Family::V4, Family::V6] {
            for roll in [0, 1, u64::MAX, 1 << 32, (1 << 32) + 1] {
                let busy_first = cluster.pick(family, roll, |e| u32::from(*e == cluster.endpoints()[0]));
                assert_eq!(busy_first, Some(&cluster.endpoints()[1]), "roll {roll}");
            }
        }
    }
}

#[test]
fn a_single_endpoint_needs_no_choice() {
    let cluster = cluster(&["10.0.0.1:80"]);
    let picked = cluster.pick(Family::V6, u64::MAX, |_| panic!("nobody asks for its load"));
    assert_eq!(picked, Some(&cluster.endpoints()[0]));
}

#[test]
fn an_address_of_ipv4_in_a_socket_of_ipv6_is_of_ipv4() {
    for (address, family) in
        [("10.0.0.1", Family::V4), ("::ffff:10.0.0.1", Family::V4), ("::1", Family::V6), ("fd42::1", Family::V6)]
    {
        assert_eq!(Family::of(address.parse().unwrap()), family, "{address}");
    }
}
