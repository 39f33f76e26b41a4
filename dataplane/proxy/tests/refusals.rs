//! What rules do to requests instead of passing them on, or before: answers of their own, limits, faults.

mod support;

use std::time::{Duration, Instant};

use http::StatusCode;
use socket2::SockRef;
use support::http2::{self, call, run};
use support::upstream::Upstream;
use support::world::{RuleOf, World};
use support::{Node, get};
use weir_core::filter::{Abort, DirectResponse, Fault, Filters, RateLimit};
use weir_core::route::Timeouts;
use weir_core::share::Share;
use weir_core::snapshot::Protocol;
use weir_core::split::StickyKey;
use weir_telemetry::Cause;

fn rule(filters: Filters) -> RuleOf {
    RuleOf { to: vec![("a", 1)], filters, ..RuleOf::default() }
}

fn fault(delay: Option<(Duration, Share)>, abort: Option<(Abort, Share)>) -> Filters {
    Filters { fault: Some(Fault { delay, abort }), ..Filters::default() }
}

fn limit(burst: u32, key: Option<StickyKey>) -> Filters {
    // Slow enough that no token comes back while the test runs.
    let limit = RateLimit { requests: 1, unit: Duration::from_secs(3_600), burst, key };
    Filters { limit: Some(limit), ..Filters::default() }
}

#[test]
fn a_rule_answers_by_itself() {
    for (status, body) in [(200, "hello\n"), (404, ""), (503, "closed\n"), (204, "")] {
        let endpoint = Upstream::saying("endpoint");
        let direct = DirectResponse { status: StatusCode::from_u16(status).unwrap(), body: body.into() };
        let filters = Filters { direct: Some(direct), ..Filters::default() };
        let node = Node::start(World::new(&[endpoint.address]).rule(rule(filters)));
        let mut client = node.client();
        for _ in 0..2 {
            let reply = client.ask(&get("/", &[]));
            assert_eq!((reply.status(), reply.text(), reply.cause()), (status, body, None));
            assert_eq!(reply.header("content-type"), (!body.is_empty()).then_some("text/plain"));
        }
        let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\ncontent";
        assert_eq!(client.ask(post).status(), status, "with a body that nobody reads");
        assert!(endpoint.requests().is_empty());
        node.await_metric("weir_proxy_requests_total", "", 3.0);
    }
}

#[test]
fn faults_fail_their_share_of_the_requests() {
    let teapot = Abort::Status(StatusCode::IM_A_TEAPOT);
    let none = Share::from_percent(0.0).unwrap();
    let half = Share::from_percent(50.0).unwrap();
    for (share, least, most) in [(Share::ALL, 60, 60), (none, 0, 0), (half, 10, 50)] {
        let endpoint = Upstream::saying("endpoint");
        let node = Node::start(World::new(&[endpoint.address]).rule(rule(fault(None, Some((teapot, share))))));
        let mut client = node.client();
        let replies: Vec<_> = (0..60).map(|_| client.ask(&get("/", &[]))).collect();
        let failed = replies.iter().filter(|reply| (reply.status(), reply.cause()) == (418, Some("fault"))).count();
        assert!((least..=most).contains(&failed), "{failed} of 60 at {} %", share.percent());
        assert_eq!(endpoint.requests().len(), 60 - failed);
        assert_eq!(node.telemetry.count_cause(Cause::Fault), failed as u64);
    }
}

#[test]
fn calls_of_grpc_fail_with_a_status_of_their_own() {
    for (abort, expected) in [(Abort::Call(9), Some("9")), (Abort::Status(StatusCode::BAD_GATEWAY), None)] {
        let endpoint = http2::Upstream::answering(|_| panic!("nobody is asked"));
        let world = World::new(&[endpoint.address]).protocol(Protocol::Http2);
        let node = Node::start(world.rule(rule(fault(None, Some((abort, Share::ALL))))));
        let reply = run(async { http2::Client::connect(node.address).await.ask(call("/a.B/C", b"\0\0\0\0\0")).await });
        let status = if expected.is_some() { 200 } else { 502 };
        assert_eq!((reply.status, reply.header("grpc-status")), (status, expected));
        assert_eq!(reply.header("x-weir-cause"), Some("fault"));
    }
}

#[test]
fn requests_wait_as_long_as_the_rule_says_and_no_longer_than_they_may() {
    let delay = Duration::from_millis(400);
    let short = Duration::from_millis(100);
    for (request, expected, least) in [(None, (200, None), delay), (Some(short), (504, Some("request_timeout")), short)]
    {
        let endpoint = Upstream::saying("endpoint");
        let timeouts = Timeouts { request, per_try: None };
        let rule = RuleOf { timeouts, ..rule(fault(Some((delay, Share::ALL)), None)) };
        let node = Node::start(World::new(&[endpoint.address]).rule(rule));
        let begun = Instant::now();
        let reply = node.ask(&get("/", &[]));
        assert_eq!((reply.status(), reply.cause()), expected);
        assert!(begun.elapsed() >= least);
        assert_eq!(endpoint.requests().len(), usize::from(request.is_none()));
    }
    // A client that does not wait is not waited for.
    let endpoint = Upstream::saying("endpoint");
    let hour = Duration::from_secs(3_600);
    let node = Node::start(World::new(&[endpoint.address]).rule(rule(fault(Some((hour, Share::ALL)), None))));
    let mut client = node.client();
    client.send(get("/", &[]));
    node.await_metric("weir_proxy_requests_in_flight", "", 1.0);
    SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    node.await_cause(Cause::DownstreamGone, 1);
    assert!(endpoint.requests().is_empty());
}

#[test]
fn a_rule_bounds_its_requests_for_all_workers_together() {
    let endpoint = Upstream::saying("endpoint");
    let world = World::new(&[endpoint.address]).rule(rule(limit(5, None)));
    let node = Node::start_with(world, |settings| settings.workers = 2);
    // Connections of their own: some go to one worker, some to the other.
    let replies: Vec<_> = (0..20).map(|_| node.ask(&get("/", &[]))).collect();
    let (passed, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status() == 200);
    assert_eq!((passed.len(), refused.len(), endpoint.requests().len()), (5, 15, 5));
    for reply in refused {
        assert_eq!((reply.status(), reply.cause()), (429, Some("rate_limited")));
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((3_500..=3_600).contains(&wait), "{wait}");
    }
    assert_eq!(node.telemetry.count_cause(Cause::RateLimited), 15);
}

#[test]
fn each_key_has_its_own_bound_and_a_change_of_other_rules_gives_nobody_more() {
    let endpoint = Upstream::saying("endpoint");
    let key = StickyKey::Header(http::HeaderName::from_static("x-user"));
    let mut node = Node::start(World::new(&[endpoint.address]).rule(rule(limit(2, Some(key)))));
    let passed = |node: &Node, lines: &[&str]| (0..4).filter(|_| node.ask(&get("/", lines)).status() == 200).count();
    for lines in [&["x-user: a"][..], &["x-user: b"], &[], &["x-other: c"]] {
        let expected = if lines == ["x-other: c"] { 0 } else { 2 };
        assert_eq!(passed(&node, lines), expected, "{lines:?}: those without the key share one");
    }
    node.publish(|world| world.rules.push(RuleOf { header: Some(("x-never", "1")), ..RuleOf::default() }));
    assert_eq!(passed(&node, &["x-user: a"]), 0);
    assert_eq!(passed(&node, &["x-user: c"]), 2);
}
