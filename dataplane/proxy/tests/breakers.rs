//! Circuit breakers: no more than so many requests, and retries, are under way at a time, from all workers together.

mod support;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use socket2::SockRef;
use support::upstream::{Upstream, response};
use support::world::{RuleOf, World};
use support::{Client, Node, get, until};
use weir_core::balance::TrafficPolicy;
use weir_core::methods::Methods;
use weir_core::retry::{Backoff, Failures, Retry, RetryTo};
use weir_telemetry::Cause;

fn retry(to: RetryTo<&'static str>) -> Retry<&'static str> {
    let mut on = Failures::unanswered();
    on.add_statuses([503]);
    let backoff = Backoff::from_base(Duration::from_millis(1));
    Retry { attempts: 1, on, methods: Methods::Idempotent, backoff, hedge_after: None, to }
}

fn breaker(max_requests: Option<u32>, max_retries: Option<u32>) -> TrafficPolicy {
    TrafficPolicy { max_requests, max_retries, ..TrafficPolicy::default() }
}

/// Clients whose requests are under way and stay so.
fn waiting(node: &Node, count: usize) -> Vec<Client> {
    let waiting = (0..count).map(|_| {
        let mut client = node.client();
        client.send(get("/", &[]));
        client
    });
    let waiting = waiting.collect();
    node.await_metric("weir_proxy_requests_in_flight", "", count as f64);
    waiting
}

#[test]
fn requests_beyond_the_bound_are_refused_until_others_have_ended() {
    let (answer, begin) = mpsc::channel();
    let endpoint = Upstream::late(begin);
    let world = World::new(&[endpoint.address]).policy(breaker(Some(3), None));
    let node = Node::start_with(world, |settings| settings.workers = 2);
    let mut clients = waiting(&node, 3);
    for _ in 0..8 {
        let reply = node.ask(&get("/", &[]));
        assert_eq!((reply.status(), reply.cause()), (503, Some("overflow")));
    }
    // Answered or given up: both make room.
    let gone = clients.pop().unwrap();
    SockRef::from(&gone.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(gone);
    node.await_cause(Cause::DownstreamGone, 1);
    (0..4).for_each(|_| answer.send(()).unwrap());
    for client in &mut clients {
        assert_eq!(client.receive().status(), 200);
    }
    until("room", || {
        let _ = answer.send(());
        node.ask(&get("/", &[])).status() == 200
    });
}

#[test]
fn a_place_is_taken_until_the_response_has_ended() {
    let (_end, ended) = mpsc::channel::<()>();
    let ended = std::sync::Mutex::new(ended);
    let endpoint = Upstream::after_request(move |mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart").unwrap();
        let _until_the_test_is_over = ended.lock().unwrap().recv();
    });
    let node = Node::start(World::new(&[endpoint.address]).policy(breaker(Some(1), None)));
    let mut client = node.client();
    client.send(get("/", &[]));
    client.await_text("part");
    assert_eq!(node.ask(&get("/", &[])).cause(), Some("overflow"));
}

#[test]
fn a_request_that_is_refused_may_go_elsewhere() {
    let (_answer, begin) = mpsc::channel();
    let full = Upstream::late(begin);
    let other = Upstream::saying("other");
    let mut world = World::new(&[full.address]).service("b", &[other.address]).policy(breaker(Some(1), None));
    world.rules.push(RuleOf { to: vec![("a", 1)], retry: Some(retry(RetryTo::Other("b"))), ..RuleOf::default() });
    let node = Node::start(world);
    let _waits = waiting(&node, 1);
    assert_eq!(node.ask(&get("/", &[])).text(), "other");
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
    assert_eq!(node.ask(post).text(), "other", "nobody has seen it");
}

#[test]
fn retries_beyond_the_bound_are_left_out() {
    for (most, expected) in [(Some(0), 503), (Some(1), 200), (None, 200)] {
        let fails = Arc::new(AtomicBool::new(true));
        let first = Arc::clone(&fails);
        let endpoint =
            Upstream::answering(move |_| response(if first.swap(false, Ordering::SeqCst) { 503 } else { 200 }, b""));
        let mut world = World::new(&[endpoint.address]).policy(breaker(None, most));
        world.rules.push(RuleOf { to: vec![("a", 1)], retry: Some(retry(RetryTo::Same)), ..RuleOf::default() });
        let node = Node::start(world);
        for _ in 0..2 {
            fails.store(true, Ordering::SeqCst);
            assert_eq!(node.ask(&get("/", &[])).status(), expected, "{most:?}: and a place comes back");
        }
        let over = node.metric("weir_proxy_retries_total", "event=\"over_budget\"");
        assert_eq!(over > 0.0, expected == 503);
    }
}

#[test]
fn a_request_that_is_tried_again_takes_no_place_from_itself() {
    let endpoint = Upstream::answering_in_turn(&[503, 503, 200]);
    let mut world = World::new(&[endpoint.address]).policy(breaker(Some(1), Some(1)));
    let retry = Retry { attempts: 2, ..retry(RetryTo::Same) };
    world.rules.push(RuleOf { to: vec![("a", 1)], retry: Some(retry), ..RuleOf::default() });
    let node = Node::start(world);
    for _ in 0..2 {
        assert_eq!(node.ask(&get("/", &[])).status(), 200);
    }
    assert_eq!(endpoint.requests().len(), 4);
}
