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
        Endpoint { addresses, workload: None, version: None, node: None, zone: None, weight: Weight::default() }
    };
    let name = ClusterName { service: ServiceName::new("default", "a"), port: 80 };
    Cluster::new(name, Protocol::Http, endpoints.iter().map(endpoint).collect())
}

/// Every address that a client of this family is led to.
fn reached(cluster: &Cluster, family: Family) -> Vec<String> {
    let addresses = cluster.endpoints_for(family).iter().map(|endpoint| endpoint.address(family));
    let addresses: BTreeSet<SocketAddr> = addresses.collect();
    addresses.iter().map(SocketAddr::to_string).collect()
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
fn an_address_of_ipv4_in_a_socket_of_ipv6_is_of_ipv4() {
    for (address, family) in
        [("10.0.0.1", Family::V4), ("::ffff:10.0.0.1", Family::V4), ("::1", Family::V6), ("fd42::1", Family::V6)]
    {
        assert_eq!(Family::of(address.parse().unwrap()), family, "{address}");
    }
}
