//! Endpoints and clients that misbehave: each gets the right answer, is counted, and the proxy lives on.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::upstream::{Upstream, refusing, response};
use support::world::{RuleOf, World};
use support::{Client, Node, get, until};
use weir_core::route::Timeouts;
use weir_telemetry::{Cause, WorkerEvent};

/// The status and cause of the answer to a plain request.
fn answer(world: World) -> (u16, Option<String>) {
    let node = Node::start(world);
    let reply = node.ask(&get("/", &[]));
    assert_eq!(node.telemetry.count_cause(Cause::DownstreamGone), 0);
    (reply.status(), reply.cause().map(str::to_owned))
}

#[test]
fn endpoints_that_fail_before_they_answer() {
    let writes = |bytes: &'static [u8]| {
        Upstream::after_request(move |mut stream: TcpStream| {
            stream.write_all(bytes).unwrap();
        })
    };
    let huge: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000)).into_boxed_str());
    let cases = [
        ("closes", writes(b""), 502, "upstream_closed"),
        ("closes in the head", writes(b"HTTP/1.1 200 OK\r\nx: "), 502, "upstream_closed"),
        ("garbage", writes(b"SSH-2.0-server\r\n\r\n"), 502, "upstream_garbage"),
        ("huge head", writes(huge.as_bytes()), 502, "upstream_garbage"),
        (
            "two lengths",
            writes(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
            502,
            "upstream_garbage",
        ),
    ];
    for (what, upstream, status, cause) in cases {
        assert_eq!(answer(World::new(&[upstream.address])), (status, Some(cause.to_owned())), "{what}");
        assert_eq!(upstream.requests().len(), 1, "{what}: sent once");
    }
    assert_eq!(answer(World::new(&[refusing()])), (503, Some("connect_failed".to_owned())));
    assert_eq!(answer(World::new(&[])), (503, Some("no_endpoint".to_owned())));
}

#[test]
fn rules_that_lead_nowhere() {
    let missing = "the destination missing.default:80 of RouteRule default/rule-0 does not resolve: no such service\n";
    let cases: [(&[(&str, u32)], _, _); 2] = [
        (&[("missing", 1)], "unresolved", missing),
        (&[("a", 0)], "no_destination", "the rule has no destination with a weight\n"),
    ];
    for (to, cause, text) in cases {
        let node = Node::start(World::new(&[refusing()]).rule(RuleOf { to: to.to_vec(), ..RuleOf::default() }));
        let reply = node.ask(&get("/", &[]));
        assert_eq!((reply.status(), reply.cause(), reply.text()), (500, Some(cause), text));
    }
}

#[test]
fn an_endpoint_that_is_the_proxy_itself_is_refused() {
    let mut node = Node::start(World::new(&[refusing()]));
    let own = node.address;
    node.publish(|world| drop(world.services.insert("a", vec![own])));
    let reply = node.ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause()), (500, Some("loop")));
}

#[test]
fn timeouts_of_the_rule() {
    let timeouts = [
        (Timeouts { request: Some(Duration::from_millis(50)), per_try: None }, "request_timeout"),
        (Timeouts { request: None, per_try: Some(Duration::from_millis(50)) }, "per_try_timeout"),
    ];
    for (timeouts, cause) in timeouts {
        let upstream = Upstream::hanging();
        let rule = RuleOf { to: vec![("a", 1)], timeouts, ..RuleOf::default() };
        let node = Node::start(World::new(&[upstream.address]).rule(rule));
        let mut client = node.client();
        for _ in 0..2 {
            let reply = client.ask(&get("/", &[]));
            assert_eq!((reply.status(), reply.cause()), (504, Some(cause)));
        }
        node.await_event(WorkerEvent::UpstreamClosed, 2);
    }
}

#[test]
fn a_response_that_breaks_off_never_looks_whole() {
    let starts: [&'static [u8]; 3] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\nXX\r\n",
    ];
    for start in starts {
        for request in [get("/", &[]), "GET / HTTP/1.0\r\n\r\n".to_owned()] {
            let upstream = Upstream::after_request(move |mut stream| stream.write_all(start).unwrap());
            let node = Node::start(World::new(&[upstream.address]));
            let mut client = node.client();
            client.send(&request);
            let what = format!("{} to {request}", start.escape_ascii());
            match client.rest() {
                // A reset says enough.
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{what}"),
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
                    let is_cut = text.contains("content-length: 100")
                        || (text.contains("transfer-encoding: chunked") && !text.ends_with("0\r\n\r\n"));
                    assert!(is_cut, "{what}: {text}");
                }
            }
            node.await_cause(Cause::UpstreamAborted, 1);
        }
    }
}

#[test]
fn a_timeout_in_the_middle_of_a_response_cuts_it_off() {
    let upstream = Upstream::after_request(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart").unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let timeouts = Timeouts { request: Some(Duration::from_millis(100)), per_try: None };
    let rule = RuleOf { to: vec![("a", 1)], timeouts, ..RuleOf::default() };
    let node = Node::start(World::new(&[upstream.address]).rule(rule));
    let mut client = node.client();
    client.send(get("/", &[]));
    assert!(client.try_receive().is_err());
    node.await_cause(Cause::RequestTimeout, 1);
}

#[test]
fn an_endpoint_that_closes_kept_connections_costs_no_request() {
    // Every second request on a connection meets a close, as when a server's keep-alive runs out meanwhile.
    let upstream = Upstream::raw(|mut stream| {
        let mut unread = Vec::new();
        let read = |stream: &mut TcpStream, unread: &mut Vec<u8>| {
            support::message::read(stream, unread, support::message::Kind::Request)
        };
        if read(&mut stream, &mut unread).is_ok() && stream.write_all(&response(200, b"ok")).is_ok() {
            let _ = read(&mut stream, &mut unread);
        }
    });
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    for _ in 0..5 {
        assert_eq!(client.ask(&get("/", &[])).status(), 200);
    }
    assert!(node.telemetry.count(WorkerEvent::UpstreamRetried) >= 1);
    // A request that may have been acted on is not sent twice.
    let post = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
    assert_eq!((post.status(), post.cause()), (502, Some("upstream_closed")));
}

#[test]
fn an_endpoint_that_closes_at_rest_is_noticed_before_the_next_request() {
    let upstream = Upstream::after_request(|mut stream| stream.write_all(&response(200, b"ok")).unwrap());
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    for number in 1..=5 {
        assert_eq!(client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").status(), 200);
        until("the next connection not to be there yet", || upstream.connections() == number);
        node.await_event(WorkerEvent::UpstreamClosed, number as u64);
    }
}

#[test]
fn too_much_at_once_is_refused_not_queued_for_ever() {
    let upstream = Upstream::hanging();
    let node = Node::start_with(World::new(&[upstream.address]), |settings| {
        settings.upstream.max_connections = 2;
        settings.upstream.max_pending = 1;
        settings.upstream.connect_timeout = Duration::from_millis(300);
        settings.downstream.half_closed = Duration::from_millis(100);
    });
    let mut clients: Vec<Client> = (0..4).map(|_| node.client()).collect();
    clients.iter_mut().for_each(|client| client.send(get("/", &[])));
    node.await_cause(Cause::Overflow, 2);
    assert_eq!(upstream.connections(), 2);
    drop(clients);
    node.await_cause(Cause::DownstreamGone, 2);
    node.await_event(WorkerEvent::UpstreamClosed, 2);
}

#[test]
fn requests_that_are_not_fit_to_be_passed_on() {
    let upstream = Upstream::saying("reached");
    let node = Node::start_with(World::new(&[upstream.address]), |settings| {
        settings.downstream.head_bytes = 8_192;
        settings.downstream.body_bytes = Some(10);
    });
    let long = "y".repeat(20_000);
    // What the parser refuses it also answers itself, without a cause; it is counted all the same.
    let cases: [(String, u16, Option<Cause>, Cause); 13] = [
        ("NOT HTTP\r\n\r\n".to_owned(), 400, Some(Cause::Garbage), Cause::Garbage),
        ("\x16\x03\x01\x02\x03hello".to_owned(), 400, Some(Cause::Garbage), Cause::Garbage),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), 400, None, Cause::Garbage),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, Some(Cause::BadRequest), Cause::BadRequest),
        (get("/", &["host: b"]), 400, Some(Cause::BadRequest), Cause::BadRequest),
        (get("/", &["x: a", " folded"]), 400, None, Cause::Garbage),
        (get("/", &["content-length: 3", "content-length: 4"]), 400, None, Cause::Garbage),
        (get("/", &["transfer-encoding: gzip"]), 400, None, Cause::Garbage),
        (get("/", &["content-length: +3"]), 400, None, Cause::Garbage),
        (
            "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n".to_owned(),
            405,
            Some(Cause::ConnectMethod),
            Cause::ConnectMethod,
        ),
        (get("/", &["content-length: 11"]), 413, Some(Cause::BodyTooLarge), Cause::BodyTooLarge),
        (get("/", &[&format!("x: {long}")]), 431, None, Cause::HeadTooLarge),
        (get(&format!("/{long}"), &[]), 431, None, Cause::HeadTooLarge),
    ];
    for (number, (request, status, said, counted)) in cases.iter().enumerate() {
        let before = node.telemetry.count_cause(*counted);
        let mut client = node.client();
        client.send(request);
        let reply = client.try_receive().unwrap_or_else(|error| panic!("{number}: {error}"));
        let what = format!("{number}: {}", &request[..request.len().min(100)]);
        assert_eq!((reply.status(), reply.cause()), (*status, said.map(Cause::name)), "{what}");
        assert_eq!(client.rest().unwrap_or_default(), b"", "{what}: closed afterwards");
        node.await_cause(*counted, before + 1);
    }
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(node.ask(&get("/", &[])).text(), "reached");
}

#[test]
fn a_length_beside_chunks_never_reaches_an_endpoint() {
    let upstream = Upstream::answering(|request| response(200, &request.body));
    let node = Node::start(World::new(&[upstream.address]));
    for lines in
        [["transfer-encoding: chunked", "content-length: 30"], ["content-length: 30", "transfer-encoding: chunked"]]
    {
        let mut client = node.client();
        let reply = client.ask(&format!("{}2\r\nok\r\n0\r\n\r\n", get("/", &lines)));
        assert_eq!((reply.text(), reply.header("connection")), ("ok", Some("close")));
        assert_eq!(client.rest().unwrap(), b"");
    }
    assert!(upstream.requests().iter().all(|request| request.header("content-length").is_none()));
}

#[test]
fn a_body_that_grows_too_large_is_cut_off() {
    let upstream = Upstream::hanging();
    let node = Node::start_with(World::new(&[upstream.address]), |settings| settings.downstream.body_bytes = Some(10));
    let mut client = node.client();
    let reply = client.ask("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nb\r\n01234567890\r\n");
    assert_eq!((reply.status(), reply.cause()), (413, Some("body_too_large")));
    node.await_event(WorkerEvent::UpstreamClosed, 1);
}

#[test]
fn nothing_moving_ends_a_request() {
    let upstream = Upstream::hanging();
    let node = Node::start_with(World::new(&[upstream.address]), |settings| {
        settings.downstream.stream_idle = Duration::from_millis(100);
    });
    let mut client = node.client();
    let reply = client.ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause()), (504, Some("idle_timeout")));
}

#[test]
fn a_service_that_is_no_longer_configured_is_said_to_be() {
    let upstream = Upstream::saying("ok");
    let node = Node::start_with(World::new(&[upstream.address]), |settings| {
        settings.services[0].port = 81;
    });
    let rest = Client::try_connect(node.address).and_then(|mut client| client.rest());
    assert!(rest.is_err(), "reset");
    node.await_event(WorkerEvent::RefusedUnknown, 1);
}

#[test]
fn draining_lets_requests_end_and_then_ends() {
    let answered = AtomicUsize::new(0);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::answering(move |_| {
        if answered.fetch_add(1, Ordering::SeqCst) > 0 {
            wait.lock().unwrap().recv().unwrap();
        }
        response(200, b"ok")
    });
    let mut node = Node::start(World::new(&[upstream.address]));
    let (mut idle, mut busy) = (node.client(), node.client());
    assert_eq!(idle.ask(&get("/", &[])).status(), 200);
    busy.send(get("/", &[]));
    until("the second request to arrive", || upstream.connections() == 1 && upstream.requests().len() == 1);
    node.await_event(WorkerEvent::UpstreamReused, 1);
    node.drain.finish(support::PATIENCE);
    assert_eq!(idle.rest().unwrap(), b"");
    until("the listener to close", || TcpStream::connect(node.address).is_err());
    go.send(()).unwrap();
    let reply = busy.receive();
    assert_eq!((reply.status(), reply.header("connection")), (200, Some("close")));
    node.join().unwrap();
}

#[test]
fn draining_does_not_wait_for_ever() {
    let upstream = Upstream::hanging();
    let mut node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    client.send(get("/", &[]));
    node.await_event(WorkerEvent::UpstreamConnected, 1);
    node.drain.finish(Duration::from_millis(50));
    node.join().unwrap();
    assert_eq!(node.telemetry.count(WorkerEvent::DrainClosed), 1);
    assert_eq!(node.telemetry.count_cause(Cause::Drained), 1);
}

/// The end of the connection is the only end that this response has.
#[test]
fn what_draining_cuts_off_never_looks_whole() {
    let upstream = Upstream::after_request(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n").unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let mut node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    client.await_text("part");
    node.drain.finish(Duration::from_millis(50));
    assert_eq!(client.rest().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    node.join().unwrap();
    assert_eq!(node.telemetry.count_cause(Cause::Drained), 1);
}

#[test]
fn after_accepting_stops_connections_live_on() {
    let upstream = Upstream::saying("ok");
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    assert_eq!(client.ask(&get("/", &[])).status(), 200);
    node.drain.stop_accepting();
    until("the listener to close", || TcpStream::connect(node.address).is_err());
    assert_eq!(client.ask(&get("/", &[])).status(), 200);
}

#[test]
fn connections_in_the_queue_are_served_before_the_listener_closes() {
    let upstream = Upstream::saying("ok");
    let mut node = Node::start(World::new(&[upstream.address]));
    let mut clients: Vec<Client> = (0..50).map(|_| node.client()).collect();
    clients.iter_mut().for_each(|client| client.send(get("/", &[])));
    node.drain.finish(support::PATIENCE);
    for client in &mut clients {
        assert_eq!(client.receive().status(), 200);
    }
    node.join().unwrap();
}
