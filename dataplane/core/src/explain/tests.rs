use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::cluster::Cluster;
use crate::name::{ClusterName, ObjectName, ServiceName};
use crate::route::{Condition, Field, Matcher, PathMatch, RouteTable, Rule, Source, TextMatch, Timeouts};
use crate::share::Share;
use crate::split::{Split, Unresolved};
use crate::stats::StatsId;

fn name(service: &str) -> ClusterName {
    ClusterName { service: ServiceName::new("default", service), port: 80 }
}

fn destination(service: &str, weight: u32, endpoints: &[u8]) -> Destination {
    let endpoints = endpoints.iter().map(|n| Endpoint {
        addresses: SocketAddr::from(([10, 0, 0, *n], 8080)).into(),
        workload: Some(format!("{service}-pod").into()),
        version: Some("v2".into()),
        node: None,
        zone: None,
        weight: crate::balance::Weight::default(),
    });
    let cluster = Cluster::new(name(service), Protocol::Http, endpoints.collect());
    Destination::new(name(service), Target::Cluster(Arc::new(cluster)), weight, StatsId(0))
}

fn rule(name_: &str, destinations: Vec<Destination>) -> Rule {
    let split = Split::to(destinations);
    let name = ObjectName::new("RouteRule", "default", name_);
    Rule::new(name, split, StatsId(0))
}

fn header(value: &str) -> Matcher {
    let field = Field::Header(HeaderName::from_static("x-user-tag"));
    Matcher { conditions: vec![Condition { field, text: TextMatch::Exact(value.into()) }], ..Matcher::default() }
}

fn explained(entries: Vec<Entry>, method: &Method, tag: &str) -> Explanation {
    let routes = RouteTable::new(entries);
    let frontend = Frontend { routes, ..Frontend::new(name("web"), Protocol::Http, destination("web", 1, &[1])) };
    let mut headers = HeaderMap::new();
    headers.insert("x-user-tag", HeaderValue::from_str(tag).unwrap());
    let source = Source { address: IpAddr::V4(Ipv4Addr::LOCALHOST), workload: None };
    let request = Request { method, path: "/v2/x", query: None, headers: &headers, source, attributes: &[] };
    explain(&Snapshot::empty(), &frontend, &request, None)
}

#[test]
fn names_the_winner_and_why_each_other_lost() {
    let path = Matcher { path: Some(PathMatch::prefix("/v2")), ..Matcher::default() };
    let canary = Arc::new(rule("canary", vec![destination("canary", 1, &[2])]));
    let entries = vec![
        Entry::new(Arc::clone(&canary), 0, header("canary-user")),
        Entry::new(Arc::clone(&canary), 1, header("tester")),
        Entry::new(Arc::new(rule("by-path", vec![destination("by-path", 1, &[3])])), 0, path),
    ];
    let explanation = explained(entries, &Method::GET, "canary-user");
    let told: Vec<_> = explanation.entries.iter().map(|e| (&*e.rule, e.matches, e.wins, &*e.reason)).collect();
    assert_eq!(
        told,
        [
            (
                "RouteRule default/by-path",
                true,
                true,
                "every condition is met, and nothing that matches comes before it"
            ),
            (
                "RouteRule default/canary",
                true,
                false,
                "RouteRule default/by-path comes first: its condition on the path is more specific"
            ),
            (
                "RouteRule default/canary",
                false,
                false,
                "header x-user-tag must be exactly \"tester\", it is \"canary-user\""
            ),
        ]
    );
    assert_eq!(explanation.rule.as_deref(), Some("RouteRule default/by-path"));
    assert_eq!(explanation.destinations[0].endpoints, ["10.0.0.3:8080 (by-path-pod, v2)"]);
    assert!(explanation.destinations[0].chosen);
}

#[test]
fn without_a_match_the_service_itself_takes_it() {
    let entries = vec![Entry::new(Arc::new(rule("canary", vec![destination("canary", 1, &[2])])), 0, header("x"))];
    let explanation = explained(entries, &Method::GET, "y");
    assert_eq!((explanation.rule, explanation.destinations.len()), (None, 1));
    assert_eq!(explanation.destinations[0].destination, "default/web:80");
}

#[test]
fn tells_what_will_be_answered_when_a_destination_leads_nowhere() {
    let mut gone = destination("gone", 5, &[]);
    gone.target = Target::Unresolved(Unresolved::NoSuchService);
    let split = vec![destination("web", 95, &[]), gone];
    let explanation = explained(vec![Entry::new(Arc::new(rule("r", split)), 0, Matcher::default())], &Method::GET, "y");
    let told: Vec<_> =
        explanation.destinations.iter().map(|d| (d.share_percent, d.chosen, d.answers.as_deref().unwrap())).collect();
    assert_eq!(told, [(95.0, false, "503: no endpoint of the service is ready"), (5.0, false, "500: no such service")]);
    assert_eq!(explanation.chosen_by, "a draw for each request");
}

#[test]
fn tells_what_is_mirrored_and_the_timeouts() {
    let mut rule = rule("r", vec![destination("web", 1, &[1])]);
    let target = destination("shadow", 1, &[9]).target;
    let share = Share::from_percent(12.5).unwrap();
    rule.mirrors =
        vec![Mirror { destination: name("shadow"), target, share, methods: Methods::Safe, stats: StatsId(0) }];
    rule.timeouts = Timeouts { request: Some(Duration::from_secs(5)), per_try: None };
    let rule = Arc::new(rule);
    for (method, share, reason) in [
        (Method::GET, 12.5, "12.5 % of requests like this are copied"),
        (Method::POST, 0.0, "not copied: POST is not a safe method, and the mirror names no methods"),
    ] {
        let explanation = explained(vec![Entry::new(Arc::clone(&rule), 0, Matcher::default())], &method, "y");
        assert_eq!((explanation.mirrors[0].share_percent, &*explanation.mirrors[0].reason), (share, reason));
        assert_eq!((explanation.timeout_ms, explanation.per_try_timeout_ms), (Some(5000), None));
    }
}
