//! Ports of unknown protocol: who speaks first tells, and nobody waits for that.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use support::message::{self, Kind};
use support::upstream::{Upstream, refusing, response};
use support::world::{RuleOf, World};
use support::{Node, get, until};
use weir_core::snapshot::Protocol;
use weir_telemetry::WorkerEvent;

fn detecting(upstream: &Upstream) -> Node {
    Node::start(World::new(&[upstream.address]).protocol(Protocol::Detect))
}

fn opaque(node: &Node) -> u64 {
    node.telemetry.count(WorkerEvent::Opaque)
}

#[test]
fn what_is_not_http_is_passed_on_unchanged() {
    let echo = Upstream::raw(|mut stream| {
        let mut other = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut other).unwrap();
        other.shutdown(Shutdown::Write).unwrap();
    });
    let node = detecting(&echo);
    let mut client = node.client();
    client.send("SSH-2.0-x\r\n");
    client.send("more");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest().unwrap(), b"SSH-2.0-x\r\nmore");
    node.await_event(WorkerEvent::Opaque, 1);
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let greeter = Upstream::raw(|mut stream| {
        stream.write_all(b"220 ready").unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        stream.write_all(&word).unwrap();
    });
    let node = detecting(&greeter);
    let mut client = node.client();
    let mut greeting = [0; 9];
    client.stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 ready");
    client.send("QUIT");
    assert_eq!(client.rest().unwrap(), b"QUIT");
    assert_eq!((greeter.connections(), opaque(&node)), (1, 1));
}

#[test]
fn a_server_that_ends_the_connection_is_heard_as_well() {
    let closing = Upstream::raw(drop);
    let node = detecting(&closing);
    assert_eq!(node.client().rest().unwrap(), b"");
    assert_eq!((closing.connections(), opaque(&node)), (1, 1));
}

#[test]
fn a_client_that_connects_long_before_it_asks_is_heard() {
    let (upstream, canary) = (Upstream::saying("stable"), Upstream::saying("canary"));
    let world = World::new(&[upstream.address]).service("b", &[canary.address]).protocol(Protocol::Detect);
    let world = world.rule(RuleOf { to: vec![("b", 1)], ..RuleOf::default() });
    let node = Node::start_with(world, |settings| settings.downstream.head_timeout = Duration::from_millis(150));
    let mut client = node.client();
    // Its server was asked, and says nothing either.
    until("the endpoint to be asked", || upstream.connections() == 1);
    // One that has begun to ask has only the time that heads have, which the other outlives.
    let mut slow = node.client();
    until("the endpoint to be asked again", || upstream.connections() == 2);
    let reply = slow.ask("GET / HTTP/1.1\r\nhost");
    assert_eq!((reply.status(), reply.cause()), (408, Some("header_timeout")));
    assert_eq!(client.ask(&get("/", &[])).text(), "canary", "rules hold");
    assert_eq!(client.ask(&get("/", &[])).text(), "canary");
    node.await_event(WorkerEvent::UpstreamClosed, 2);
    assert_eq!((upstream.requests().len(), opaque(&node)), (0, 0));
}

#[test]
fn what_a_late_client_says_goes_by_the_connection_that_is_there() {
    let upstream = Upstream::raw(|mut stream| {
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        stream.write_all(&word).unwrap();
    });
    let node = detecting(&upstream);
    let mut client = node.client();
    until("the endpoint to be asked", || upstream.connections() == 1);
    client.send("ping");
    assert_eq!(client.rest().unwrap(), b"ping");
    assert_eq!((upstream.connections(), opaque(&node)), (1, 1));
    // A word that might go on to be a request, by a client that waits for the answer to it.
    let mut client = node.client();
    client.send("PING");
    assert_eq!(client.rest().unwrap(), b"PING");
    assert_eq!(opaque(&node), 2);
}

#[test]
fn settings_of_http2_are_not_a_word() {
    let upstream = Upstream::raw(|mut stream| {
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
        // Only to the second connection a client of HTTP/1.1 says anything.
        if message::read(&mut stream, &mut Vec::new(), Kind::Request).is_ok() {
            let _client_may_be_gone = stream.write_all(&response(200, b"garbage now"));
        }
    });
    let node = detecting(&upstream);
    let mut client = node.client();
    until("the endpoint to be asked", || upstream.connections() == 1);
    node.await_event(WorkerEvent::UpstreamClosed, 1);
    let reply = client.ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause(), opaque(&node)), (502, Some("upstream_garbage"), 0));
}

#[test]
fn where_no_endpoint_is_reached_requests_are_answered_and_the_silent_hear_of_it() {
    for endpoints in [vec![refusing()], Vec::new()] {
        let node = Node::start(World::new(&endpoints).protocol(Protocol::Detect));
        let mut client = node.client();
        std::thread::park_timeout(Duration::from_millis(50));
        assert_eq!(client.ask(&get("/", &[])).status(), 503);
        assert_eq!(opaque(&node), 0);
        assert!(node.client().rest().is_err(), "reset");
        node.await_event(WorkerEvent::OpaqueFailed, 1);
    }
}
