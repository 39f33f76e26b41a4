//! Every count stands in `/metrics`, beside the answer that the client got. What other tests count as well is not here.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, SockaddrIn, getsockname, shutdown};
use support::upstream::{Upstream, refusing};
use support::world::World;
use support::{Client, Node, get, until};
use weir_core::snapshot::Protocol;
use weir_telemetry::WorkerEvent;

const EVENTS: &str = "weir_proxy_events_total";
const UNROUTED: &str = "weir_proxy_unrouted_total";
const REPLIES: &str = "weir_proxy_local_replies_total";

/// Whether the proxy reset the connection, now or at the first word.
fn is_reset(node: &Node, word: &str) -> bool {
    let rest = Client::try_connect(node.address).and_then(|mut client| {
        // The reset may come before everything is sent.
        let _ = std::io::Write::write_all(&mut client.stream, word.as_bytes());
        client.rest()
    });
    rest.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[test]
fn a_target_beyond_the_parsers_bound_is_told_from_a_large_head() {
    let upstream = Upstream::saying("ok");
    let node = Node::start_with(World::new(&[upstream.address]), |settings| settings.downstream.head_bytes = 200_000);
    let target = |length: usize| format!("/{}", "y".repeat(length - 1));
    assert_eq!(node.ask(&get(&target(65_534), &[])).text(), "ok", "the longest that fits");
    let mut client = node.client();
    let reply = client.ask(&get(&target(65_535), &[]));
    assert_eq!((reply.status(), reply.cause(), reply.text()), (414, None, ""));
    assert_eq!(client.rest().unwrap_or_default(), b"", "closed afterwards");
    node.await_metric(UNROUTED, r#"cause="target_too_long""#, 1.0);
    assert_eq!(node.ask(&get("/", &[&format!("x: {}", "y".repeat(210_000))])).status(), 431);
    node.await_metric(UNROUTED, r#"cause="head_too_large""#, 1.0);
    assert_eq!(node.metric(UNROUTED, r#"cause="target_too_long""#), 1.0);
}

#[test]
fn connections_beyond_the_bound_are_reset_and_the_others_served() {
    let upstream = Upstream::saying("ok");
    let node = Node::start_with(World::new(&[upstream.address]), |settings| settings.downstream.max_connections = 2);
    let other = Client::try_connect_from("127.0.0.2", node.address).unwrap();
    let mut clients = [node.client(), other];
    clients.iter_mut().for_each(|client| assert_eq!(client.ask(&get("/", &[])).text(), "ok"));
    assert!(is_reset(&node, &get("/", &[])));
    node.await_metric(EVENTS, r#"event="refused_limit""#, 1.0);
    clients.iter_mut().for_each(|client| assert_eq!(client.ask(&get("/", &[])).text(), "ok"));
    drop(clients);
    node.await_event(WorkerEvent::Closed, 2);
    assert_eq!(node.ask(&get("/", &[])).text(), "ok", "there is room again");
    assert_eq!(node.metric(EVENTS, r#"event="refused_limit""#), 1.0);
}

#[test]
fn a_kept_connection_to_a_service_that_has_gone_is_answered() {
    let upstream = Upstream::saying("ok");
    let mut node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    assert_eq!(client.ask(&get("/", &[])).text(), "ok");
    node.publish(|world| world.is_empty = true);
    let reply = client.ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause()), (503, Some("unknown_service")));
    node.await_metric(UNROUTED, r#"cause="unknown_service""#, 1.0);
    // A new connection is for nobody.
    assert!(is_reset(&node, &get("/", &[])));
    node.await_metric(EVENTS, r#"event="refused_unknown""#, 1.0);
    node.publish(|world| world.is_empty = false);
    assert_eq!(client.ask(&get("/", &[])).text(), "ok", "the connection lived on");
}

#[test]
fn what_cannot_be_passed_on_unchanged_is_reset() {
    for endpoints in [vec![refusing()], Vec::new()] {
        let node = Node::start(World::new(&endpoints).protocol(Protocol::Detect));
        assert!(is_reset(&node, "SSH-2.0-x\r\n"), "{endpoints:?}");
        node.await_metric(EVENTS, r#"event="opaque_failed""#, 1.0);
        assert_eq!(node.metric(EVENTS, r#"event="opaque""#), 1.0);
    }
}

#[test]
fn a_request_that_breaks_off_within_its_chunks_is_answered() {
    let upstream = Upstream::hanging();
    let node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n");
    node.await_event(WorkerEvent::UpstreamConnected, 1);
    let reply = client.ask("no length\r\n");
    assert_eq!((reply.status(), reply.cause()), (400, Some("request_aborted")));
    assert_eq!(client.rest().unwrap_or_default(), b"", "closed afterwards");
    node.await_metric(REPLIES, r#"cause="request_aborted""#, 1.0);
    node.await_event(WorkerEvent::UpstreamClosed, 1);
}

/// The descriptor of the only socket of this process that is bound to an address.
fn bound_to(address: SocketAddr) -> i32 {
    let names = std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| entry.file_name());
    let descriptors = names.filter_map(|name| name.to_str()?.parse().ok());
    let wanted = |descriptor: &i32| {
        let name = getsockname::<SockaddrIn>(*descriptor);
        name.is_ok_and(|name| SocketAddr::from(std::net::SocketAddrV4::from(name)) == address)
    };
    let found: Vec<i32> = descriptors.filter(wanted).collect();
    assert_eq!(found.len(), 1, "sockets at {address}");
    found[0]
}

#[test]
fn a_listener_that_fails_is_counted_and_does_not_keep_the_worker_busy() {
    let upstream = Upstream::saying("ok");
    let node = Node::start(World::new(&[upstream.address]));
    let listener = bound_to(node.address);
    let mut client = node.client();
    assert_eq!(client.ask(&get("/", &[])).text(), "ok");
    // As `ss --kill` or another administrator would do it: accepting fails from now on, with EINVAL.
    shutdown(listener, Shutdown::Both).unwrap();
    let begun = Instant::now();
    until("failures to be told", || node.metric(EVENTS, r#"event="accept_failed""#) >= 4.0);
    let (failures, elapsed) = (node.telemetry.count(WorkerEvent::AcceptFailed), begun.elapsed());
    assert!(Duration::from_millis(50) * (failures as u32 - 2) <= elapsed, "{failures} in {elapsed:?}: spinning");
    assert_eq!(client.ask(&get("/", &[])).text(), "ok", "what is open is served");
}
