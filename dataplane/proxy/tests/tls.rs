//! Gateways whose clients speak TLS: which certificate they are shown, and that nothing else is different.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use http::Request;
use sha2::{Digest, Sha256};
use support::tls::{self, Certificates};
use support::upstream::{Upstream, response};
use support::world::World;
use support::{Client, Node, PATIENCE, get, http2, until};
use weir_proxy::Settings;
use weir_telemetry::{Cause, WorkerEvent};

/// A node with a gateway for these hosts, each with a certificate of its own.
fn start(
    upstream: &Upstream,
    certificates: &mut Certificates,
    hosts: &[&'static str],
    change: impl FnOnce(&mut Settings),
) -> (Node, SocketAddr) {
    for host in hosts {
        certificates.put(host, host);
    }
    let mut node = Node::start_with(World::new(&[upstream.address]), |settings| {
        settings.gateways.certificates = certificates.path().to_owned();
        change(settings);
    });
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    node.world.hosts = hosts.iter().map(|host| (*host, *host)).collect();
    node.listen_at(&[address]);
    (node, address)
}

fn request(host: &str, path: &str, lines: &[&str]) -> String {
    get(path, lines).replace("host: a\r\n", &format!("host: {host}\r\n"))
}

#[test]
fn requests_arrive_by_every_version_and_endpoints_are_told_that_it_was_https() {
    let upstream = Upstream::saying("ok");
    let mut certificates = Certificates::new();
    let (node, address) = start(&upstream, &mut certificates, &["a.test"], |_| {});
    for alpn in [&["http/1.1"][..], &["http/1.1", "h2"][..1], &[]] {
        let mut client = certificates.connect(address, "a.test", alpn);
        let agreed = client.stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(agreed.as_deref(), alpn.first().copied());
        for _ in 0..2 {
            assert_eq!(client.ask(&request("a.test", "/", &["x-forwarded-proto: http"])).text(), "ok");
        }
        // Two in one record.
        client.send(request("A.test:443", "/", &[]).repeat(2));
        assert_eq!((client.receive().text(), client.receive().text()), ("ok", "ok"));
    }
    http2::run(async {
        let mut client = http2::Client::connect_tls(address, certificates.client(&["h2", "http/1.1"]), "a.test").await;
        let ask = || Request::get("https://a.test/").body(&b""[..]).unwrap();
        assert_eq!(client.ask(ask()).await.text(), "ok");
    });
    // By HTTP/2 without having agreed on it.
    let mut client = certificates.connect(address, "a.test", &[]);
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut settings = [0; 9];
    client.stream.read_exact(&mut settings).unwrap();
    assert_eq!(settings[3], 4, "the proxy's settings");
    for arrived in upstream.requests() {
        assert_eq!(
            (arrived.header("x-forwarded-proto"), arrived.header("x-forwarded-for")),
            (Some("https"), Some("127.0.0.1"))
        );
    }
    assert_eq!((node.telemetry.count(WorkerEvent::TlsAccepted), node.telemetry.count(WorkerEvent::TlsFailed)), (5, 0));
}

#[test]
fn bodies_arrive_whole() {
    let upstream = Upstream::answering(|request| response(200, &request.body));
    let mut certificates = Certificates::new();
    let (_node, address) = start(&upstream, &mut certificates, &["a.test"], |_| {});
    let body: Vec<u8> = (0..3_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let digest = Sha256::digest(&body);
    let mut client = certificates.connect(address, "a.test", &["http/1.1"]);
    client.send(format!("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: {}\r\n\r\n", body.len()));
    client.send(&body);
    assert_eq!(Sha256::digest(client.receive().body), digest);
    http2::run(async {
        let mut client = http2::Client::connect_tls(address, certificates.client(&["h2"]), "a.test").await;
        let small = &body[..60_000];
        let reply = client.ask(Request::post("https://a.test/").body(small).unwrap()).await;
        assert_eq!(reply.body, small);
    });
}

#[test]
fn the_name_leads_to_the_certificate_and_a_host_of_another_one_is_misdirected() {
    let upstream = Upstream::saying("ok");
    let mut certificates = Certificates::new();
    let (node, address) = start(&upstream, &mut certificates, &["a.test", "*.b.test"], |_| {});
    // Both are shown: a client that trusts them checks the name.
    let mut client = certificates.connect(address, "a.test", &[]);
    certificates.connect(address, "x.b.test", &[]);
    for (host, status, cause) in [
        ("a.test", 200, None),
        ("x.b.test", 421, Some("misdirected")),
        ("c.test", 404, Some("no_route")),
        ("a.test", 200, None),
    ] {
        let reply = client.ask(&request(host, "/", &[]));
        assert_eq!((reply.status(), reply.cause()), (status, cause), "{host}");
    }
    // Another host of the same listener is not.
    let mut client = certificates.connect(address, "x.b.test", &[]);
    assert_eq!(client.ask(&request("y.b.test", "/", &[])).status(), 200);
    // A name that nobody has here.
    let refused = certificates.try_connect(address, "c.test", &[]).err().unwrap().to_string();
    assert!(refused.contains("AccessDenied"), "{refused}");
    node.await_event(WorkerEvent::TlsFailed, 1);
}

#[test]
fn what_is_no_handshake_is_refused() {
    let upstream = Upstream::saying("ok");
    let mut certificates = Certificates::new();
    let (node, address) = start(&upstream, &mut certificates, &["a.test"], |settings| {
        settings.downstream.head_timeout = Duration::from_millis(200);
    });
    let reply = Client::connect(address).ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause(), reply.header("connection")), (400, Some("tls_required"), Some("close")));
    node.await_cause(Cause::TlsRequired, 1);
    // A record that is none.
    let mut client = Client::connect(address);
    client.send([22; 100]);
    assert!(client.rest().is_ok_and(|alert| alert.first() == Some(&21)));
    // Half of a handshake.
    let mut client = Client::connect(address);
    client.send([22, 3, 1, 0, 100, 1]);
    assert!(client.rest().is_ok());
    node.await_event(WorkerEvent::TlsFailed, 3);
    // Whoever says nothing has not failed.
    drop(Client::connect(address));
    node.await_event(WorkerEvent::Closed, 4);
    assert_eq!(node.telemetry.count(WorkerEvent::TlsFailed), 3);
    assert_eq!(certificates.connect(address, "a.test", &[]).ask(&request("a.test", "/", &[])).text(), "ok");
}

#[test]
fn a_connection_that_has_rested_serves_on() {
    let upstream = Upstream::saying("ok");
    let mut certificates = Certificates::new();
    let (node, address) = start(&upstream, &mut certificates, &["a.test"], |_| {});
    let mut client = certificates.connect(address, "a.test", &[]);
    for round in 1..=2 {
        assert_eq!(client.ask(&request("a.test", "/", &[])).text(), "ok");
        node.await_event(WorkerEvent::Rested, round);
    }
    client.send("GET / HTT");
    client.send("P/1.1\r\nhost: a.test\r\n\r\nGET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    assert_eq!((client.receive().text(), client.receive().text()), ("ok", "ok"));
    node.await_event(WorkerEvent::Rested, 3);
    client.end();
    assert_eq!(client.rest().unwrap(), b"");
    node.await_event(WorkerEvent::Closed, 1);
}

#[test]
fn a_client_that_has_ended_its_side_gets_its_answers_and_hears_the_end() {
    let upstream = Upstream::answering(|_| {
        // When the end of the client's side has long been seen.
        std::thread::park_timeout(Duration::from_millis(50));
        response(200, &vec![b'x'; 1 << 20])
    });
    let mut certificates = Certificates::new();
    let (node, address) = start(&upstream, &mut certificates, &["a.test"], |_| {});
    let mut client = certificates.connect(address, "a.test", &[]);
    client.send(request("a.test", "/", &[]).repeat(2));
    client.end();
    for _ in 0..2 {
        assert_eq!(client.receive().body.len(), 1 << 20);
    }
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(node.telemetry.count_cause(Cause::DownstreamGone), 0);
}

#[test]
fn a_client_that_goes_away_takes_its_request_with_it() {
    // Whether it says so or not.
    let leave: [fn(&mut tls::Client); 2] = [tls::Client::end, |_| {}];
    for leave in leave {
        let upstream = Upstream::hanging();
        let mut certificates = Certificates::new();
        let (node, address) = start(&upstream, &mut certificates, &["a.test"], |settings| {
            settings.downstream.half_closed = Duration::from_millis(100);
        });
        let mut client = certificates.connect(address, "a.test", &[]);
        client.send(request("a.test", "/", &[]));
        node.await_event(WorkerEvent::UpstreamConnected, 1);
        leave(&mut client);
        drop(client);
        node.await_cause(Cause::DownstreamGone, 1);
        node.await_event(WorkerEvent::UpstreamClosed, 1);
        node.await_event(WorkerEvent::Closed, 1);
    }
}

#[test]
fn another_protocol_passes_both_ways() {
    let upstream = Upstream::after_request(|mut stream| {
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nwelcome")
            .unwrap();
        let mut bytes = vec![0; 200_004];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let mut certificates = Certificates::new();
    let (node, address) = start(&upstream, &mut certificates, &["a.test"], |_| {});
    let mut client = certificates.connect(address, "a.test", &["http/1.1"]);
    let reply = client.ask(&format!("{}pi", request("a.test", "/", &["connection: Upgrade", "upgrade: echo"])));
    assert_eq!((reply.status(), reply.header("upgrade")), (101, Some("echo")));
    client.send("ng");
    client.send(vec![b'x'; 200_000]);
    let echoed = client.rest().unwrap();
    assert!(echoed.starts_with(b"welcomepingxx") && echoed.len() == 7 + 200_004, "{}", echoed.len());
    drop(client);
    node.await_event(WorkerEvent::UpstreamClosed, 1);
}

#[test]
fn certificates_are_followed_and_what_breaks_stays_as_it_was() {
    let upstream = Upstream::saying("ok");
    let mut certificates = Certificates::new();
    let (mut node, address) = start(&upstream, &mut certificates, &["a.test"], |_| {});
    let shown = |certificates: &Certificates| {
        let client = certificates.connect(address, "a.test", &[]);
        client.stream.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let mut kept = certificates.connect(address, "a.test", &[]);
    let first = shown(&certificates);
    // Another one, while the node runs.
    certificates.put("a.test", "a.test");
    until("the new certificate", || shown(&certificates) != first);
    let second = shown(&certificates);
    // One that cannot be read.
    let path = certificates.path().join("default/a.test/tls.key");
    std::fs::write(&path, "nonsense").unwrap();
    let state = || node.gateways.certificates().first().cloned().unwrap();
    until("the failure", || state().failure.is_some());
    let failure = state();
    assert!(failure.failure.unwrap().contains("default/a.test: tls.key is no PEM"));
    assert!(failure.not_after.is_some() && failure.name.to_string() == "default/a.test");
    assert_eq!(shown(&certificates), second);
    assert_eq!(kept.ask(&request("a.test", "/", &[])).text(), "ok");
    // A listener whose certificate is not there yet.
    node.publish(|world| world.hosts.extend([("b.test", "b.test")]));
    until("the other to be missed", || node.gateways.certificates().len() == 2);
    assert!(certificates.try_connect(address, "b.test", &[]).is_err());
    certificates.put("b.test", "b.test");
    until("the other", || certificates.try_connect(address, "b.test", &[]).is_ok());
    node.publish(|world| world.hosts.retain(|host, _| *host != "b.test"));
    until("the other to be forgotten", || node.gateways.certificates().len() == 1);
}

#[test]
fn a_listener_that_goes_says_so() {
    let upstream = Upstream::saying("ok");
    let mut certificates = Certificates::new();
    let (mut node, address) = start(&upstream, &mut certificates, &["a.test"], |settings| {
        settings.gateways.drain = PATIENCE;
    });
    let mut kept = certificates.connect(address, "a.test", &["http/1.1"]);
    assert_eq!(kept.ask(&request("a.test", "/", &[])).text(), "ok");
    http2::run(async {
        let mut client = http2::Client::connect_tls(address, certificates.client(&["h2"]), "a.test").await;
        client.ask(Request::get("https://a.test/").body(&b""[..]).unwrap()).await;
        node.listen_at(&[]);
        // Its own farewell may come too late.
        assert!(client.end().await.err().is_none_or(|error| error.is_io()));
    });
    let reply = kept.ask(&request("a.test", "/", &[]));
    assert_eq!((reply.status(), reply.header("connection")), (503, Some("close")));
    assert_eq!(kept.rest().unwrap(), b"", "the end is announced");
}

#[test]
fn a_port_that_turns_to_tls_serves_nobody_in_the_clear() {
    let upstream = Upstream::saying("ok");
    let mut certificates = Certificates::new();
    let (mut node, address) = start(&upstream, &mut certificates, &[], |_| {});
    let mut clear = Client::connect(address);
    assert_eq!(clear.ask(&get("/", &[])).text(), "ok");
    certificates.put("a.test", "a.test");
    node.publish(|world| world.hosts.extend([("a.test", "a.test")]));
    assert_eq!(clear.ask(&request("a.test", "/", &[])).cause(), Some("unknown_service"));
    until("TLS", || certificates.try_connect(address, "a.test", &[]).is_ok());
    // And back.
    let mut secured = certificates.connect(address, "a.test", &[]);
    node.publish(|world| world.hosts.clear());
    assert_eq!(secured.ask(&request("a.test", "/", &[])).cause(), Some("unknown_service"));
    assert_eq!(Client::connect(address).ask(&get("/", &[])).text(), "ok");
}

#[test]
fn connections_that_nobody_ends_in_order_are_told_apart() {
    // A response of unknown length that breaks off must not look whole.
    let upstream = Upstream::after_request(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").unwrap();
    });
    let mut certificates = Certificates::new();
    let (_node, address) = start(&upstream, &mut certificates, &["a.test"], |_| {});
    let mut client = certificates.connect(address, "a.test", &[]);
    client.send(request("a.test", "/", &[]));
    let end = client.rest().unwrap_err().kind();
    assert!(matches!(end, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{end}");
}
