//! Plans lead where they should, and no further.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use weir_ebpf_common::Verdict;

use crate::{Answer, Ends};

fn service(text: &str) -> ServiceAddr {
    let address: SocketAddr = text.parse().unwrap();
    ServiceAddr { ip: address.ip(), port: address.port(), protocol: Protocol::Tcp }
}

fn balance(backends: &[(&str, u32)]) -> ServiceAction {
    ServiceAction::Balance(backends.iter().map(|(a, w)| (a.parse().unwrap(), *w)).collect())
}

fn pod(addresses: &[&str], number: u32) -> PodEntry {
    PodEntry {
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        guard: number,
        mtls: 0,
        netns_cookie: Some(u64::from(number) + 1000),
        fail_mode: None,
    }
}

fn desired() -> Desired {
    Desired {
        services: BTreeMap::from([
            (service("10.43.0.1:80"), ServiceAction::Proxy),
            (service("10.43.0.2:80"), balance(&[("10.42.0.2:8080", 90), ("10.42.0.3:8080", 10)])),
            (service("[fd43::2]:80"), balance(&[("[fd42::2]:8080", 1)])),
            (service("10.43.0.3:80"), balance(&[])),
        ]),
        pods: BTreeMap::from([(IfIndex(3), pod(&["10.42.0.2", "fd42::2"], 7))]),
        policies: BTreeMap::from([(
            Policy { source: None, guard: 7, port: Some((Protocol::Tcp, 80)) },
            Answer { verdict: Verdict::Deny, rule: 1 },
        )]),
        ..Desired::default()
    }
}

/// What the maps hold after the plan was carried out.
fn apply(mut state: State, plan: &Plan) -> State {
    fn change<K: Ord + Clone, V: Clone>(map: &mut BTreeMap<K, V>, change: &Change<K, V>) {
        map.extend(change.set.iter().cloned());
        change.remove.iter().for_each(|key| drop(map.remove(key)));
    }
    change(&mut state.pods, &plan.pods);
    change(&mut state.netns, &plan.netns);
    change(&mut state.places, &plan.places);
    change(&mut state.services, &plan.services);
    change(&mut state.sets, &plan.sets);
    change(&mut state.policies, &plan.policies);
    change(&mut state.node_addresses, &plan.node_addresses);
    state
}

fn run(actual: &State, desired: &Desired) -> (Plan, State) {
    let plan = plan(actual, desired, FailMode::Closed).unwrap();
    let state = apply(actual.clone(), &plan);
    (plan, state)
}

#[test]
fn a_second_plan_has_nothing_to_do() {
    let (first, state) = run(&State::default(), &desired());
    assert_eq!(first.services.added, 4);
    assert_eq!(first.sets.added, 2);
    assert_eq!(first.flags, Config::POLICIES);
    let (second, after) = run(&state, &desired());
    assert_eq!(after, state);
    assert!(second.services.set.is_empty() && second.sets.set.is_empty() && second.pods.set.is_empty());
    let (last, empty) = run(&state, &Desired::default());
    assert_eq!(empty, State::default());
    assert_eq!(last.flags, 0);
}

#[test]
fn a_changed_set_is_written_anew_and_the_old_one_removed() {
    let (_, before) = run(&State::default(), &desired());
    let key = service_key(&service("10.43.0.2:80"));
    let old = before.services[&key].set;
    let mut next = desired();
    next.services.insert(service("10.43.0.2:80"), balance(&[("10.42.0.2:8080", 50), ("10.42.0.3:8080", 50)]));
    let (plan, after) = run(&before, &next);
    let new = after.services[&key].set;
    assert_ne!(new, old);
    assert_eq!(plan.sets.remove, [old]);
    assert_eq!(plan.services.set.len(), 1, "other services keep their record");
    assert!(after.sets.contains_key(&new) && !after.sets.contains_key(&old));
}

#[test]
fn the_fail_mode_of_a_pod_wins_over_the_nodes() {
    for (node, own, open) in [
        (FailMode::Closed, None, false),
        (FailMode::Open, None, true),
        (FailMode::Closed, Some(FailMode::Open), true),
        (FailMode::Open, Some(FailMode::Closed), false),
    ] {
        let entry = PodEntry { fail_mode: own, ..pod(&["10.0.0.1"], 1) };
        let record = pod_record(&entry, node);
        assert_eq!(record.flags & PodRecord::FAIL_OPEN != 0, open, "{node:?} {own:?}");
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let mut desired = desired();
    desired.services.insert(service("10.43.0.9:0"), ServiceAction::Proxy);
    desired.services.insert(service("10.43.0.8:80"), balance(&[("[fd42::9]:80", 1)]));
    desired.pods.insert(IfIndex(9), pod(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"], 2));
    desired.places.insert(Prefix { ip: "10.0.0.0".parse().unwrap(), bits: 33 }, Ends::default());
    let errors = plan(&State::default(), &desired, FailMode::Closed).unwrap_err();
    assert_eq!(
        errors,
        [
            PlanError::Addresses(IfIndex(9), 5),
            PlanError::Prefix(Prefix { ip: "10.0.0.0".parse().unwrap(), bits: 33 }),
            PlanError::Family(service("10.43.0.8:80")),
            PlanError::Port(service("10.43.0.9:0")),
        ]
    );
}

#[test]
fn prefixes_are_cut_to_their_length() {
    for (ip, bits, expected) in [
        ("10.1.2.3", 8, Some((104, "::ffff:10.0.0.0"))),
        ("10.1.2.3", 32, Some((128, "::ffff:10.1.2.3"))),
        ("10.1.2.3", 0, Some((96, "::ffff:0.0.0.0"))),
        ("fd00:1::9", 16, Some((16, "fd00::"))),
        ("fd00::9", 0, Some((0, "::"))),
        ("10.1.2.3", 33, None),
    ] {
        let key = place_key(&Prefix { ip: ip.parse().unwrap(), bits });
        let expected = expected.map(|(bits, text)| {
            let v6: std::net::Ipv6Addr = text.parse().unwrap();
            (bits, Addr::v6(v6.octets()))
        });
        assert_eq!(key, expected, "{ip}/{bits}");
    }
}

fn any_services() -> impl Strategy<Value = BTreeMap<ServiceAddr, ServiceAction>> {
    let backend = (1u8..5, 0u32..4).prop_map(|(host, weight)| (SocketAddr::from(([10, 42, 0, host], 80)), weight));
    let action = prop_oneof![
        Just(ServiceAction::Proxy),
        proptest::collection::vec(backend, 0..4).prop_map(ServiceAction::Balance),
    ];
    let address = (1u8..6).prop_map(|host| service(&format!("10.43.0.{host}:80")));
    proptest::collection::btree_map(address, action, 0..5)
}

proptest! {
    /// Whatever was there, the plan leads to what is wanted, and every service's set is complete
    /// and its own.
    #[test]
    fn any_change_converges(from in any_services(), to in any_services()) {
        let (_, before) = run(&State::default(), &Desired { services: from, ..Desired::default() });
        let wanted = Desired { services: to, ..Desired::default() };
        let (plan, after) = run(&before, &wanted);
        prop_assert_eq!(after.services.len(), wanted.services.len());
        let mut used = BTreeSet::new();
        for record in after.services.values().filter(|record| record.backends > 0) {
            prop_assert!(used.insert(record.set));
            prop_assert_eq!(after.sets[&record.set].len(), record.backends as usize);
        }
        prop_assert_eq!(used.len(), after.sets.len());
        // No set that stays in use is written.
        for (set, _) in &plan.sets.set {
            prop_assert!(!before.sets.contains_key(set));
        }
    }
}
