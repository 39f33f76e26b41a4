//! Clients and endpoints that go on for ever, a byte at a time: each is bounded, and nobody else notices.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use support::message::{self, Kind};
use support::upstream::{Upstream, response};
use support::world::{RuleOf, World};
use support::{Client, Node, get};
use weir_core::route::Timeouts;
use weir_telemetry::{Cause, WorkerEvent};

/// From one byte to the next.
const DRIP: Duration = Duration::from_millis(10);

/// Sends bytes one at a time until nobody takes them any more.
fn drip(mut stream: TcpStream, mut bytes: impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next()
        && stream.write_all(&[byte]).is_ok()
    {
        std::thread::park_timeout(DRIP);
    }
}

/// A head whose last line never ends.
fn endless_head() -> impl Iterator<Item = u8> {
    b"HTTP/1.1 200 OK\r\nx-slow: ".iter().copied().chain(std::iter::repeat(b'a'))
}

/// A rule that lets a request take so long.
fn within(request: Duration) -> RuleOf {
    let timeouts = Timeouts { request: Some(request), per_try: None };
    RuleOf { to: vec![("a", 1)], timeouts, ..RuleOf::default() }
}

#[test]
fn an_endpoint_that_never_finishes_its_head_is_given_up() {
    let upstream = Upstream::after_request(|stream| drip(stream, endless_head()));
    // With a timeout of the rule, and without one: what an endpoint drips is no sign of life before there is a head.
    for (rule, cause) in [(Some(Duration::from_millis(200)), Cause::RequestTimeout), (None, Cause::IdleTimeout)] {
        let world = World::new(&[upstream.address]);
        let world = if let Some(limit) = rule { world.rule(within(limit)) } else { world };
        let node = Node::start_with(world, |settings| settings.downstream.stream_idle = Duration::from_millis(400));
        let reply = node.ask(&get("/", &[]));
        assert_eq!((reply.status(), reply.cause()), (504, Some(cause.name())));
        node.await_event(WorkerEvent::UpstreamClosed, 1);
    }
}

#[test]
fn a_body_that_never_ends_is_cut_off_when_its_time_is_over() {
    let upstream = Upstream::after_request(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").unwrap();
        drip(stream, std::iter::repeat(b'a'));
    });
    let node = Node::start_with(World::new(&[upstream.address]).rule(within(Duration::from_millis(300))), |settings| {
        // Each byte is a sign of life: this alone would never end it.
        settings.downstream.stream_idle = Duration::from_millis(100);
    });
    let mut client = node.client();
    client.send(get("/", &[]));
    assert!(client.try_receive().is_err(), "it must not look whole");
    node.await_cause(Cause::RequestTimeout, 1);
    node.await_event(WorkerEvent::UpstreamClosed, 1);
}

#[test]
fn a_client_that_never_finishes_its_body_is_answered_when_its_time_is_over() {
    let upstream = Upstream::hanging();
    let node = Node::start(World::new(&[upstream.address]).rule(within(Duration::from_millis(300))));
    let mut client = node.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
    let dripping = client.stream.try_clone().unwrap();
    let dripping = std::thread::spawn(move || drip(dripping, std::iter::repeat(b'a')));
    let reply = client.receive();
    assert_eq!((reply.status(), reply.cause()), (504, Some("request_timeout")));
    // What follows would be taken for a request: the connection ends.
    dripping.join().unwrap();
    node.await_event(WorkerEvent::UpstreamClosed, 1);
}

#[test]
fn many_that_are_slow_on_both_sides_hold_up_nobody_else() {
    const SLOW: usize = 100;
    let upstream = Upstream::raw(|mut stream| {
        let Ok(request) = message::read(&mut stream, &mut Vec::new(), Kind::Request) else { return };
        if request.first.contains("/slow") {
            return drip(stream, endless_head());
        }
        let _client_may_be_gone = stream.write_all(&response(200, b"ok"));
    });
    let node = Node::start_with(World::new(&[upstream.address]), |settings| {
        settings.downstream.half_closed = Duration::from_millis(200);
    });
    let slow = |bytes: &str| -> Vec<Client> {
        let connect = |_| {
            let mut client = node.client();
            client.send(bytes);
            client
        };
        (0..SLOW).map(connect).collect()
    };
    let endless = slow(&get("/slow", &[]));
    let heads = slow("GET / HTTP/1.1\r\nhost: a\r\nx-slow: a");
    let bodies = slow("POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\na");
    node.await_event(WorkerEvent::UpstreamConnected, SLOW as u64);
    for _ in 0..50 {
        assert_eq!(node.ask(&get("/", &[])).text(), "ok");
    }
    drop((endless, heads, bodies));
    // All of them are gone, and with them what they held.
    node.await_event(WorkerEvent::Closed, 3 * SLOW as u64 + 50);
}
