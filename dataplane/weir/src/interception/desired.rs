//! Documents and links as the kernel sees them: pure functions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weir_core::authorization::table::{Entry, Key, Table, Transport};
use weir_core::authorization::{self, Block};
use weir_core::cluster::Family;
use weir_core::snapshot::{Frontend, Protocol, Snapshot};
use weir_core::workload::Enrolment;
use weir_kernel::pods::{PodLink, PodLinks};
use weir_kernel::{
    self as kernel, Answer, Ends, IfIndex, PodEntry, Policy, Prefix, ServiceAction, ServiceAddr, Verdict,
};

use super::{Services, Workloads};

/// The addresses that each pod had when it was first seen. A pod that may configure its own link can add addresses,
/// also those of others; it does not become them by that.
#[derive(Debug, Default)]
pub(super) struct Sightings(BTreeMap<(IfIndex, u64), BTreeSet<IpAddr>>);

impl Sightings {
    /// Takes in which pods there are now.
    pub(super) fn update(&mut self, links: &PodLinks) {
        let key = |link: &PodLink| (link.ifindex, link.netns_cookie);
        let mut before = std::mem::take(&mut self.0);
        for link in links.pods.iter().filter(|link| !link.addresses.is_empty()) {
            let first = before.remove(&key(link)).unwrap_or_else(|| link.addresses.clone());
            self.0.insert(key(link), first);
        }
    }

    pub(super) fn addresses(&self, link: &PodLink) -> Option<&BTreeSet<IpAddr>> {
        self.0.get(&(link.ifindex, link.netns_cookie))
    }
}

/// What the kernel does with each service. Without connect hooks (`balances`) it knows only those that rules concern.
/// On a node that makes tunnels (`node` is its name), those with endpoints elsewhere are the proxy's, too.
pub(super) fn services(snapshot: &Snapshot, balances: bool, node: Option<&str>) -> Services {
    let mut services = Services::new();
    for frontend in snapshot.frontends() {
        for address in &frontend.addresses {
            let Some(action) = action((snapshot, node), frontend, address, balances) else { continue };
            let protocol = match frontend.protocol {
                Protocol::Udp => kernel::Protocol::Udp,
                Protocol::Http | Protocol::Http2 | Protocol::Detect | Protocol::Opaque => kernel::Protocol::Tcp,
            };
            services.entry(ServiceAddr { ip: address.ip(), port: address.port(), protocol }).or_insert(action);
        }
    }
    services
}

fn action(
    (snapshot, node): (&Snapshot, Option<&str>),
    frontend: &Frontend,
    address: &SocketAddr,
    balances: bool,
) -> Option<ServiceAction> {
    if snapshot.is_intercepted(frontend) || node.is_some_and(|node| snapshot.needs_tunnels(frontend, node)) {
        return Some(ServiceAction::Proxy);
    }
    // The kernel translates an address to another of its own family only.
    let family = Family::of(address.ip());
    let endpoints = Snapshot::endpoints_of(frontend).iter().filter_map(|endpoint| endpoint.addresses.of(family));
    balances.then(|| ServiceAction::Balance(endpoints.map(|endpoint| (endpoint, 1)).collect()))
}

/// What serves both the snapshot in force and the candidate: whatever one of them wants proxied is, for the proxy
/// knows what to do with a service without rules; everything else as the candidate wants it.
pub(super) fn union(in_force: &Services, candidate: Services) -> Services {
    let mut both = candidate;
    for (service, action) in in_force {
        match both.get_mut(service) {
            Some(wanted) if *action == ServiceAction::Proxy => *wanted = ServiceAction::Proxy,
            Some(_) => {}
            None => drop(both.insert(*service, action.clone())),
        }
    }
    both
}

/// The enrolled pods: every link whose pod is not said to be outside. A pod may send from the addresses that documents
/// give it, or, where no document knows it, from those that it had when it was first seen.
pub(super) fn pods(
    links: &PodLinks,
    sightings: &Sightings,
    workloads: &Workloads,
    table: &Table,
) -> BTreeMap<IfIndex, PodEntry> {
    let mut pods = BTreeMap::new();
    for link in &links.pods {
        let Some(first) = sightings.addresses(link) else { continue };
        let workload = first.iter().find_map(|ip| workloads.get(ip));
        if workload.is_some_and(|workload| workload.enrolment == Enrolment::Outside) {
            continue;
        }
        let documented = workload.map(|workload| workload.addresses.iter().copied().collect());
        let addresses: BTreeSet<IpAddr> = documented.unwrap_or_else(|| first.clone());
        let first_of = |number: fn(&authorization::table::Ends) -> u32| {
            addresses.iter().map(|ip| number(&table.ends(*ip))).find(|number| *number != 0).unwrap_or(0)
        };
        let (guard, mtls) = (first_of(|ends| ends.guard), first_of(|ends| ends.mtls));
        let entry = PodEntry { addresses, guard, mtls, netns_cookie: Some(link.netns_cookie), fail_mode: None };
        pods.insert(link.ifindex, entry);
    }
    pods
}

/// What addresses stand for.
pub(super) fn places(table: &Table) -> BTreeMap<Prefix, Ends> {
    let place = |(block, ends): (&Block, &authorization::table::Ends)| {
        let prefix = Prefix { ip: block.first, bits: block.bits };
        (prefix, Ends { source: ends.source, guard: ends.guard, mtls: ends.mtls })
    };
    table.places.iter().map(place).collect()
}

/// What guards answer.
pub(super) fn policies(table: &Table) -> BTreeMap<Policy, Answer> {
    let policy = |(key, entry): (&Key, &Entry)| {
        let port = key.port.map(|(transport, port)| match transport {
            Transport::Tcp => (kernel::Protocol::Tcp, port),
            Transport::Udp => (kernel::Protocol::Udp, port),
        });
        let verdict = match entry.verdict {
            authorization::Verdict::Allow => Verdict::Direct,
            authorization::Verdict::Audit => Verdict::Audit,
            authorization::Verdict::Ask => Verdict::Proxy,
            authorization::Verdict::Deny => Verdict::Deny,
        };
        (Policy { source: key.source, guard: key.guard, port }, Answer { verdict, rule: entry.ruling })
    };
    table.entries.iter().map(policy).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_core::cluster::{Addresses, Cluster, Endpoint};
    use weir_core::name::{ClusterName, ServiceName};
    use weir_core::revision::{RevisionId, Sequence};
    use weir_core::split::{Destination, Target};
    use weir_core::stats::StatsId;
    use weir_core::workload::Workload;

    use super::*;

    fn address(text: &str) -> ServiceAddr {
        let address: SocketAddr = text.parse().unwrap();
        ServiceAddr { ip: address.ip(), port: address.port(), protocol: kernel::Protocol::Tcp }
    }

    #[test]
    fn while_staged_both_snapshots_are_served() {
        let balance = |to: &str| ServiceAction::Balance(vec![(to.parse().unwrap(), 1)]);
        let in_force = Services::from([
            (address("10.96.0.1:80"), ServiceAction::Proxy),
            (address("10.96.0.2:80"), balance("10.0.0.1:80")),
            (address("10.96.0.3:80"), balance("10.0.0.1:80")),
            (address("10.96.0.4:80"), ServiceAction::Proxy),
        ]);
        let candidate = Services::from([
            (address("10.96.0.1:80"), balance("10.0.0.1:80")),
            (address("10.96.0.2:80"), ServiceAction::Proxy),
            (address("10.96.0.3:80"), balance("10.0.0.9:80")),
            (address("10.96.0.5:80"), ServiceAction::Proxy),
        ]);
        let expected = Services::from([
            (address("10.96.0.1:80"), ServiceAction::Proxy),
            (address("10.96.0.2:80"), ServiceAction::Proxy),
            (address("10.96.0.3:80"), balance("10.0.0.9:80")),
            (address("10.96.0.4:80"), ServiceAction::Proxy),
            (address("10.96.0.5:80"), ServiceAction::Proxy),
        ]);
        assert_eq!(union(&in_force, candidate), expected);
    }

    #[test]
    fn an_address_leads_to_addresses_of_its_family() {
        let name = ClusterName { service: ServiceName::new("default", "a"), port: 80 };
        let both = Addresses::Both("10.0.0.1:80".parse().unwrap(), "[fd::1]:80".parse().unwrap());
        let four: SocketAddr = "10.0.0.2:80".parse().unwrap();
        let endpoint = |addresses| Endpoint {
            addresses,
            workload: None,
            version: None,
            node: None,
            zone: None,
            weight: weir_core::balance::Weight::default(),
        };
        let cluster = Cluster::new(name.clone(), Protocol::Opaque, vec![endpoint(both), endpoint(four.into())]);
        let service = Destination::new(name.clone(), Target::Cluster(Arc::new(cluster)), 1, StatsId(0));
        let addresses = vec!["10.96.0.1:80".parse().unwrap(), "[fd96::1]:80".parse().unwrap()];
        let frontend = Frontend { addresses, ..Frontend::new(name, Protocol::Opaque, service) };
        let snapshot = Snapshot::new(Sequence(1), RevisionId::of([]), vec![Arc::new(frontend)], &[]);
        let balance = |to: &[&str]| ServiceAction::Balance(to.iter().map(|to| (to.parse().unwrap(), 1)).collect());
        let expected = Services::from([
            (address("10.96.0.1:80"), balance(&["10.0.0.2:80", "10.0.0.1:80"])),
            (address("[fd96::1]:80"), balance(&["[fd::1]:80"])),
        ]);
        assert_eq!(services(&snapshot, true, None), expected);
        assert_eq!(services(&snapshot, false, None), Services::new());
    }

    #[test]
    fn pods_are_enrolled_unless_said_otherwise() {
        let link = |ifindex: u32, ip: &str| PodLink {
            ifindex: IfIndex(ifindex),
            name: format!("veth{ifindex}"),
            netns: format!("/run/netns/{ifindex}").into(),
            netns_cookie: u64::from(ifindex),
            addresses: BTreeSet::from([ip.parse().unwrap()]),
        };
        let workload = |ip: &str, enrolment| {
            let ip: IpAddr = ip.parse().unwrap();
            let addresses = vec![ip];
            let workload = Workload { addresses, enrolment, ..Workload::new(&"default".into(), &"a".into(), "web") };
            (ip, Arc::new(workload))
        };
        let links = PodLinks {
            pods: vec![link(1, "10.0.0.1"), link(2, "10.0.0.2"), link(3, "10.0.0.3"), link(4, "10.0.0.4")],
            ..PodLinks::default()
        };
        let workloads = Workloads::from([
            workload("10.0.0.1", Enrolment::Enrolled),
            workload("10.0.0.2", Enrolment::Outside),
            workload("10.0.0.4", Enrolment::Enrolled),
        ]);
        let mut sightings = Sightings::default();
        sightings.update(&links);
        let place = |ip: &str, guard| {
            (ip.parse::<Block>().unwrap(), authorization::table::Ends { guard, ..Default::default() })
        };
        let places = [place("10.0.0.1", 7), place("10.0.0.2", 8), place("10.0.0.4", 7)].into();
        let pods = pods(&links, &sightings, &workloads, &Table { places, ..Table::default() });
        let found: Vec<(u32, u32)> = pods.iter().map(|(index, pod)| (index.0, pod.guard)).collect();
        // The third is known by its link alone.
        assert_eq!(found, [(1, 7), (3, 0), (4, 7)]);
    }

    #[test]
    fn an_address_that_a_pod_adds_is_not_its_own() {
        let links = |addresses: &[&str]| PodLinks {
            pods: vec![PodLink {
                ifindex: IfIndex(1),
                name: "veth1".to_owned(),
                netns: "/run/netns/1".into(),
                netns_cookie: 7,
                addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            }],
            ..PodLinks::default()
        };
        let mut sightings = Sightings::default();
        let (first, later) = (links(&["10.0.0.1"]), links(&["10.0.0.1", "10.0.0.66"]));
        sightings.update(&first);
        sightings.update(&later);
        let pods = pods(&later, &sightings, &Workloads::new(), &Table::default());
        assert_eq!(pods[&IfIndex(1)].addresses, first.pods[0].addresses);
    }
}
