//! Requests that are tried again: after which failures, where, how often, and with which body; and what is counted.

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use support::http2::{self, Answer, call, run};
use support::upstream::{Upstream, refusing, response};
use support::world::{RuleOf, World};
use support::{Node, get};
use weir_core::methods::Methods;
use weir_core::retry::{Backoff, Failures, Retry, RetryTo};
use weir_core::route::Timeouts;
use weir_core::snapshot::Protocol;
use weir_telemetry::Cause;

/// Everything that keeps a response from coming, and 503; twice, almost at once, at the first destination.
fn retry() -> Retry<&'static str> {
    let mut on = Failures::unanswered();
    on.add_statuses([503]);
    on.add_call(14);
    let backoff = Backoff::from_base(Duration::from_millis(1));
    Retry { attempts: 2, on, methods: Methods::Idempotent, backoff, hedge_after: None, to: RetryTo::First }
}

fn rule(retry: Retry<&'static str>) -> RuleOf {
    RuleOf { to: vec![("a", 1)], retry: Some(retry), ..RuleOf::default() }
}

fn node(endpoints: &[SocketAddr], retry: Retry<&'static str>) -> Node {
    Node::start(World::new(endpoints).rule(rule(retry)))
}

/// A request with a body.
fn with_body(method: &str, body: &str) -> String {
    format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// How often something happened about trying requests again, wherever.
fn retries(node: &Node, event: &str) -> u64 {
    node.metric("weir_proxy_retries_total", &format!("event=\"{event}\"")) as u64
}

#[test]
fn statuses_that_the_rule_names_are_tried_again_until_the_answer_is_another() {
    // What the endpoint says in turn, what the client gets, and how often the endpoint was asked.
    let cases: [(&'static [u16], u16, usize, &[(&str, u64)]); 6] = [
        (&[200], 200, 1, &[]),
        (&[503, 200], 200, 2, &[("failed_5xx", 1), ("retried", 1)]),
        (&[503, 503, 200], 200, 3, &[("failed_5xx", 2), ("retried", 2)]),
        (&[503], 503, 3, &[("failed_5xx", 2), ("retried", 2), ("exhausted", 1)]),
        (&[500, 200], 500, 1, &[]),
        (&[503, 404], 404, 2, &[("failed_5xx", 1), ("retried", 1)]),
    ];
    for (statuses, expected, count, events) in cases {
        let endpoint = Upstream::answering_in_turn(statuses);
        let node = node(&[endpoint.address], retry());
        let mut client = node.client();
        let reply = client.ask(&get("/", &[]));
        assert_eq!((reply.status(), endpoint.requests().len()), (expected, count), "{statuses:?}");
        assert_eq!(endpoint.connections(), 1, "{statuses:?}: the connection is used again");
        node.await_metric("weir_proxy_requests_total", "", 1.0);
        node.await_metric("weir_proxy_requests_in_flight", "", 0.0);
        let all: u64 = events.iter().map(|(_, count)| count).sum();
        assert_eq!(node.metric("weir_proxy_retries_total", "") as u64, all, "{statuses:?}");
        for (event, count) in events {
            assert_eq!(retries(&node, event), *count, "{statuses:?} {event}");
        }
    }
}

#[test]
fn no_response_is_tried_again_at_another_endpoint() {
    let closing = || Upstream::after_request(|_| {});
    let garbage = || Upstream::after_request(|mut stream| stream.write_all(b"SSH-2.0-server\r\n\r\n").unwrap());
    let limits = Timeouts { request: None, per_try: Some(Duration::from_millis(300)) };
    for (what, bad, event) in [
        ("closes", closing(), "failed_reset"),
        ("garbage", garbage(), "failed_reset"),
        ("hangs", Upstream::hanging(), "failed_timeout"),
    ] {
        let good = Upstream::saying("good");
        let rule = RuleOf { timeouts: limits, ..rule(retry()) };
        let node = Node::start(World::new(&[bad.address, good.address]).rule(rule));
        for _ in 0..8 {
            assert_eq!(node.ask(&get("/", &[])).text(), "good", "{what}");
        }
        assert!(retries(&node, event) > 0, "{what}");
        assert_eq!(retries(&node, "exhausted"), 0, "{what}");
    }
}

#[test]
fn what_an_endpoint_may_have_done_is_not_asked_for_twice_unless_the_rule_says_so() {
    let cases = [
        ("GET", Methods::Idempotent, 200),
        ("PUT", Methods::Idempotent, 200),
        ("POST", Methods::Idempotent, 502),
        ("POST", Methods::Any, 200),
        ("PUT", Methods::Only(vec![http::Method::POST]), 502),
    ];
    for (method, methods, expected) in cases {
        let [bad, good] = [Upstream::after_request(|_| {}), Upstream::saying("good")];
        let retry = Retry { methods: methods.clone(), to: RetryTo::Other("b"), ..retry() };
        let node = Node::start(World::new(&[bad.address]).service("b", &[good.address]).rule(rule(retry)));
        let request = if method == "GET" { get("/", &[]) } else { with_body(method, "content") };
        let reply = node.ask(&request);
        assert_eq!(reply.status(), expected, "{method} {methods:?}");
        if expected == 200 && method != "GET" {
            assert_eq!([bad.requests(), good.requests()].map(|seen| seen[0].body.clone()), [b"content", b"content"]);
        }
    }
    // Where there was no connection nobody can have done anything.
    let good = Upstream::saying("good");
    let node = node(&[refusing(), good.address], retry());
    for _ in 0..8 {
        assert_eq!(node.ask(&with_body("POST", "content")).text(), "good");
    }
    assert!(good.requests().iter().all(|request| request.body == b"content"));
    assert!(retries(&node, "failed_connect") > 0);
}

#[test]
fn a_canary_that_fails_costs_its_users_one_try() {
    let canaries = [
        ("answers 503", vec![Upstream::answering(|_| response(503, b""))], "failed_5xx"),
        ("closes", vec![Upstream::after_request(|_| {})], "failed_reset"),
        ("is not there", vec![], "failed_connect"),
    ];
    for (what, canary, event) in canaries {
        let stable = Upstream::saying("stable");
        let addresses: Vec<SocketAddr> = canary.iter().map(|one| one.address).collect();
        let to = vec![("a", 1), ("canary", 1_000_000)];
        let world = World::new(&[stable.address]).service("canary", &addresses);
        let node = Node::start(world.rule(RuleOf { to, ..rule(retry()) }));
        for _ in 0..30 {
            assert_eq!(node.ask(&get("/", &[])).text(), "stable", "{what}");
        }
        // All of them, although that is more than a share of them: the stable one gets what it would get anyway.
        let at = |destination: &str, name: &str, label: &str| {
            let labels = format!("destination=\"default/{destination}:80\",{label}");
            node.metric(name, &labels) as u64
        };
        let failed = at("canary", "weir_proxy_retries_total", &format!("event=\"{event}\""));
        let taken_over = at("a", "weir_proxy_retries_total", "event=\"taken_over\"");
        assert!(failed >= 29 && failed == taken_over, "{what}: {failed} {taken_over}");
        node.await_metric("weir_proxy_requests_total", "", 30.0);
        assert_eq!(at("a", "weir_proxy_requests_total", "status=\"2xx\""), 30, "{what}: counted once, where it ended");
        node.await_metric("weir_proxy_requests_in_flight", "", 0.0);
    }
}

#[test]
fn a_retry_goes_where_the_rule_says() {
    for (to, expected) in [(RetryTo::First, "stable"), (RetryTo::Same, "canary"), (RetryTo::Other("c"), "third")] {
        let canary = Upstream::answering({
            let turn = AtomicBool::new(false);
            move |_| match turn.fetch_not(Ordering::SeqCst) {
                false => response(503, b""),
                true => response(200, b"canary"),
            }
        });
        let [stable, third] = [Upstream::saying("stable"), Upstream::saying("third")];
        let world = World::new(&[stable.address]).service("b", &[canary.address]).service("c", &[third.address]);
        let split = vec![("a", 1), ("b", 1_000_000)];
        let node = Node::start(world.rule(RuleOf { to: split, ..rule(Retry { to, ..retry() }) }));
        assert_eq!(node.ask(&get("/", &[])).text(), expected);
    }
}

#[test]
fn a_body_is_sent_again_as_it_was_within_bounds() {
    let body: String = ('a'..='z').cycle().take(40_000).collect();
    let chunks: String =
        body.as_bytes().chunks(1_000).map(|c| format!("3e8\r\n{}\r\n", String::from_utf8_lossy(c))).collect();
    let chunked = format!("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    for request in [with_body("PUT", &body), chunked] {
        for (kept, expected, event) in
            [(65_536, 200, "retried"), (20_000, 503, "body_too_long"), (0, 503, "body_too_long")]
        {
            let endpoint = Upstream::answering_in_turn(&[503, 200]);
            let world = World::new(&[endpoint.address]).rule(rule(retry()));
            let node = Node::start_with(world, |settings| settings.retry.body_bytes = kept);
            let mut client = node.client();
            assert_eq!(client.ask(&request).status(), expected, "kept {kept}");
            // The connection is good for another request, whatever became of this one.
            assert_eq!(client.ask(&get("/", &[])).status(), 200);
            assert_eq!(retries(&node, event), 1, "kept {kept}");
            let bodies = endpoint.requests().into_iter().filter(|seen| seen.first.starts_with("PUT"));
            assert!(bodies.map(|seen| seen.body).all(|seen| seen == body.as_bytes()), "kept {kept}");
        }
    }
}

#[test]
fn the_memory_for_bodies_is_shared_and_given_back() {
    let body = "x".repeat(30_000);
    let endpoint = Upstream::answering_in_turn(&[503, 200, 503, 200, 503, 200]);
    let world = World::new(&[endpoint.address]).rule(rule(retry()));
    // Enough for one, again and again: of a client that is alone the half of it.
    let node = Node::start_with(world, |settings| settings.retry.total_bytes = 80_000);
    for _ in 0..3 {
        assert_eq!(node.ask(&with_body("PUT", &body)).status(), 200);
    }
    assert_eq!(retries(&node, "retried"), 3);
}

#[test]
fn retries_are_bounded_to_a_share_of_the_requests() {
    let endpoint = Upstream::answering(|_| response(503, b""));
    let node = node(&[endpoint.address], Retry { attempts: 1, ..retry() });
    let mut client = node.client();
    let begun = Instant::now();
    let count = 500;
    for _ in 0..count {
        assert_eq!(client.ask(&get("/", &[])).status(), 503);
    }
    let seconds = begun.elapsed().as_secs() + 1;
    let (retried, over) = (retries(&node, "retried"), retries(&node, "over_budget"));
    // What there is to begin with, a fifth, and what time adds.
    assert!(retried <= 10 + count / 5 + 10 * seconds, "{retried} of {count} in {seconds} s");
    assert!(retried >= count / 5 && over > 0, "{retried} of {count}, {over} were not");
    assert_eq!(retried + over, count);
    assert_eq!(endpoint.requests().len() as u64, count + retried);
}

#[test]
fn a_retry_that_would_come_too_late_is_left_out() {
    let long = Backoff::from_base(Duration::from_secs(100));
    let request = Some(Duration::from_secs(20));
    let cases = [
        (long, request, "", "too_late", 503),
        (retry().backoff, None, "retry-after: 60\r\n", "too_late", 503),
        (retry().backoff, None, "retry-after: 0\r\n", "retried", 200),
        (Backoff { max: Duration::from_secs(2), ..retry().backoff }, None, "retry-after: 1\r\n", "retried", 200),
    ];
    for (backoff, request, line, event, expected) in cases {
        let turn = AtomicBool::new(false);
        let endpoint = Upstream::answering(move |_| match turn.swap(true, Ordering::SeqCst) {
            false => format!("HTTP/1.1 503 Busy\r\n{line}content-length: 0\r\n\r\n").into_bytes(),
            true => response(200, b""),
        });
        let timeouts = Timeouts { request, per_try: None };
        let rule = RuleOf { timeouts, ..rule(Retry { backoff, ..retry() }) };
        let node = Node::start(World::new(&[endpoint.address]).rule(rule));
        let begun = Instant::now();
        assert_eq!(node.ask(&get("/", &[])).status(), expected, "{line}");
        assert_eq!(retries(&node, event), 1, "{line}");
        if line.contains('1') {
            assert!(begun.elapsed() >= Duration::from_secs(1), "sooner than the endpoint asked for");
        }
    }
}

#[test]
fn a_client_that_does_not_wait_for_the_next_try_ends_it() {
    let endpoint = Upstream::answering(|_| response(503, b""));
    let backoff = Backoff::from_base(Duration::from_secs(3_600));
    let node = node(&[endpoint.address], Retry { backoff, ..retry() });
    let mut client = node.client();
    client.send(get("/", &[]));
    support::until("the first try to fail", || retries(&node, "failed_5xx") == 1);
    SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    node.await_cause(Cause::DownstreamGone, 1);
    node.await_metric("weir_proxy_requests_in_flight", "", 0.0);
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn calls_of_grpc_are_tried_again_by_their_status() {
    for (status, expected, count) in [("14", "0", 2), ("13", "13", 1)] {
        let turn = AtomicBool::new(false);
        let endpoint = http2::Upstream::answering(move |request| {
            match turn.swap(true, Ordering::SeqCst) {
                // Without a message the status stands in the head.
                false => Answer {
                    headers: vec![("content-type", "application/grpc"), ("grpc-status", status)],
                    ..Answer::text("")
                },
                true => Answer {
                    headers: vec![("content-type", "application/grpc")],
                    body: Bytes::from(request.body.clone()),
                    trailers: vec![("grpc-status", "0")],
                    ..Answer::text("")
                },
            }
        });
        let world = World::new(&[endpoint.address]).protocol(Protocol::Http2).rule(rule(retry()));
        let node = Node::start(world);
        let message = b"\0\0\0\0\x05hello";
        let reply =
            run(async { http2::Client::connect(node.address).await.ask(call("/echo.Echo/Say", message)).await });
        let got = reply.trailer("grpc-status").or(reply.header("grpc-status"));
        assert_eq!((got, endpoint.requests().len()), (Some(expected), count), "{status}");
        assert!(endpoint.requests().iter().all(|request| request.body == message));
        assert_eq!(retries(&node, "failed_call"), count as u64 - 1);
    }
}
