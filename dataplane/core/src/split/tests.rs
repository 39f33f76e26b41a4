use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::name::ServiceName;
use crate::route::Source;

fn split(sticky: Option<StickyKey>, weights: &[u32]) -> Split {
    let destination = |(index, weight): (usize, &u32)| Destination {
        name: ClusterName { service: ServiceName::new("default", &format!("v{}", index + 1)), port: 80 },
        target: Target::Unresolved(Unresolved::NoSuchService),
        weight: *weight,
        stats: StatsId(0),
    };
    Split { sticky, destinations: weights.iter().enumerate().map(destination).collect() }
}

fn chosen(split: &Split, user: Option<&str>, roll: u64) -> Option<(String, ChosenBy)> {
    let mut headers = HeaderMap::new();
    if let Some(user) = user {
        headers.insert("x-user", HeaderValue::from_str(user).unwrap());
    }
    let source = Source { address: IpAddr::V4(Ipv4Addr::LOCALHOST), workload: None };
    let request = Request { method: &Method::GET, path: "/", query: None, headers: &headers, source };
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
