//! Connections without a request: they give their buffers back, and take the next request all the same.

mod support;

use std::io::Read;
use std::net::Shutdown;
use std::time::Duration;

use support::upstream::{Upstream, response};
use support::world::World;
use support::{Node, get};
use weir_telemetry::WorkerEvent;

#[test]
fn a_connection_that_has_rested_serves_on() {
    let upstream = Upstream::saying("ok");
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    for round in 1..=2 {
        assert_eq!(client.ask(&get("/", &[])).text(), "ok");
        node.await_event(WorkerEvent::Rested, round);
    }
    // A head that comes in pieces, and another request with its end.
    client.send("GET / HTT");
    client.send("P/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((client.receive().text(), client.receive().text()), ("ok", "ok"));
    client.stream.shutdown(Shutdown::Both).unwrap();
    node.await_event(WorkerEvent::Closed, 1);
}

#[test]
fn a_connection_that_rests_ends_when_it_has_to() {
    let upstream = Upstream::saying("ok");
    // When the client goes.
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    client.ask(&get("/", &[]));
    node.await_event(WorkerEvent::Rested, 1);
    drop(client);
    node.await_event(WorkerEvent::Closed, 1);
    // When there has been no request for too long.
    let node = Node::start_with(World::new(&[upstream.address]), |settings| {
        settings.downstream.keep_alive = Duration::from_secs(2);
    });
    let mut client = node.client();
    client.ask(&get("/", &[]));
    node.await_event(WorkerEvent::Rested, 1);
    assert_eq!(client.rest().unwrap(), b"");
    node.await_event(WorkerEvent::IdleClosed, 1);
    // When the node stops.
    let mut node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    client.ask(&get("/", &[]));
    node.await_event(WorkerEvent::Rested, 1);
    node.drain.finish(Duration::from_secs(2));
    assert_eq!(client.rest().unwrap(), b"");
    node.join().unwrap();
    // When the head of the next request does not come to its end.
    let node = Node::start_with(World::new(&[upstream.address]), |settings| {
        settings.downstream.head_timeout = Duration::from_millis(100);
    });
    let mut client = node.client();
    client.ask(&get("/", &[]));
    node.await_event(WorkerEvent::Rested, 1);
    client.send("GET / HTT");
    assert_eq!(client.receive().status(), 408);
}

#[test]
fn a_client_that_does_not_read_gets_its_whole_answer_however_late() {
    const BYTES: usize = 8 << 20;
    let upstream = Upstream::answering(|request| {
        response(200, &vec![b'x'; if request.first.starts_with("GET /large") { BYTES } else { 1 }])
    });
    let node = Node::start(World::new(&[upstream.address]));
    let mut slow = node.client();
    slow.send(get("/large", &[]));
    // Another connection has rested twice over while this one had something to read.
    let mut other = node.client();
    for round in 1..=2 {
        other.ask(&get("/", &[]));
        node.await_event(WorkerEvent::Rested, round);
    }
    let mut all = Vec::new();
    slow.stream.shutdown(Shutdown::Write).unwrap();
    slow.stream.read_to_end(&mut all).unwrap();
    assert!(all.len() > BYTES && all.ends_with(b"x"), "{} bytes", all.len());
}
