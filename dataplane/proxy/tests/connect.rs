//! `CONNECT`: refused, unless the settings have it passed on to services that are proxies themselves.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;

use support::upstream::{Upstream, response};
use support::world::{RuleOf, World};
use support::{Client, Node, get};
use weir_telemetry::{Cause, WorkerEvent};

const CONNECT: &str =
    "CONNECT db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\nproxy-authorization: Basic eA==\r\n\r\n";

fn node(endpoint: &Upstream) -> Node {
    Node::start_with(World::new(&[endpoint.address]), |settings| settings.downstream.connect = true)
}

/// A proxy that agrees with this head, and says back what it is told.
fn agreeing(head: &'static str) -> Upstream {
    Upstream::after_request(move |mut stream| {
        stream.write_all(head.as_bytes()).unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    })
}

#[test]
fn it_is_refused_where_nobody_said_otherwise() {
    let endpoint = Upstream::saying("ok");
    let node = Node::start(World::new(&[endpoint.address]));
    let mut client = node.client();
    let reply = client.ask(CONNECT);
    assert_eq!((reply.status(), reply.cause()), (405, Some("connect_method")));
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(endpoint.connections(), 0);
}

#[test]
fn it_makes_a_tunnel_to_the_proxy_that_agrees() {
    for head in [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        // Lengths say nothing here (RFC 9110, section 9.3.6).
        "HTTP/1.1 201 Fine\r\nvia: proxy\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
    ] {
        let endpoint = agreeing(head);
        let node = node(&endpoint);
        let mut client = node.client();
        // The client does not wait for the answer before it speaks through the tunnel.
        client.send(format!("{CONNECT}pi"));
        client.await_text("\r\n\r\n");
        client.send("ng");
        let told = String::from_utf8(client.rest().unwrap()).unwrap();
        assert!(told.starts_with("HTTP/1.1 20") && told.ends_with("\r\n\r\nping"), "{told}");
        assert!(!told.contains("content-length") && !told.contains("transfer-encoding"), "{told}");
        let arrived = endpoint.requests().remove(0);
        assert_eq!(arrived.first, "CONNECT db.example:5432 HTTP/1.1");
        let has = |name| arrived.header(name);
        assert_eq!((has("host"), has("x-forwarded-for")), (Some("db.example:5432"), Some("127.0.0.1")));
        assert_eq!((has("connection"), has("proxy-authorization")), (None, Some("Basic eA==")));
        assert_eq!(node.telemetry.count(WorkerEvent::Upgraded), 1);
        drop(client);
        node.await_event(WorkerEvent::UpstreamClosed, 1);
    }
}

#[test]
fn a_proxy_that_does_not_agree_is_heard() {
    let endpoint = Upstream::answering(|request| {
        if request.first.starts_with("CONNECT") { response(407, b"who are you?") } else { response(200, b"ok") }
    });
    let node = node(&endpoint);
    let mut client = node.client();
    let reply = client.ask(CONNECT);
    assert_eq!((reply.status(), reply.text()), (407, "who are you?"));
    assert_eq!(client.ask(&get("/", &[])).text(), "ok", "the connection goes on");
    assert_eq!(node.telemetry.count(WorkerEvent::Upgraded), 0);
}

#[test]
fn what_is_asked_for_in_two_ways_or_none_is_refused() {
    let endpoint = Upstream::saying("ok");
    let node = node(&endpoint);
    for wrong in [
        "CONNECT db.example:5432 HTTP/1.1\r\nhost: other.example:5432\r\n\r\n",
        "CONNECT db.example:5432 HTTP/1.1\r\n\r\n",
        "CONNECT me@db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\n\r\n",
        "CONNECT /path HTTP/1.1\r\nhost: db.example:5432\r\n\r\n",
    ] {
        let reply = node.client().ask(wrong);
        assert_eq!(reply.status(), 400, "{wrong}");
    }
    assert_eq!(endpoint.connections(), 0);
}

#[test]
fn rules_decide_where_it_goes_and_gateways_never_let_it_in() {
    let (plain, special) = (Upstream::saying("plain"), agreeing("HTTP/1.1 200 OK\r\n\r\n"));
    let world = World::new(&[plain.address]).service("b", &[special.address]);
    let rule = RuleOf { header: Some(("proxy-authorization", "Basic eA==")), to: vec![("b", 1)], ..RuleOf::default() };
    let mut node = Node::start_with(world.rule(rule), |settings| settings.downstream.connect = true);
    let mut client = node.client();
    client.send(format!("{CONNECT}ping"));
    assert!(client.rest().unwrap().ends_with(b"ping"));
    assert_eq!((special.connections(), plain.connections()), (1, 0));
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    node.listen_at(&[address]);
    assert_eq!(Client::connect(address).ask(CONNECT).cause(), Some("connect_method"));
    assert_eq!(node.telemetry.count_cause(Cause::ConnectMethod), 1);
}
