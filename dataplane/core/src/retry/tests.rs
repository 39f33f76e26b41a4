use std::sync::Arc;

use super::*;
use crate::cluster::Cluster;
use crate::filter::{Filters, Redirect};
use crate::name::{ClusterName, ServiceName};
use crate::snapshot::Protocol;
use crate::split::Unresolved;
use crate::stats::StatsId;

fn retry(to: RetryTo<Destination>) -> Retry {
    Retry {
        attempts: 2,
        on: Failures::unanswered(),
        methods: Methods::Idempotent,
        backoff: Backoff::default(),
        hedge_after: None,
        to,
    }
}

fn destination(name: &str, weight: u32) -> Destination {
    let name = ClusterName { service: ServiceName::new("default", name), port: 80 };
    let cluster = Cluster::new(name.clone(), Protocol::Http, Vec::new());
    Destination::new(name, Target::Cluster(Arc::new(cluster)), weight, StatsId(0))
}

#[test]
fn what_is_worth_another_try() {
    let mut on = Failures { connect: true, reset: true, ..Failures::default() };
    on.add_statuses([503, 500, 503]);
    on.add_call(14);
    let retry = Retry { on, ..retry(RetryTo::First) };
    let status = |code| Failure::Status(StatusCode::from_u16(code).unwrap());
    // For GET, and for POST, of which nobody knows whether it was done.
    let cases = [
        (Failure::Connect, true, true),
        (Failure::Reset, true, false),
        (Failure::Timeout, false, false),
        (status(500), true, false),
        (status(503), true, false),
        (status(502), false, false),
        (Failure::Call(14), true, true),
        (Failure::Call(13), false, false),
        (Failure::Call(200), false, false),
    ];
    for (failure, get, post) in cases {
        assert_eq!(retry.wants(failure, &Method::GET), get, "GET {failure:?}");
        assert_eq!(retry.wants(failure, &Method::POST), post, "POST {failure:?}");
    }
    assert_eq!(retry.on.describe(), "no connection, no response, 500, 503, gRPC status 14");
    let mut classes = Failures::default();
    classes.add_statuses(500..600);
    assert_eq!(classes.describe(), "500 to 599");
}

#[test]
fn retries_go_to_the_first_destination_that_takes_requests_unless_the_rule_says_otherwise() {
    let gone = Destination { target: Target::Unresolved(Unresolved::NoSuchService), ..destination("gone", 1) };
    let redirect = Redirect { scheme: None, host: None, port: None, path: None, status: StatusCode::FOUND };
    let filters = Filters { redirect: Some(redirect), ..Filters::default() };
    let elsewhere = Destination { filters: Some(Arc::new(filters)), ..destination("elsewhere", 1) };
    let [stable, canary, zero] = [destination("stable", 9), destination("canary", 1), destination("zero", 0)];
    let cases = [
        (vec![stable.clone(), canary.clone()], RetryTo::First, "stable"),
        (vec![canary.clone(), stable.clone()], RetryTo::First, "canary"),
        (vec![zero.clone(), gone.clone(), elsewhere, stable.clone()], RetryTo::First, "stable"),
        (vec![zero, gone], RetryTo::First, "canary"),
        (vec![stable.clone(), canary.clone()], RetryTo::Same, "canary"),
        (vec![stable, canary.clone()], RetryTo::Other(destination("third", 1)), "third"),
    ];
    for (destinations, to, expected) in cases {
        let (split, retry) = (Split::to(destinations), retry(to));
        assert_eq!(&*retry.destination(&split, &canary).name.service.name, expected, "{:?}", retry.to);
    }
}

#[test]
fn waiting_doubles_up_to_its_bound_and_up_to_as_much_again_by_chance() {
    let backoff = Backoff::from_base(Duration::from_millis(10));
    for (number, least) in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 100), (6, 100), (40, 100)] {
        let [shortest, longest] = [0, u64::MAX].map(|roll| backoff.delay(number, roll).as_millis());
        assert_eq!((shortest, longest), (least, 2 * least - 1), "retry {number}");
    }
    let none = Backoff::from_base(Duration::ZERO);
    assert_eq!(none.delay(3, u64::MAX), Duration::ZERO);
    let endless = Backoff { base: Duration::MAX, max: Duration::MAX };
    assert_eq!(endless.delay(9, 0), Duration::MAX);
}

#[test]
fn a_budget_is_a_share_of_the_requests_and_never_less_than_a_few_a_second() {
    let taken = |budget: &mut Budget, now| (0..1_000).filter(|_| budget.take(now)).count() as u64;
    let mut budget = Budget::new(0);
    assert_eq!(taken(&mut budget, 0), Budget::LEAST, "what there is to begin with");
    assert_eq!(taken(&mut budget, 0), 0);
    assert_eq!(taken(&mut budget, 500), Budget::LEAST / 2, "half a second later");
    assert_eq!(taken(&mut budget, 60_000), Budget::LEAST, "time alone saves nothing up");
    (0..100).for_each(|_| budget.on_request());
    assert_eq!(taken(&mut budget, 60_000), Budget::PERCENT, "after a hundred requests");
    (0..1_000_000).for_each(|_| budget.on_request());
    assert_eq!(taken(&mut budget, 60_000), Budget::MOST, "after very many");
    assert_eq!(taken(&mut budget, 0), 0, "time that goes back gives nothing");
}
