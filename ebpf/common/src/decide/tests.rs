//! Tables of decisions.

extern crate std;

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::*;
use crate::{SOURCE_UNKNOWN, TCP};

impl Policies for BTreeMap<PolicyKey, Policy> {
    fn find(&self, key: &PolicyKey) -> Option<Policy> {
        self.get(key).copied()
    }
}

fn key(source: u32, port: u16) -> PolicyKey {
    let protocol = if port == 0 { 0 } else { TCP };
    PolicyKey { source, guard: 8, port: port.to_be(), protocol, zero: 0 }
}

#[test]
fn the_more_specific_policy_wins() {
    // Each list is in order of precedence: the first present one decides.
    let order = [key(7, 80), key(7, 0), key(SOURCE_ANY, 80), key(SOURCE_ANY, 0)];
    let tuple = Tuple { dst_port: 80u16.to_be(), protocol: TCP, ..Tuple::default() };
    let policy = |verdict, rule| Policy { verdict, rule };
    for (rank, winner) in order.iter().enumerate() {
        let mut policies = BTreeMap::from([(*winner, policy(Verdict::Proxy, 3))]);
        policies.extend(order[rank + 1..].iter().map(|key| (*key, policy(Verdict::Direct, 0))));
        assert_eq!(find_policy(&policies, 7, 8, &tuple), policy(Verdict::Proxy, 3), "rank {rank}");
    }
    let of_others = [key(6, 80), key(7, 81), PolicyKey { guard: 9, ..key(7, 80) }, key(SOURCE_UNKNOWN, 0)];
    let others: BTreeMap<_, _> = of_others.map(|key| (key, Policy::NONE)).into();
    assert_eq!(find_policy(&others, 7, 8, &tuple), policy(Verdict::Deny, 0), "a guard that is silent denies");
    assert_eq!(find_policy(&others, 7, GUARD_NONE, &tuple), Policy::NONE);
}

#[test]
fn numbers_of_verdicts_round_trip_and_unknown_ones_deny() {
    for verdict in [Verdict::Direct, Verdict::Proxy, Verdict::Deny, Verdict::Audit] {
        assert_eq!(Verdict::from_number(verdict as u32), verdict);
    }
    assert_eq!(Verdict::from_number(0), Verdict::Deny);
    assert_eq!(Verdict::from_number(99), Verdict::Deny);
}

#[test]
fn answers_come_in_time() {
    for (now, seen, expected) in
        [(5, 5, true), (125, 5, true), (126, 5, false), (10, u32::MAX - 10, true), (5, 6, false)]
    {
        assert_eq!(is_answer_in_time(now, seen), expected, "{now} {seen}");
    }
}

#[test]
fn first_packets_go_where_they_belong() {
    let service = |action: ServiceAction| Some(ServiceRecord { action: action as u32, ..ServiceRecord::default() });
    let proxied = service(ServiceAction::Proxy);
    let balanced = service(ServiceAction::Balance);
    let (node, other) = (AddressKind::Node, AddressKind::Other);
    let (direct, proxy, deny, audit) = (Verdict::Direct, Verdict::Proxy, Verdict::Deny, Verdict::Audit);
    // destination, service, policy, steerable, proxy alive, fail open => path, reason
    for (destination, service, policy, steerable, alive, open, path, reason) in [
        (other, None, direct, true, true, false, Path::Direct, Reason::PassedDirect),
        (other, proxied, direct, true, true, false, Path::Proxy, Reason::Steered),
        (other, balanced, direct, true, true, false, Path::Direct, Reason::PassedDirect),
        (other, balanced, proxy, true, true, false, Path::Proxy, Reason::Steered),
        (other, None, proxy, true, true, false, Path::Proxy, Reason::Steered),
        (other, proxied, direct, false, true, false, Path::Direct, Reason::PassedDirect),
        (other, proxied, deny, true, true, false, Path::Drop, Reason::DeniedPolicy),
        (node, None, deny, true, true, false, Path::Drop, Reason::DeniedPolicy),
        (node, proxied, proxy, true, true, false, Path::Direct, Reason::PassedNode),
        (other, proxied, direct, true, false, false, Path::Drop, Reason::DroppedNoProxy),
        (other, proxied, direct, true, false, true, Path::Direct, Reason::PassedNoProxy),
        (other, None, direct, true, false, false, Path::Direct, Reason::PassedDirect),
        (other, proxied, deny, true, false, true, Path::Drop, Reason::DeniedPolicy),
        (other, None, proxy, false, true, true, Path::Drop, Reason::DeniedPolicy),
        (other, None, audit, true, true, false, Path::Direct, Reason::PassedDirect),
        (other, proxied, audit, true, true, false, Path::Proxy, Reason::Steered),
    ] {
        let first = FirstPacket { destination, service, policy, is_steerable: steerable };
        let decision = decide_first(&first, || alive, open);
        assert_eq!(decision, Decision { path, reason }, "{first:?} alive {alive} open {open}");
    }
}

#[test]
fn a_pod_sends_only_from_its_own_addresses() {
    let addr = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());
    let mut pod = PodRecord::default();
    pod.addresses[0] = addr("10.0.0.1");
    pod.addresses[1] = addr("fd00::1");
    for (src, dst, own) in [
        ("10.0.0.1", "10.0.0.2", true),
        ("10.0.0.2", "10.0.0.3", false),
        ("0.0.0.0", "255.255.255.255", false),
        ("fd00::1", "fd00::2", true),
        ("fd00::2", "fd00::3", false),
        ("fe80::1", "fd00::2", false),
        ("fe80::1", "fe80::2", true),
        ("fe80::1", "ff02::1", true),
        ("::", "ff02::1", true),
        ("::", "fd00::2", false),
        ("::ffff:10.0.0.1", "10.0.0.2", true),
    ] {
        assert_eq!(is_own_source(&pod, &addr(src), &addr(dst)), own, "{src} to {dst}");
    }
    for (address, own) in [("fd00::1", true), ("fd00::2", false), ("fe80::1", true), ("::", true), ("10.0.0.2", false)]
    {
        assert_eq!(is_own_on_link(&pod, &addr(address)), own, "{address}");
    }
    for (sender, own) in [("10.0.0.1", true), ("0.0.0.0", true), ("10.0.0.2", false)] {
        assert_eq!(is_own_neighbour(&pod, &addr(sender)), own, "{sender}");
    }
}
