//! Clients of HTTP/2 that make work instead of requests: sent away, and nobody else notices.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use support::frames::*;
use support::http2::{self, Upstream, run};
use support::world::World;
use support::{Client, Node};
use weir_core::snapshot::Protocol;
use weir_telemetry::{Cause, WorkerEvent};

/// Sends the pieces until there are no more or the proxy has closed, then reads what it said.
fn flood(node: &Node, pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Vec<u8> {
    let Client { mut stream, .. } = node.client();
    let mut other: TcpStream = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for piece in std::iter::once(start()).chain(pieces) {
            if other.write_all(&piece).is_err() {
                return;
            }
        }
    });
    let mut answer = Vec::new();
    // The proxy may reset what it does not want to read to its end.
    let mut buffer = [0; 65_536];
    while let Ok(got @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..got]);
    }
    writer.join().unwrap();
    answer
}

#[test]
fn floods_are_answered_with_a_request_for_calm_and_others_are_served() {
    type Pieces = Box<dyn Iterator<Item = Vec<u8>> + Send>;
    let many = |frame: Vec<u8>| -> Pieces { Box::new(std::iter::repeat_n(frame.repeat(100), 1_000)) };
    let streams = || (1..u32::MAX / 2).step_by(2);
    let reset = |stream| [request(stream, 0), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
    let cases: Vec<(&str, Pieces, u32)> = vec![
        ("pings", many(frame(PING, 0, 0, &[7; 8])), CALM),
        ("settings", many(frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])), CALM),
        ("priorities", many(frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9])), CALM),
        ("windows of the connection", many(frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())), CALM),
        ("frames of no known kind", many(frame(0xbb, 0, 0, b"x")), CALM),
        ("requests that are taken back at once", Box::new(streams().take(20_000).map(reset)), CALM),
        ("data without data", Box::new(std::iter::once(request(1, 0)).chain(many(frame(DATA, 0, 1, &[])))), CALM),
        (
            "a head that never ends",
            Box::new(std::iter::once(frame(HEADERS, 0, 1, GET)).chain(many(frame(
                CONTINUATION,
                0,
                1,
                b"\0\x01a\x01b",
            )))),
            CALM,
        ),
        ("a window that is too large", many(frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())), 3),
        ("a window of nothing", many(frame(WINDOW_UPDATE, 0, 0, &[0; 4])), PROTOCOL_ERROR),
        ("a frame for a stream that is not open", many(frame(DATA, 0, 5, b"x")), PROTOCOL_ERROR),
        ("streams of the server", many(request(2, END_STREAM)), PROTOCOL_ERROR),
    ];
    let upstream = Upstream::serving(|request, mut reply| async move {
        match request.uri().path() {
            "/steady" => drop(reply.send_response(http::Response::new(()), true)),
            _ => std::future::pending().await,
        }
    });
    for (what, pieces, expected) in cases {
        let node = Node::start(World::new(&[upstream.address]).protocol(Protocol::Http2));
        let answer = flood(&node, pieces);
        if let Some(code) = farewell(&answer) {
            assert_eq!(code, expected, "{what}");
        }
        println!("{what}: {:?}", farewell(&answer));
        match expected {
            CALM => node.await_event(WorkerEvent::FloodClosed, 1),
            _ => node.await_cause(Cause::Garbage, 1),
        }
        run(async {
            let mut client = http2::Client::connect(node.address).await;
            assert_eq!(client.ask(http2::get("/steady")).await.status, 200, "{what}");
        });
    }
}

#[test]
fn a_head_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let steady = support::upstream::Upstream::saying("steady");
    let node = Node::start_with(World::new(&[steady.address]), |settings| settings.downstream.head_bytes = 8_192);
    run(async {
        let mut client = http2::Client::connect(node.address).await;
        // Much from little: one entry of the table, named again and again.
        let mut request = http2::get("/");
        for _ in 0..300 {
            request.headers_mut().append("x-bomb", "0123456789".repeat(10).parse().unwrap());
        }
        assert_eq!(client.ask(request).await.status, 431);
        // Or many small ones.
        let mut request = http2::get("/");
        for number in 0..150 {
            request.headers_mut().append("x-small", number.to_string().parse().unwrap());
        }
        let reply = client.ask(request).await;
        assert_eq!((reply.status, reply.header("x-weir-cause")), (431, Some("head_too_large")));
        assert_eq!(client.ask(http2::get("/")).await.text(), "steady");
    });
}
