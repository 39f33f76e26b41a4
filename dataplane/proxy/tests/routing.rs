//! Requests that go where the rules say, and what is changed on the way.

mod support;

use std::sync::Mutex;
use std::sync::mpsc;

use support::upstream::{Upstream, response};
use support::world::{RuleOf, World};
use support::{Node, get, until};
use weir_core::share::Share;
use weir_telemetry::WorkerEvent;

#[test]
fn a_header_decides_and_everything_else_goes_to_the_service() {
    let (stable, canary) = (Upstream::saying("stable"), Upstream::saying("canary"));
    let rule = RuleOf { header: Some(("x-user-tag", "canary-user")), to: vec![("b", 1)], ..RuleOf::default() };
    let node = Node::start(World::new(&[stable.address]).service("b", &[canary.address]).rule(rule));
    let mut client = node.client();
    for _ in 0..3 {
        assert_eq!(client.ask(&get("/", &[])).text(), "stable");
        assert_eq!(client.ask(&get("/", &["x-user-tag: canary-user"])).text(), "canary");
        assert_eq!(client.ask(&get("/", &["x-user-tag: other"])).text(), "stable");
    }
    assert_eq!((stable.connections(), canary.connections()), (1, 1), "connections are used again");
    let counted: Vec<u64> = node.telemetry.routes(node.world.keys()).iter().map(|route| route.requests).collect();
    assert_eq!(counted.iter().sum::<u64>(), 9);
}

#[test]
fn heads_arrive_as_they_were_sent_but_for_what_a_proxy_changes() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\nConnection: x-inner\r\nX-Inner: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: yes\r\nContent-Length: 0\r\n\r\n"
            .to_vec()
    });
    let node = Node::start(World::new(&[upstream.address]));
    let reply = node.ask(&get("/p?q=%20", &["traceparent: 00-a-b-c", "te: trailers", "connection: x-hop", "x-hop: 1"]));
    assert_eq!((reply.status(), reply.header("x-kept")), (200, Some("yes")));
    assert_eq!((reply.header("x-inner"), reply.header("keep-alive")), (None, None));
    let request = &upstream.requests()[0];
    assert_eq!(request.first, "GET /p?q=%20 HTTP/1.1");
    assert_eq!((request.header("host"), request.header("traceparent")), (Some("a"), Some("00-a-b-c")));
    assert_eq!(
        (request.header("x-forwarded-for"), request.header("x-forwarded-proto")),
        (Some("127.0.0.1"), Some("http"))
    );
    assert_eq!(request.header("x-hop"), None);
    assert_eq!((request.header("te"), request.header("connection")), (Some("trailers"), Some("te")));
    assert_eq!(request.header("x-request-id").map(str::len), Some(32));
}

#[test]
fn bodies_of_every_framing_arrive_whole() {
    let upstream = Upstream::answering(|request| response(200, &request.body));
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    let fixed = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(fixed.text(), "hello");
    for method in ["POST", "GET", "DELETE"] {
        let request = format!(
            "{method} / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        );
        assert_eq!(client.ask(&request).text(), "hello", "{method}");
    }
    assert_eq!(client.ask(&get("/", &[])).text(), "");
    assert_eq!(upstream.connections(), 1);
    assert_eq!(upstream.requests()[0].header("content-length"), Some("5"));
}

#[test]
fn responses_of_every_framing_arrive_whole() {
    let upstream = Upstream::answering(|request| match request.first.split(' ').nth(1) {
        Some("/chunked") => {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec()
        }
        Some("/none") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        Some("/head") => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-of-head: 1\r\n\r\n".to_vec(),
        Some("/early") => {
            b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()
        }
        _ => response(200, b"abcde"),
    });
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    assert_eq!(client.ask(&get("/", &[])).text(), "abcde");
    assert_eq!(client.ask(&get("/chunked", &[])).text(), "abcde");
    assert_eq!(client.ask(&get("/none", &[])).status(), 204);
    let head = client.ask("HEAD /head HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((head.status(), head.header("content-length")), (200, Some("5")));
    assert_eq!(client.ask(&get("/early", &[])).text(), "ok");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_body_that_ends_with_the_connection_is_passed_on_as_one_that_does_not() {
    let upstream = Upstream::after_request(|mut stream| {
        use std::io::Write;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").unwrap();
    });
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    for _ in 0..2 {
        let reply = client.ask(&get("/", &[]));
        assert_eq!((reply.text(), reply.header("transfer-encoding")), ("until the end", Some("chunked")));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::answering(|request| response(200, request.first.as_bytes()));
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    client.send((0..20).map(|number| get(&format!("/{number}"), &[])).collect::<String>());
    for number in 0..20 {
        assert_eq!(client.receive().text(), format!("GET /{number} HTTP/1.1"));
    }
}

#[test]
fn old_clients_are_served_as_they_expect() {
    let upstream =
        Upstream::answering(|_| b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec());
    let node = Node::start(World::new(&[upstream.address]));
    let reply = node.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((reply.text(), reply.header("transfer-encoding")), ("abc", None));
}

#[test]
fn a_client_that_waits_for_permission_to_send_gets_it() {
    let upstream = Upstream::answering(|request| response(200, &request.body));
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert_eq!(client.receive().status(), 100);
    assert_eq!(client.ask("ok").text(), "ok");
}

#[test]
fn a_protocol_change_is_passed_on_with_what_follows() {
    let upstream = Upstream::after_request(|mut stream| {
        use std::io::{Read, Write};
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nwelcome")
            .unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    // The client does not wait for the answer before it speaks the other protocol.
    let reply = client.ask(&format!("{}pi", get("/", &["connection: Upgrade", "upgrade: echo"])));
    assert_eq!(
        (reply.status(), reply.header("upgrade"), reply.header("connection")),
        (101, Some("echo"), Some("upgrade"))
    );
    client.send("ng");
    assert_eq!(client.rest().unwrap(), b"welcomeping");
    assert_eq!(node.telemetry.count(WorkerEvent::Upgraded), 1);
    drop(client);
    node.await_event(WorkerEvent::UpstreamClosed, 1);
}

#[test]
fn a_request_under_way_keeps_the_configuration_it_began_with() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let old = Upstream::answering(move |_| {
        wait.lock().unwrap().recv().unwrap();
        response(200, b"old")
    });
    let new = Upstream::saying("new");
    let mut node = Node::start(World::new(&[old.address]).service("b", &[new.address]));
    let (mut first, mut second) = (node.client(), node.client());
    first.send(get("/", &[]));
    until("the first request to arrive", || old.connections() == 1);
    node.publish(|world| world.rules.push(RuleOf { to: vec![("b", 1)], ..RuleOf::default() }));
    assert_eq!(second.ask(&get("/", &[])).text(), "new");
    go.send(()).unwrap();
    assert_eq!(first.receive().text(), "old");
    assert_eq!(first.ask(&get("/", &[])).text(), "new", "the same connection, by the new rules");
}

#[test]
fn many_changes_lose_no_request() {
    let upstreams = [Upstream::saying("a"), Upstream::saying("b")];
    let world = World::new(&[upstreams[0].address]).service("b", &[upstreams[1].address]);
    let mut node = Node::start_with(world, |settings| settings.workers = 2);
    let address = node.address;
    let asking: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = support::Client::connect(address);
                (0..500).filter(|_| client.ask(&get("/", &[])).status() == 200).count()
            })
        })
        .collect();
    while asking.iter().any(|thread| !thread.is_finished()) {
        node.publish(|world| match world.rules.pop() {
            Some(_) => {}
            None => world.rules.push(RuleOf { to: vec![("b", 1)], ..RuleOf::default() }),
        });
        std::thread::yield_now();
    }
    assert_eq!(asking.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), 2_000);
}

#[test]
fn traces_are_kept_and_begun_only_where_the_settings_say_so() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    for traces in [None, Share::from_percent(100.0)] {
        let upstream = Upstream::saying("");
        let node =
            Node::start_with(World::new(&[upstream.address]), |settings| settings.tracing.sampled_percent = traces);
        node.ask(&get("/", &[&format!("traceparent: {parent}"), "tracestate: a=b", "baggage: c=d"]));
        node.ask(&get("/", &["baggage: c=d"]));
        let seen = upstream.requests();
        let of = |request: usize, name: &str| seen[request].header(name).map(str::to_owned);
        assert_eq!((of(0, "traceparent").as_deref(), of(0, "tracestate").as_deref()), (Some(parent), Some("a=b")));
        assert_eq!((of(0, "baggage"), of(1, "baggage")), (Some("c=d".to_owned()), Some("c=d".to_owned())));
        let begun = of(1, "traceparent");
        assert_eq!(begun.is_some(), traces.is_some());
        let id = of(1, "x-request-id").unwrap();
        assert!(begun.is_none_or(|begun| begun.starts_with(&format!("00-{id}-")) && begun.ends_with("-01")));
    }
}

#[test]
fn a_request_that_waits_for_its_endpoint_keeps_no_old_configuration() {
    let upstream = Upstream::hanging();
    let mut node = Node::start(World::new(&[upstream.address]));
    let old = std::sync::Arc::downgrade(&node.snapshot());
    let mut client = node.client();
    client.send(get("/", &[]));
    until("the endpoint has it", || upstream.connections() == 1);
    node.publish(|_| {});
    until("the old configuration is gone", || old.upgrade().is_none());
}
