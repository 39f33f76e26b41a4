//! Clients that go away, or only stop talking.

mod support;

use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use support::upstream::{Upstream, response};
use support::world::World;
use support::{Client, Node, get, until};
use weir_telemetry::{Cause, WorkerEvent};

/// How a client leaves, given also another one of the same worker.
type Leaving = fn(Client, &mut Client);

#[test]
fn a_client_that_goes_away_takes_its_request_with_it() {
    const LONG: Duration = Duration::from_secs(3_600);
    let reset: Leaving = |client, _| {
        SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let close: Leaving = |client, _| drop(client);
    let close_then_reset: Leaving = |client, other| {
        client.stream.shutdown(Shutdown::Write).unwrap();
        // The worker has seen the end before it answers what came later.
        assert_eq!(other.ask(&get("/", &[])).status(), 200);
        SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let cases = [
        ("resets", reset, LONG),
        ("closes", close, Duration::from_millis(100)),
        ("closes, then resets", close_then_reset, LONG),
    ];
    for (what, leave, half_closed) in cases {
        let upstream = Upstream::answering(|request| {
            if request.first.contains("/hang") {
                std::thread::park_timeout(support::PATIENCE);
            }
            response(200, b"ok")
        });
        let node = Node::start_with(World::new(&[upstream.address]), |settings| {
            settings.downstream.half_closed = half_closed;
        });
        let (mut client, mut other) = (node.client(), node.client());
        client.send(get("/hang", &[]));
        node.await_event(WorkerEvent::UpstreamConnected, 1);
        leave(client, &mut other);
        until(&format!("a client that {what} to be gone"), || node.telemetry.count_cause(Cause::DownstreamGone) == 1);
        node.await_event(WorkerEvent::UpstreamClosed, 1);
        node.await_event(WorkerEvent::Closed, 1);
    }
}

#[test]
fn a_client_that_has_ended_its_side_gets_its_answers() {
    let requests = [
        ("a plain request", get("/", &[]), 1),
        ("two at once", get("/", &[]).repeat(2), 2),
        ("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n".to_owned(), 1),
        ("a body", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody".to_owned(), 1),
        (
            "chunks",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n".to_owned(),
            1,
        ),
    ];
    // The answers come when the end of the client's side has long been seen, and in two parts.
    let upstream = Upstream::answering(|request| {
        std::thread::park_timeout(Duration::from_millis(50));
        response(200, &if request.body.is_empty() { vec![b'x'; 1 << 20] } else { request.body.clone() })
    });
    let node = Node::start(World::new(&[upstream.address]));
    for (what, request, count) in requests {
        let mut client = node.client();
        client.send(request);
        client.stream.shutdown(Shutdown::Write).unwrap();
        for _ in 0..count {
            let reply = client.receive();
            let length = reply.header("content-length").and_then(|length| length.parse().ok());
            assert_eq!((reply.status(), Some(reply.body.len())), (200, length), "{what}");
        }
        assert_eq!(client.rest().unwrap(), b"", "{what}: and then the connection ends in order");
    }
    assert_eq!(node.telemetry.count_cause(Cause::DownstreamGone), 0);
    // Half a request is none.
    let mut client = node.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert!(client.try_receive().map_or(true, |reply| reply.status() == 400));
    node.await_event(WorkerEvent::Closed, 6);
}

#[test]
fn clients_that_are_slow_or_silent_are_let_go() {
    let upstream = Upstream::saying("ok");
    let node = Node::start_with(World::new(&[upstream.address]), |settings| {
        settings.downstream.head_timeout = Duration::from_millis(150);
        settings.downstream.keep_alive = Duration::from_millis(150);
    });
    let mut slow = node.client();
    slow.send("GET / HTTP/1.1\r\nhost");
    let reply = slow.receive();
    assert_eq!((reply.status(), reply.cause()), (408, Some("header_timeout")));
    let mut silent = node.client();
    assert_eq!(silent.rest().unwrap_or_default(), b"");
    let mut kept = node.client();
    assert_eq!(kept.ask(&get("/", &[])).text(), "ok");
    assert_eq!(kept.rest().unwrap(), b"");
    node.await_cause(Cause::HeaderTimeout, 2);
    node.await_event(WorkerEvent::IdleClosed, 1);
}
