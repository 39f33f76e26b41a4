use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::name::ServiceName;
use crate::route::Source;
use crate::workload::Workload;

fn split(sticky: Option<StickyKey>, weights: &[u32]) -> Split {
    let destination = |(index, weight): (usize, &u32)| {
        let name = ClusterName { service: ServiceName::new("default", &format!("v{}", index + 1)), port: 80 };
        Destination::new(name, Target::Unresolved(Unresolved::NoSuchService), *weight, StatsId(0))
    };
    Split { sticky, session: None, destinations: weights.iter().enumerate().map(destination).collect() }
}

fn chosen(split: &Split, user: Option<&str>, roll: u64) -> Option<(String, ChosenBy)> {
    let mut headers = HeaderMap::new();
    if let Some(user) = user {
        headers.insert("x-user", HeaderValue::from_str(user).unwrap());
    }
    let source = Source { address: IpAddr::V4(Ipv4Addr::LOCALHOST), workload: None };
    let request = Request { method: &Method::GET, path: "/", query: None, headers: &headers, source, attributes: &[] };
    split.choose(&request, roll).map(|(destination, by)| (destination.name.service.name.to_string(), by))
}

fn by_user() -> Option<StickyKey> {
    Some(StickyKey::Header(HeaderName::from_static("x-user")))
}

#[test]
fn draws_follow_the_weights() {
    let split = split(None, &[90, 10]);
    let mut counts = BTreeMap::new();
    for step in 0..1000_u64 {
        // Evenly spread rolls make the share exact.
        let (name, by) = chosen(&split, None, step * (u64::MAX / 1000)).unwrap();
        assert_eq!(by, ChosenBy::Draw);
        *counts.entry(name).or_insert(0) += 1;
    }
    assert!((counts["v1"] - 900_i32).abs() <= 1 && (counts["v2"] - 100_i32).abs() <= 1, "{counts:?}");
}

#[test]
fn zero_weights_take_nothing() {
    assert_eq!(chosen(&split(None, &[0, 0]), None, 7), None);
    for roll in [0, 1 << 63, u64::MAX] {
        assert_eq!(chosen(&split(None, &[0, 5]), None, roll), Some(("v2".into(), ChosenBy::Only)));
        let three = chosen(&split(by_user(), &[1, 0, 1]), Some("ann"), roll).unwrap();
        assert_ne!(three.0, "v2");
    }
}

#[test]
fn without_the_key_it_is_a_draw() {
    let split = split(by_user(), &[1, 1]);
    assert_eq!(chosen(&split, None, 0), Some(("v1".into(), ChosenBy::DrawWithoutKey)));
    assert_eq!(chosen(&split, None, u64::MAX), Some(("v2".into(), ChosenBy::DrawWithoutKey)));
}

#[test]
fn sticky_shares_follow_the_weights() {
    let split = split(by_user(), &[95, 5]);
    let on_canary = (0..20_000).filter(|n| chosen(&split, Some(&format!("user-{n}")), 0).unwrap().0 == "v2").count();
    // 5 % of 20,000 with five standard deviations (31) to each side; the hash is fixed, so this cannot flake.
    assert!((845..=1155).contains(&on_canary), "{on_canary}");
}

/// Users of each kind of key.
const USERS: u32 = 10_000;

struct Asked {
    headers: HeaderMap,
    address: IpAddr,
    workload: Workload,
}

/// A request in which the nth value of this key is the only thing of the user's own, unless the key is its address.
fn asked(key: &StickyKey, n: u32) -> Asked {
    let mut headers = HeaderMap::new();
    let mut address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let mut account = "default".to_owned();
    match key {
        StickyKey::Header(name) => drop(headers.insert(name, HeaderValue::from(n))),
        StickyKey::Cookie(name) => {
            let cookies = format!("theme=dark; {name}=user-{n}; other={name}");
            headers.insert(http::header::COOKIE, HeaderValue::from_str(&cookies).unwrap());
        }
        StickyKey::SourceIdentity => account = format!("account-{n}"),
        // Neighbours in one network, as pods are; every other one of IPv6.
        StickyKey::SourceIp if n.is_multiple_of(2) => address = Ipv4Addr::from(0x0a2a_0000 + n).into(),
        StickyKey::SourceIp => address = Ipv6Addr::from(0xfd42_u128 << 112 | u128::from(n)).into(),
    }
    let workload = Workload::new(&"default".into(), &"client".into(), &account);
    Asked { headers, address, workload }
}

/// The versions of all users of a key.
fn versions(key: &StickyKey, weights: &[u32], roll: u64) -> Vec<String> {
    let split = split(Some(key.clone()), weights);
    let version = |n: u32| {
        let Asked { headers, address, workload } = &asked(key, n);
        let source = Source { address: *address, workload: Some(workload) };
        let request = Request { method: &Method::GET, path: "/", query: None, headers, source, attributes: &[] };
        let (destination, by) = split.choose(&request, roll).unwrap();
        let expected = if weights.contains(&0) { ChosenBy::Only } else { ChosenBy::Key };
        assert_eq!(by, expected, "{key:?} of user {n}");
        destination.name.service.name.to_string()
    };
    (0..USERS).map(version).collect()
}

fn every_key() -> [StickyKey; 4] {
    let header = StickyKey::Header(HeaderName::from_static("x-user-id"));
    [header, StickyKey::Cookie("session".into()), StickyKey::SourceIdentity, StickyKey::SourceIp]
}

#[test]
fn users_of_every_key_stay_and_raising_the_canary_only_adds_some() {
    for key in every_key() {
        let steps = [1, 5, 10, 25, 50, 100].map(|percent| (percent, versions(&key, &[100 - percent, percent], 0)));
        for (percent, found) in &steps {
            if *percent < 100 {
                assert_eq!(*found, versions(&key, &[100 - percent, *percent], u64::MAX), "{key:?}: a draw decided");
            }
            let (share, of) = (f64::from(*percent) / 100.0, f64::from(USERS));
            let canary = found.iter().filter(|version| *version == "v2").count() as f64;
            // Five standard deviations of as many draws; the hash is fixed, so that this is the same on every run.
            let tolerance = 5.0 * (of * share * (1.0 - share)).sqrt();
            assert!((canary - of * share).abs() <= tolerance, "{key:?}: {canary} users of {of} at {percent} %");
        }
        for pair in steps.windows(2) {
            let ((low, before), (high, after)) = (&pair[0], &pair[1]);
            let left = before.iter().zip(after).filter(|(before, after)| *before == "v2" && *after != "v2").count();
            assert_eq!(left, 0, "{key:?}: users left the canary from {low} % to {high} %");
        }
    }
}

#[test]
fn with_several_versions_users_only_move_to_the_one_that_is_raised() {
    for key in every_key() {
        let (before, after) = (versions(&key, &[60, 30, 5], 0), versions(&key, &[60, 30, 10], 0));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(moved.iter().all(|(_, after)| *after == "v3"), "{key:?}: {moved:?}");
        // From 5 of 95 to 10 of 100: 4.7 % of all users.
        assert!((400..=550).contains(&moved.len()), "{key:?}: {} moved", moved.len());
    }
}

#[test]
fn the_order_of_destinations_does_not_move_users() {
    let key = &every_key()[0];
    let split = split(Some(key.clone()), &[90, 10]);
    let mut turned = split.clone();
    turned.destinations.reverse();
    for n in 0..USERS {
        let Asked { headers, address, .. } = &asked(key, n);
        let source = Source { address: *address, workload: None };
        let request = Request { method: &Method::GET, path: "/", query: None, headers, source, attributes: &[] };
        let name = |split: &Split| split.choose(&request, 0).map(|(destination, _)| destination.name.clone());
        assert_eq!(name(&split), name(&turned), "user {n}");
    }
}

#[test]
fn a_source_that_is_no_workload_has_no_identity() {
    let split = split(Some(StickyKey::SourceIdentity), &[1, 1]);
    assert_eq!(chosen(&split, Some("ann"), 0), Some(("v1".into(), ChosenBy::DrawWithoutKey)));
}

proptest! {
    #[test]
    fn the_same_user_always_lands_on_the_same_version(user in "[a-z0-9]{1,12}", a: u64, b: u64) {
        let split = split(by_user(), &[70, 20, 10]);
        prop_assert_eq!(chosen(&split, Some(&user), a), chosen(&split, Some(&user), b));
    }

    #[test]
    fn raising_the_canary_only_adds_users(user in "[a-z0-9]{1,12}", low in 1_u32..100, more in 0_u32..100) {
        let high = (low + more).min(100);
        let before = chosen(&split(by_user(), &[100 - low, low]), Some(&user), 0).unwrap().0;
        let after = chosen(&split(by_user(), &[100 - high, high]), Some(&user), 0).unwrap().0;
        prop_assert!(before == "v1" || after == "v2", "{user} left the canary from {low} % to {high} %");
    }
}
