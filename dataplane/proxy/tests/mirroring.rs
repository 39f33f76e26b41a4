//! Copies: whole, marked, and never in the way.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use sha2::{Digest, Sha256};
use support::message::Message;
use support::upstream::{Upstream, refusing, response};
use support::world::{RuleOf, World};
use support::{Node, get, until};
use weir_telemetry::{MirrorEvent, WorkerEvent};

fn mirrored(primary: &Upstream, mirror: std::net::SocketAddr) -> World {
    let rule = RuleOf { to: vec![("a", 1)], mirrors: vec!["m"], ..RuleOf::default() };
    World::new(&[primary.address]).service("m", &[mirror]).rule(rule)
}

#[test]
fn a_copy_is_the_request_with_a_mark() {
    let (primary, mirror) = (Upstream::saying("primary"), Upstream::answering(|_| response(418, b"mirror")));
    let node = Node::start(mirrored(&primary, mirror.address));
    let mut client = node.client();
    for number in 1..=3 {
        assert_eq!(client.ask(&get("/path?q", &["x-mine: 1"])).text(), "primary");
        node.await_copies(MirrorEvent::Sent, number);
    }
    assert_eq!(mirror.connections(), 1, "connections of copies are used again");
    let (request, copy) = (&primary.requests()[0], &mirror.requests()[0]);
    let unmarked = Message {
        headers: copy.headers.iter().filter(|(name, _)| name != "x-weir-mirror").cloned().collect(),
        ..copy.clone()
    };
    assert_eq!(&unmarked, request);
    assert_eq!(copy.header("x-weir-mirror"), Some("default/rule-0"));
    assert_eq!(node.telemetry.mirrors(node.world.keys())[0].status[4], 3);
}

/// A body of this many bytes in chunks of at most `chunk`, as it is sent.
fn chunked(body: &[u8], chunk: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(chunk) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[test]
fn a_large_body_arrives_the_same_at_both_however_late_the_mirror_reads() {
    let content = |number: u32| (number.wrapping_mul(2_654_435_761) >> 24) as u8;
    let body: Vec<u8> = (0..7_u32 << 20).map(content).collect();
    let length = format!("content-length: {}\r\n\r\n", body.len()).into_bytes();
    let by_chunks = |chunk| [b"transfer-encoding: chunked\r\n\r\n", &chunked(&body, chunk)[..]].concat();
    for (what, sent) in [
        ("chunks of 100 bytes", by_chunks(100)),
        ("chunks of 5,000 bytes", by_chunks(5_000)),
        ("chunks of 100,000 bytes", by_chunks(100_000)),
        ("a length", [&length[..], &body].concat()),
    ] {
        let (begin, begins) = std::sync::mpsc::channel();
        let mirror = Upstream::late(begins);
        let primary = Upstream::answering(|request| response(200, &Sha256::digest(&request.body)[..]));
        let node = Node::start(mirrored(&primary, mirror.address));
        let mut client = node.client();
        client.send("POST / HTTP/1.1\r\nhost: a\r\n");
        client.send(&sent);
        assert_eq!(client.receive().body, Sha256::digest(&body)[..], "{what}");
        begin.send(()).unwrap();
        node.await_copies(MirrorEvent::Sent, 1);
        assert!(mirror.requests()[0].body == body, "{what}: the copy differs");
        assert_eq!(node.telemetry.mirrors(node.world.keys())[0].bytes, body.len() as u64, "{what}");
    }
}

#[test]
fn whatever_the_mirror_does_the_client_gets_its_answers() {
    let slow = || {
        Upstream::raw(|mut stream| {
            let mut byte = [0; 1];
            // One byte at a time, as long as there is anyone.
            while stream.read(&mut byte).is_ok_and(|count| count > 0) {
                std::thread::park_timeout(Duration::from_millis(20));
            }
        })
    };
    let hanging = Upstream::hanging();
    let closing = Upstream::after_request(drop);
    let garbage = Upstream::after_request(|mut stream| stream.write_all(b"garbage\r\n\r\n").unwrap());
    let slow = slow();
    // Four copies may be under way: when the mirror's answers come late, further ones are `busy` in every case.
    let cases = [
        ("refusing", refusing(), vec![MirrorEvent::Connect, MirrorEvent::Busy, MirrorEvent::Breaker]),
        ("hanging", hanging.address, vec![MirrorEvent::Busy, MirrorEvent::Timeout, MirrorEvent::Breaker]),
        ("closing", closing.address, vec![MirrorEvent::Failed, MirrorEvent::Busy, MirrorEvent::Breaker]),
        ("garbage", garbage.address, vec![MirrorEvent::Failed, MirrorEvent::Busy, MirrorEvent::Breaker]),
        ("slow", slow.address, vec![MirrorEvent::Busy, MirrorEvent::Timeout, MirrorEvent::Breaker]),
    ];
    for (what, mirror, expected) in cases {
        let primary = Upstream::answering(|request| response(200, &request.body));
        let node = Node::start_with(mirrored(&primary, mirror), |settings| {
            settings.mirror.max_copies = 4;
            settings.mirror.deadline = Duration::from_millis(300);
        });
        let mut client = node.client();
        for number in 0..50 {
            let body = format!("{number:04}");
            let reply = client.ask(&format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n{body}"));
            assert_eq!(reply.text(), body, "{what}");
        }
        let ended = || expected.iter().map(|event| node.copies(*event)).sum::<u64>();
        until(&format!("{what}: every copy to end as expected"), || ended() == 50);
        assert!(node.copies(expected[0]) > 0, "{what}");
    }
}

#[test]
fn a_copy_that_falls_behind_is_given_up_and_the_request_is_not() {
    let mirror = Upstream::raw(|stream| {
        // Never reads; the buffers of the sockets fill up.
        until("the proxy to give up", || {
            stream.peek(&mut [0]).is_ok_and(|count| count == 0) || stream.take_error().is_err()
        });
    });
    let primary = Upstream::answering(|request| response(200, request.body.len().to_string().as_bytes()));
    let node = Node::start_with(mirrored(&primary, mirror.address), |settings| {
        settings.mirror.copy_bytes = 100_000;
        settings.mirror.deadline = Duration::from_secs(2);
    });
    let mut client = node.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 33554432\r\n\r\n");
    for _ in 0..32 {
        client.send(vec![7; 1 << 20]);
    }
    assert_eq!(client.receive().text(), "33554432");
    node.await_copies(MirrorEvent::Overflow, 1);
}

#[test]
fn copies_that_cannot_be_are_counted() {
    let primary = Upstream::saying("primary");
    let rule = RuleOf { to: vec![("a", 1)], mirrors: vec!["missing", "empty"], ..RuleOf::default() };
    let node = Node::start(World::new(&[primary.address]).service("empty", &[]).rule(rule));
    assert_eq!(node.ask(&get("/", &[])).text(), "primary");
    node.await_copies(MirrorEvent::Unresolved, 1);
    node.await_copies(MirrorEvent::NoEndpoint, 1);
}

#[test]
fn a_request_that_breaks_off_takes_its_copy_with_it() {
    let (primary, mirror) = (Upstream::hanging(), Upstream::hanging());
    let node = Node::start(mirrored(&primary, mirror.address));
    let mut client = node.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf");
    node.await_event(WorkerEvent::UpstreamConnected, 2);
    drop(client);
    node.await_copies(MirrorEvent::Aborted, 1);
    node.await_event(WorkerEvent::UpstreamClosed, 2);
}
