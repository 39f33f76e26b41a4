//! Requests that are sent a second time while the first is not answered yet.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use support::http2::{self, run};
use support::upstream::{Upstream, response};
use support::world::{RuleOf, World};
use support::{Node, get, until};
use weir_core::methods::Methods;
use weir_core::retry::{Backoff, Failures, Retry, RetryTo};
use weir_core::route::Timeouts;
use weir_core::snapshot::Protocol;
use weir_telemetry::{Cause, WorkerEvent};

/// Long for an answer that is made at once, short for a test.
const AFTER: Duration = Duration::from_millis(100);

fn retry(attempts: u32, to: RetryTo<&'static str>) -> Retry<&'static str> {
    let mut on = Failures::unanswered();
    on.add_statuses([503]);
    let backoff = Backoff::from_base(Duration::from_millis(1));
    Retry { attempts, on, methods: Methods::Idempotent, backoff, hedge_after: Some(AFTER), to }
}

/// A node whose requests go to `first`, and beside that to `second`.
fn node(first: &Upstream, second: &Upstream) -> Node {
    let world = World::new(&[]).service("first", &[first.address]).service("second", &[second.address]);
    let retry = Some(retry(1, RetryTo::Other("second")));
    Node::start(world.rule(RuleOf { to: vec![("first", 1)], retry, ..RuleOf::default() }))
}

/// How often something happened about trying requests again, at a destination.
fn retries(node: &Node, event: &str, at: &str) -> u64 {
    let labels = format!("event=\"{event}\",destination=\"default/{at}:80\"");
    node.metric("weir_proxy_retries_total", &labels) as u64
}

fn requests(node: &Node, at: &str) -> u64 {
    node.metric("weir_proxy_requests_total", &format!("destination=\"default/{at}:80\"")) as u64
}

#[test]
fn whoever_answers_first_is_heard_and_the_other_is_let_go() {
    let (slow, quick) = (Upstream::hanging(), Upstream::saying("quick"));
    let node = node(&slow, &quick);
    let mut client = node.client();
    assert_eq!(client.ask(&get("/", &[])).text(), "quick");
    node.await_event(WorkerEvent::UpstreamClosed, 1);
    assert_eq!((slow.connections(), quick.requests().len()), (1, 1));
    assert_eq!((retries(&node, "hedged", "first"), retries(&node, "hedge_won", "first")), (1, 1));
    // Counted once, where it was answered, and no failure.
    assert_eq!((requests(&node, "first"), requests(&node, "second")), (0, 1));
    node.await_metric("weir_proxy_requests_in_flight", "", 0.0);
    assert_eq!(retries(&node, "exhausted", "first"), 0);
}

#[test]
fn an_answer_that_is_late_counts_if_the_other_is_later_or_bad() {
    for bad in [false, true] {
        let (answer, wait) = mpsc::channel();
        let late = Upstream::late(wait);
        let other = if bad { Upstream::answering(|_| response(503, b"")) } else { Upstream::hanging() };
        let node = node(&late, &other);
        let mut client = node.client();
        client.send(get("/", &[]));
        until("the other try", || if bad { other.requests().len() == 1 } else { other.connections() == 1 });
        answer.send(()).unwrap();
        assert_eq!(client.receive().status(), 200, "{bad}");
        assert_eq!((retries(&node, "hedged", "first"), retries(&node, "hedge_won", "first")), (1, 0), "{bad}");
        until("the request to be counted", || requests(&node, "first") == 1);
        assert_eq!(requests(&node, "second"), 0, "{bad}");
        assert_eq!(retries(&node, "failed_5xx", "first"), 0, "{bad}: it was not this one's");
    }
}

#[test]
fn failures_are_told_and_counted() {
    let (answer, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let late = Upstream::answering(move |_| {
        let _ = wait.lock().unwrap().recv_timeout(support::PATIENCE);
        response(503, b"late")
    });
    let other = Upstream::answering(|_| response(503, b"other"));
    let node = node(&late, &other);
    let mut client = node.client();
    client.send(get("/", &[]));
    until("the other try", || other.requests().len() == 1);
    answer.send(()).unwrap();
    let reply = client.receive();
    assert_eq!((reply.status(), reply.text()), (503, "late"));
    assert_eq!(retries(&node, "exhausted", "first"), 1, "the other try was the only one that it might have");
    // The other way round the one that it began with is a failed try.
    let (quick_to_fail, late) = mpsc::channel::<()>();
    let late = std::sync::Mutex::new(late);
    let other = Upstream::answering(move |_| {
        let _ = late.lock().unwrap().recv_timeout(support::PATIENCE);
        response(200, b"other")
    });
    let first = Upstream::answering(|_| {
        std::thread::park_timeout(AFTER * 3);
        response(503, b"first")
    });
    let node = self::node(&first, &other);
    let mut client = node.client();
    client.send(get("/", &[]));
    until("the first to fail", || retries(&node, "failed_5xx", "first") == 1);
    quick_to_fail.send(()).unwrap();
    assert_eq!(client.receive().text(), "other");
    assert_eq!(retries(&node, "hedge_won", "first"), 1);
}

#[test]
fn what_answers_in_time_or_must_not_be_done_twice_is_sent_once() {
    let quick = Upstream::saying("quick");
    let other = Upstream::saying("other");
    let node = node(&quick, &other);
    let mut client = node.client();
    for _ in 0..5 {
        assert_eq!(client.ask(&get("/", &[])).text(), "quick");
    }
    assert_eq!(other.connections(), 0);
    // A method that may not, and a body that is not all there yet.
    let posts = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    let half = "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nha";
    for (what, request, rest) in [("POST", posts, ""), ("half a body", half, "lf")] {
        let (answer, wait) = mpsc::channel();
        let (late, other) = (Upstream::late(wait), Upstream::saying("other"));
        let node = self::node(&late, &other);
        let mut client = node.client();
        client.send(request);
        // Longer than any other try waits.
        std::thread::park_timeout(AFTER * 3);
        client.send(rest);
        answer.send(()).unwrap();
        assert_eq!(client.receive().status(), 200, "{what}");
        assert_eq!(other.connections(), 0, "{what}");
    }
}

#[test]
fn the_other_gets_the_whole_body() {
    let (slow, quick) = (Upstream::hanging(), Upstream::answering(|request| response(200, &request.body)));
    let node = node(&slow, &quick);
    let reply = node.client().ask("PUT /a HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!((reply.status(), reply.text()), (200, "hello"));
}

#[test]
fn another_endpoint_of_the_same_destination_is_asked_and_never_the_same_one() {
    let alone = Upstream::late({
        let (answer, wait) = mpsc::channel();
        std::thread::spawn(move || {
            std::thread::park_timeout(AFTER * 3);
            // The test may be over.
            let _ = answer.send(());
        });
        wait
    });
    let rule = || RuleOf { to: vec![("a", 1)], retry: Some(retry(2, RetryTo::Same)), ..RuleOf::default() };
    let node = Node::start(World::new(&[alone.address]).rule(rule()));
    assert_eq!(node.ask(&get("/", &[])).status(), 200);
    assert_eq!((alone.connections(), retries(&node, "hedged", "a")), (1, 0));
    let (slow, quick) = (Upstream::hanging(), Upstream::saying("quick"));
    let node = Node::start(World::new(&[slow.address, quick.address]).rule(rule()));
    // Whom it asks first is drawn.
    let hedged = (0..100).any(|_| {
        assert_eq!(node.ask(&get("/", &[])).text(), "quick");
        retries(&node, "hedged", "a") >= 1
    });
    assert!(hedged && retries(&node, "taken_over", "a") == 0);
}

#[test]
fn there_are_only_so_many() {
    let (slow, quick) = (Upstream::hanging(), Upstream::saying("quick"));
    let world = World::new(&[]).service("first", &[slow.address]).service("second", &[quick.address]);
    let timeouts = Timeouts { request: Some(AFTER * 2), per_try: None };
    let retry = Some(retry(1, RetryTo::Other("second")));
    let rule = RuleOf { to: vec![("first", 1)], retry, timeouts, ..RuleOf::default() };
    let node = Node::start(world.rule(rule));
    let clients: Vec<_> = (0..40).map(|_| node.client()).collect();
    let asked = clients.into_iter().map(|mut client| {
        client.send(get("/", &[]));
        client
    });
    let statuses: Vec<u16> = asked.collect::<Vec<_>>().iter_mut().map(|client| client.receive().status()).collect();
    let answered = statuses.iter().filter(|status| **status == 200).count() as u64;
    let (hedged, over) = (retries(&node, "hedged", "first"), retries(&node, "over_budget", "first"));
    assert!((10..30).contains(&answered) && statuses.iter().all(|status| [200, 504].contains(status)), "{statuses:?}");
    assert_eq!((hedged, hedged + over), (answered, 40));
}

#[test]
fn a_client_that_leaves_ends_both() {
    let (slow, other) = (Upstream::hanging(), Upstream::hanging());
    let node = node(&slow, &other);
    let mut client = node.client();
    client.send(get("/", &[]));
    until("both tries", || slow.connections() + other.connections() == 2);
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    node.await_cause(Cause::DownstreamGone, 1);
    node.await_event(WorkerEvent::UpstreamClosed, 2);
    node.await_metric("weir_proxy_requests_in_flight", "", 0.0);
}

#[test]
fn in_http2_only_the_stream_is_reset() {
    let (slow, _release) = http2::Upstream::held();
    let quick = Upstream::saying("quick");
    let world = World::new(&[]).service("first", &[slow.address]).service("second", &[quick.address]);
    let world = world.speaking("first", Protocol::Http2);
    let retry = Some(retry(1, RetryTo::Other("second")));
    let rule = RuleOf { to: vec![("first", 1)], retry, ..RuleOf::default() };
    let node = Node::start(world.rule(rule));
    run(async {
        let mut client = http2::Client::connect(node.address).await;
        for _ in 0..3 {
            assert_eq!(client.ask(http2::get("/")).await.text(), "quick");
        }
    });
    assert_eq!(node.telemetry.count(WorkerEvent::UpstreamConnected), 2, "one for each destination");
    assert_eq!(retries(&node, "hedge_won", "first"), 3);
}
