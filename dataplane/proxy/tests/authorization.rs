//! Who may reach an endpoint: every way there asks, and what is no longer allowed ends.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use support::http2::{self, call, run};
use support::upstream::Upstream;
use support::world::{RuleOf, World};
use support::{Client, Node, get, until};
use weir_core::authorization::{Action, Operation, Ports, Texts};
use weir_core::filter::{Filters, PathChange, Rewrite};
use weir_core::methods::Methods;
use weir_core::retry::{Backoff, Failures, Retry, RetryTo};
use weir_core::snapshot::Protocol;
use weir_telemetry::{Cause, MirrorEvent, WorkerEvent};

/// Where what is guarded is.
const GUARDED: &str = "127.0.0.1";

fn path(path: &str) -> Operation {
    Operation { paths: Texts::new([path], []), ..Operation::default() }
}

fn port(port: u16) -> Operation {
    Operation { ports: Ports { is: [port].into(), ..Ports::default() }, ..Operation::default() }
}

/// From now on nobody may reach what is guarded, at any port that there is.
fn close(node: &mut Node) {
    node.publish(|world| world.pods = World::new(&[]).guarded(GUARDED, Action::Allow, port(1)).pods);
}

#[test]
fn a_request_goes_only_where_it_may() {
    let upstream = Upstream::saying("a");
    let node = Node::start(World::new(&[upstream.address]).guarded(GUARDED, Action::Allow, path("/public*")));
    let mut client = node.client();
    for (asked, status) in [("/public/a", 200), ("/private", 403), ("/public/../private", 403), ("/public", 200)] {
        let reply = client.ask(&get(asked, &[]));
        assert_eq!(reply.status(), status, "{asked}");
        assert_eq!(reply.cause(), (status == 403).then_some("denied"), "{asked}");
    }
    assert_eq!(upstream.requests().len(), 2, "what is denied does not get there");
    node.await_cause(Cause::Denied, 2);
    let mut node = node;
    node.publish(|world| world.pods.clear());
    assert_eq!(client.ask(&get("/private", &[])).status(), 200);
}

#[test]
fn a_call_is_told_in_the_words_of_grpc() {
    let upstream = http2::Upstream::saying("a");
    let world = World::new(&[upstream.address]).protocol(Protocol::Http2);
    let node = Node::start(world.guarded(GUARDED, Action::Deny, path("/admin.Admin/*")));
    let reply = run(async { http2::Client::connect(node.address).await.ask(call("/admin.Admin/Stop", b"")).await });
    assert_eq!((reply.status, reply.header("grpc-status")), (200, Some("7")));
    assert!(upstream.requests().is_empty());
}

#[test]
fn what_counts_is_what_would_arrive() {
    let upstream = Upstream::saying("a");
    let rewrite = Rewrite { host: None, path: Some(PathChange::Full("/admin".into())) };
    let filters = Filters { rewrite, ..Filters::default() };
    let world = World::new(&[upstream.address]).rule(RuleOf { to: vec![("a", 1)], filters, ..RuleOf::default() });
    let node = Node::start(world.guarded(GUARDED, Action::Deny, path("/admin")));
    assert_eq!(node.ask(&get("/harmless", &[])).cause(), Some("denied"));
}

#[test]
fn another_try_asks_for_its_own_endpoint() {
    let (open, closed) = (Upstream::saying_at("127.0.0.2:0", "open"), Upstream::saying("closed"));
    let failing = Upstream::answering_in_turn(&[503]);
    let mut on = Failures::unanswered();
    on.add_statuses([503]);
    let (backoff, to) = (Backoff::from_base(Duration::from_millis(1)), RetryTo::Other("closed"));
    let retry = Retry { attempts: 1, on, methods: Methods::Idempotent, backoff, hedge_after: None, to };
    let world = World::new(&[open.address]).service("failing", &[failing.address]).service("closed", &[closed.address]);
    let rule = RuleOf { to: vec![("failing", 1)], retry: Some(retry), ..RuleOf::default() };
    let node = Node::start(world.rule(rule).guarded(GUARDED, Action::Allow, port(failing.address.port())));
    let reply = node.ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause()), (403, Some("denied")));
    assert_eq!((failing.requests().len(), closed.requests().len()), (1, 0));
}

#[test]
fn a_copy_goes_only_where_its_client_may() {
    let (upstream, shadow) = (Upstream::saying_at("127.0.0.2:0", "a"), Upstream::saying("shadow"));
    let rule = RuleOf { to: vec![("a", 1)], mirrors: vec!["shadow"], ..RuleOf::default() };
    let world = World::new(&[upstream.address]).service("shadow", &[shadow.address]).rule(rule);
    let node = Node::start(world.guarded(GUARDED, Action::Allow, path("/public")));
    for asked in ["/private", "/public"] {
        assert_eq!(node.ask(&get(asked, &[])).text(), "a");
    }
    node.await_copies(MirrorEvent::Denied, 1);
    until("the other copy", || shadow.requests().len() == 1);
}

#[test]
fn what_is_no_http_is_asked_about_and_ends_when_it_may_not_go_on() {
    let echo = Upstream::raw(|mut stream| {
        let mut other = stream.try_clone().unwrap();
        // The proxy breaks it off.
        let _ = std::io::copy(&mut stream, &mut other);
    });
    let world = World::new(&[echo.address]).protocol(Protocol::Opaque);
    let mut node = Node::start(world.guarded(GUARDED, Action::Allow, port(echo.address.port())));
    let mut client = node.client();
    client.send("hello");
    let mut heard = [0; 5];
    client.stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    // Another configuration that allows it still: nothing happens.
    node.publish(|_| {});
    client.send("again");
    client.stream.read_exact(&mut heard).unwrap();
    close(&mut node);
    client.rest().expect_err("it is reset");
    node.await_event(WorkerEvent::DeniedClosed, 1);
    // The reset may come before the client has even set up its end.
    if let Ok(mut refused) = Client::try_connect(node.address) {
        refused.rest().expect_err("it is reset at once");
    }
    node.await_event(WorkerEvent::OpaqueDenied, 1);
}

#[test]
fn a_response_under_way_ends_when_its_client_may_not_go_on() {
    let upstream = Upstream::raw(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").unwrap();
        // The rest never comes.
        let _ = stream.read(&mut [0; 1]);
    });
    let mut node = Node::start(World::new(&[upstream.address]));
    let mut client = node.client();
    client.send(get("/", &[]));
    client.await_text("hello");
    close(&mut node);
    client.rest().expect_err("it is cut off");
    node.await_cause(Cause::Denied, 1);
}

#[test]
fn a_tunnel_ends_when_it_may_not_go_on() {
    let upstream = Upstream::raw(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0; 1]);
    });
    let mut node = Node::start(World::new(&[upstream.address]));
    let mut client: Client = node.client();
    client.send(get("/", &["connection: upgrade", "upgrade: x"]));
    client.await_text("101 Switching Protocols");
    node.await_event(WorkerEvent::Upgraded, 1);
    close(&mut node);
    client.rest().expect_err("it is reset");
    node.await_event(WorkerEvent::DeniedClosed, 1);
}
