//! HTTP/2: from clients, to endpoints, and from either version to the other.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response};
use support::frames::*;
use support::http2::{Answer, Arrived, Client, Upstream, get, rest, run, until};
use support::world::{RuleOf, World};
use support::{Node, upstream};
use weir_core::route::Timeouts;
use weir_core::snapshot::Protocol;
use weir_telemetry::{Cause, MirrorEvent, WorkerEvent};

/// Stable by HTTP/1.1, a canary by HTTP/2.
fn canary(stable: &upstream::Upstream, canary: &Upstream) -> World {
    let rule = RuleOf { header: Some(("x-canary", "yes")), to: vec![("b", 1)], ..RuleOf::default() };
    World::new(&[stable.address]).service("b", &[canary.address]).speaking("b", Protocol::Http2).rule(rule)
}

#[test]
fn every_version_is_routed_to_every_version() {
    let (one, two) = (upstream::Upstream::saying("one"), Upstream::saying("two"));
    let node = Node::start(canary(&one, &two));
    assert_eq!(node.ask(&support::get("/p?q", &[])).text(), "one");
    assert_eq!(node.ask(&support::get("/p?q", &["x-canary: yes"])).text(), "two");
    run(async {
        let mut client = Client::connect(node.address).await;
        assert_eq!(client.ask(get("/p?q")).await.text(), "one");
        let request = Request::get("http://a/p?q").header("x-canary", "yes").body(&b""[..]).unwrap();
        assert_eq!(client.ask(request).await.text(), "two");
    });
    for request in one.requests() {
        assert_eq!((request.first.as_str(), request.header("host")), ("GET /p?q HTTP/1.1", Some("a")));
    }
    for request in two.requests() {
        assert_eq!((request.target.as_str(), request.header("host")), ("http://a/p?q", None));
        assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    }
    assert_eq!(two.connections(), 1, "requests share a connection");
}

#[test]
fn what_is_of_one_message_alone_is_sent_so_that_no_table_remembers_it() {
    // Fields that no table keeps (RFC 7541, section 6.2.2).
    const ID: &[u8] = b"\x00\x0cx-request-id\x011";
    const VERSION: &[u8] = b"\x00\x09x-version\x012";
    let heads = Arc::new(Mutex::new(Vec::new()));
    let two = upstream::Upstream::raw({
        let heads = Arc::clone(&heads);
        move |mut stream| {
            stream.read_exact(&mut [0; 24]).unwrap();
            stream.write_all(&frame(SETTINGS, 0, 0, b"")).unwrap();
            for _ in 0..2 {
                let (number, head) = await_frame(&mut stream, HEADERS);
                heads.lock().unwrap().push(head);
                let reply = [b"\x88", ID, VERSION].concat();
                stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, number, &reply)).unwrap();
            }
        }
    });
    let node = Node::start(World::new(&[two.address]).protocol(Protocol::Http2));
    let mut client = TcpStream::connect(node.address).unwrap();
    client.write_all(&start()).unwrap();
    let mut replies = Vec::new();
    for number in [1, 3] {
        let request = [GET, ID, VERSION].concat();
        client.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, number, &request)).unwrap();
        replies.push(await_frame(&mut client, HEADERS).1);
    }
    // What a table remembers takes a byte the second time; the name of the id alone takes nine.
    for heads in [&*heads.lock().unwrap(), &replies] {
        let [first, second] = &heads[..] else { panic!("{} heads", heads.len()) };
        assert!(second.len() < first.len(), "the version is remembered: {first:x?}, {second:x?}");
        assert!(second.len() > 12, "the id is not: {second:x?}");
    }
}

#[test]
fn where_nobody_says_what_endpoints_speak_they_speak_what_their_clients_do() {
    let two = Upstream::saying("two");
    let node = Node::start(World::new(&[two.address]).protocol(Protocol::Detect));
    run(async {
        let mut client = Client::connect(node.address).await;
        assert_eq!(client.ask(get("/")).await.text(), "two");
    });
    node.await_event(WorkerEvent::Closed, 1);
}

#[test]
fn an_endpoint_that_does_not_speak_it_is_said_to_send_garbage() {
    let one = upstream::Upstream::saying("one");
    let node = Node::start(World::new(&[one.address]).protocol(Protocol::Http2));
    let reply = node.ask(&support::get("/", &[]));
    assert_eq!((reply.status(), reply.cause()), (502, Some("upstream_garbage")));
}

#[test]
fn requests_at_the_same_time_share_one_connection_and_more_than_it_may_have_take_another() {
    // Nobody is answered before all have come.
    let all = Arc::new(tokio::sync::Barrier::new(100));
    let two = Upstream::serving(move |_, mut reply| {
        let all = Arc::clone(&all);
        async move {
            all.wait().await;
            reply.send_response(Response::new(()), true).unwrap();
        }
    });
    let node = Node::start_with(World::new(&[two.address]).protocol(Protocol::Http2), |settings| {
        settings.upstream.http2.max_streams = 40;
    });
    let replies = run(async {
        let mut client = Client::connect(node.address).await;
        let mut responses = Vec::new();
        for _ in 0..100 {
            responses.push(client.begin(Request::get("http://a/").body(()).unwrap(), true).await.0);
        }
        futures_util::future::join_all(responses).await
    });
    assert!(replies.into_iter().all(|reply| reply.unwrap().status() == 200));
    assert_eq!(two.connections(), 3);
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    let two = Upstream::answering(|request| Answer {
        body: Bytes::from(request.body.clone()),
        trailers: vec![("x-sum", "1234")],
        ..Answer::text("")
    });
    let node = Node::start(World::new(&[two.address]).protocol(Protocol::Http2));
    let body: Vec<u8> = (0..3_u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let reply = run(async {
        let mut client = Client::connect(node.address).await;
        let (response, mut stream) = client.begin(Request::post("http://a/").body(()).unwrap(), false).await;
        // As much as the proxy takes at a time: never more than its window.
        let sent = body.clone();
        tokio::spawn(async move {
            let mut left = Bytes::from(sent);
            while !left.is_empty() {
                stream.reserve_capacity(left.len());
                let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await.unwrap().unwrap();
                stream.send_data(left.split_to(room.min(left.len())), false).unwrap();
            }
            let trailers = [("x-end".parse().unwrap(), "yes".parse().unwrap())];
            stream.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        });
        let (head, received) = response.await.unwrap().into_parts();
        let (body, trailers) = rest(received).await.unwrap();
        Arrived { status: head.status.as_u16(), body, trailers, ..Arrived::default() }
    });
    assert!(reply.body == body, "{} bytes came back", reply.body.len());
    assert_eq!(reply.trailer("x-sum"), Some("1234"));
    assert_eq!(two.requests()[0].trailer("x-end"), Some("yes"));
    // The same to a client of HTTP/1.1 that takes trailers.
    let request = "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ncontent-length: 5\r\n\r\nhello";
    let mut client = node.client();
    client.send(request);
    client.await_text("hello\r\n0\r\n");
}

#[test]
fn what_http1_forbids_does_not_get_through_from_http2() {
    let one = upstream::Upstream::saying("one");
    let node = Node::start(World::new(&[one.address]));
    run(async {
        let mut client = Client::connect(node.address).await;
        // A length that is not that of the body would let the rest of it be read as a request.
        let request = Request::post("http://a/").header("content-length", "3");
        let result = client.try_ask(request.body(&b"abcGET /smuggled HTTP/1.1\r\n\r\n"[..]).unwrap()).await;
        assert_eq!(result.unwrap_err().reason(), Some(Reason::PROTOCOL_ERROR));
        let request = Request::get("http://a/").header("host", "b").body(&b""[..]).unwrap();
        let reply = client.ask(request).await;
        assert_eq!((reply.status, reply.header("x-weir-cause")), (400, Some("bad_request")));
        assert_eq!(reply.header("connection"), None);
        let request = Request::get("http://a/").header("cookie", "x=1").header("cookie", "y=2");
        assert_eq!(client.ask(request.body(&b""[..]).unwrap()).await.status, 200);
    });
    let seen = one.requests();
    assert!(seen.iter().all(|request| !request.first.contains("smuggled")), "{seen:?}");
    assert_eq!(seen.last().unwrap().header("cookie"), Some("x=1; y=2"));
}

#[test]
fn a_client_that_loses_interest_cancels_the_request_at_the_endpoint() {
    let (seen, cancelled) = std::sync::mpsc::channel();
    let two = Upstream::serving(move |_, mut reply| {
        let seen = seen.clone();
        async move {
            let reason = std::future::poll_fn(|context| reply.poll_reset(context)).await;
            seen.send(reason.unwrap()).unwrap();
        }
    });
    let node = Node::start(World::new(&[two.address]).protocol(Protocol::Http2));
    run(async {
        let mut client = Client::connect(node.address).await;
        let (response, mut stream) = client.begin(Request::post("http://a/").body(()).unwrap(), false).await;
        stream.send_data(Bytes::from_static(b"some"), false).unwrap();
        until(|| two.connections() == 1).await;
        stream.send_reset(Reason::CANCEL);
        assert!(response.await.is_err());
        // The connection goes on.
        let result = tokio::time::timeout(Duration::from_millis(50), client.try_ask(get("/")));
        assert!(result.await.is_err(), "nobody answers here");
    });
    assert_eq!(cancelled.recv_timeout(support::PATIENCE).unwrap(), Reason::CANCEL);
    node.await_cause(Cause::RequestAborted, 1);
    node.await_cause(Cause::DownstreamGone, 1);
}

#[test]
fn an_endpoint_that_breaks_off_breaks_off_only_that_response() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let two = Upstream::serving(move |request, mut reply| {
        let mut wait = wait.clone();
        async move {
            let is_broken = request.uri().path() == "/broken";
            let mut stream = reply.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"part"), !is_broken).unwrap();
            if is_broken {
                wait.wait_for(|go| *go).await.unwrap();
                stream.send_reset(Reason::INTERNAL_ERROR);
            }
        }
    });
    let node = Node::start(World::new(&[two.address]).protocol(Protocol::Http2));
    run(async {
        let mut client = Client::connect(node.address).await;
        let (response, _) = client.begin(Request::get("http://a/broken").body(()).unwrap(), true).await;
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "part");
        go.send(true).unwrap();
        let broken = rest(body).await;
        assert_eq!(broken.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
        assert_eq!(client.ask(get("/whole")).await.text(), "part");
    });
    node.await_cause(Cause::UpstreamAborted, 1);
    assert_eq!(two.connections(), 1);
}

#[test]
fn a_request_that_the_endpoint_refuses_unseen_is_sent_again() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let two = Upstream::serving(move |_, mut reply| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            match number {
                1 => reply.send_reset(Reason::REFUSED_STREAM),
                _ => drop(reply.send_response(Response::new(()), true).unwrap()),
            }
        }
    });
    let node = Node::start(World::new(&[two.address]).protocol(Protocol::Http2));
    for _ in 0..2 {
        assert_eq!(node.ask(&support::get("/", &[])).status(), 200);
    }
    node.await_event(WorkerEvent::UpstreamRetried, 1);
}

#[test]
fn an_endpoint_that_wants_another_connection_gets_one_and_no_request_is_lost() {
    let two = Upstream::retiring_after(10);
    let node = Node::start(World::new(&[two.address]).protocol(Protocol::Http2));
    run(async {
        let mut client = Client::connect(node.address).await;
        for number in 0..20 {
            // Some at the same time, so that the farewell crosses requests.
            let requests = (0..10).map(|of| format!("http://a/{number}/{of}"));
            let mut responses = Vec::new();
            for target in requests {
                responses.push(client.begin(Request::get(target).body(()).unwrap(), true).await.0);
            }
            for (of, response) in futures_util::future::join_all(responses).await.into_iter().enumerate() {
                let (body, _) = rest(response.unwrap().into_body()).await.unwrap();
                assert_eq!(String::from_utf8(body).unwrap(), format!("/{number}/{of}"));
            }
        }
    });
    assert!(two.connections() >= 10, "{} connections for 200 requests", two.connections());
}

#[test]
fn bounds_on_time_hold_for_each_request() {
    let two = Upstream::serving(|request, mut reply| async move {
        match request.uri().path() {
            "/silent" => std::future::pending().await,
            _ => drop(reply.send_response(Response::new(()), true).unwrap()),
        }
    });
    let timeouts = Timeouts { request: Some(Duration::from_millis(50)), ..Timeouts::default() };
    let rule = RuleOf { to: vec![("a", 1)], timeouts, ..RuleOf::default() };
    let node = Node::start(World::new(&[two.address]).protocol(Protocol::Http2).rule(rule));
    run(async {
        let mut client = Client::connect(node.address).await;
        let reply = client.ask(get("/silent")).await;
        assert_eq!((reply.status, reply.header("x-weir-cause")), (504, Some("request_timeout")));
        assert_eq!(client.ask(get("/")).await.status, 200);
    });
    // Where nothing moves on one stream, what moves on others does not help it.
    let node = Node::start_with(World::new(&[two.address]).protocol(Protocol::Http2), |settings| {
        settings.downstream.stream_idle = Duration::from_millis(100);
    });
    run(async {
        let mut client = Client::connect(node.address).await;
        let (silent, _) = client.begin(Request::get("http://a/silent").body(()).unwrap(), true).await;
        let others = async {
            loop {
                assert_eq!(client.ask(get("/")).await.status, 200);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            silent = silent => assert_eq!(silent.unwrap().status(), 504),
            () = others => {}
        }
    });
}

#[test]
fn a_connection_without_requests_is_told_to_end_and_ends() {
    let two = Upstream::saying("two");
    let node = Node::start_with(World::new(&[two.address]).protocol(Protocol::Http2), |settings| {
        settings.downstream.keep_alive = Duration::from_millis(50);
    });
    run(async {
        let mut client = Client::connect(node.address).await;
        assert_eq!(client.ask(get("/")).await.text(), "two");
        client.end().await.unwrap();
    });
    node.await_event(WorkerEvent::IdleClosed, 1);
    node.await_event(WorkerEvent::Closed, 1);
}

#[test]
fn a_request_that_crosses_the_farewell_is_answered_however_long_it_takes() {
    let (two, go) = Upstream::held();
    let node = Node::start_with(World::new(&[two.address]).protocol(Protocol::Http2), |settings| {
        settings.downstream.keep_alive = Duration::from_millis(50);
    });
    let mut client = node.client();
    client.send(start());
    let (_, farewell) = await_frame(&mut client.stream, GOAWAY);
    assert_eq!(farewell[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0], "any stream that is on its way");
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, GET));
    support::until("a request at the endpoint", || two.connections() == 1);
    // Longer than a connection without a request has after its farewell.
    let begun = std::time::Instant::now();
    support::until("a while", || begun.elapsed() > Duration::from_millis(1_500));
    go.send(true).unwrap();
    assert_eq!(await_frame(&mut client.stream, HEADERS).0, 1);
    // And then that is over, whether the client answers or not.
    node.await_event(WorkerEvent::Closed, 1);
}

#[test]
fn draining_tells_clients_and_lets_their_requests_end() {
    let (two, go) = Upstream::held();
    let mut node = Node::start(World::new(&[two.address]).protocol(Protocol::Http2));
    run(async {
        let mut client = Client::connect(node.address).await;
        let (response, _) = client.begin(Request::get("http://a/").body(()).unwrap(), true).await;
        until(|| two.connections() == 1).await;
        node.drain.finish(Duration::from_secs(5));
        // The client hears of it while its request is under way, and begins no other.
        while client.try_begin().await {}
        go.send(true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        client.end().await.unwrap();
    });
    node.join().unwrap();
}

#[test]
fn copies_go_in_the_version_of_their_destination() {
    let (primary, mirror) = (upstream::Upstream::saying("primary"), Upstream::saying("mirror"));
    let rule = RuleOf { to: vec![("a", 1)], mirrors: vec!["m"], ..RuleOf::default() };
    let world =
        World::new(&[primary.address]).service("m", &[mirror.address]).speaking("m", Protocol::Http2).rule(rule);
    let node = Node::start(world);
    run(async {
        let mut client = Client::connect(node.address).await;
        let request = Request::post("http://a/p").body(&b"body"[..]).unwrap();
        assert_eq!(client.ask(request).await.text(), "primary");
    });
    node.await_copies(MirrorEvent::Sent, 1);
    let copy = &mirror.requests()[0];
    assert_eq!((copy.target.as_str(), &copy.body[..]), ("http://a/p", &b"body"[..]));
    assert_eq!(copy.header("x-weir-mirror"), Some("default/rule-0"));
    assert_eq!(primary.requests()[0].body, b"body");
}
