//! What becomes of requests when an instance fails.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::support::message::Message;
use crate::support::plugins::{loaded, probe, world};
use crate::support::upstream::{Upstream, response};
use crate::support::world::World;
use crate::support::{Client, Node, PATIENCE, get};
use weir_core::plugin::{OnFailure, Plugin};

/// A request that an instance fails at is shown to a new one, once.
#[test]
fn a_plugin_is_loaded_again_for_a_request() {
    let upstream = Upstream::saying("served");
    // It fails at every other request.
    let script = "request-headers set x-half done\nrequest-headers share-and-panic count";
    let plugin = Plugin { on_failure: OnFailure::Reload, ..probe("failing", script) };
    let node = Node::start(World::new(&[upstream.address]).plugins(loaded([plugin])));
    for source in ["127.0.0.2", "127.0.0.3", "127.0.0.4"] {
        let reply = Client::try_connect_from(source, node.address).unwrap().ask(&get("/", &[]));
        assert_eq!((reply.status(), reply.text()), (200, "served"));
        assert_eq!(upstream.requests().last().unwrap().header("x-half"), Some("done"));
    }
    let always = Plugin { on_failure: OnFailure::Reload, ..probe("failing", "request-headers panic") };
    let node = Node::start(World::new(&[upstream.address]).plugins(loaded([always])));
    let reply = node.ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause()), (503, Some("plugin_failed")));
}

/// One client with requests that are too much for a plugin waits alone; several switch it off.
#[test]
fn a_plugin_that_fails_for_several_clients_is_switched_off() {
    let upstream = Upstream::saying("served");
    let plugins = loaded([probe("failing", "request-headers panic-at x-poison")]);
    let host = plugins[0].loaded.get::<weir_plugin_host::Plugin>().unwrap();
    let node = Node::start(World::new(&[upstream.address]).plugins(plugins));
    let ask = |source: &str, line: &[&str]| {
        Client::try_connect_from(source, node.address).unwrap().ask(&get("/", line)).status()
    };
    for _ in 0..20 {
        assert_eq!(ask("127.0.0.2", &["x-poison: 1"]), 503);
        assert_eq!(ask("127.0.0.3", &[]), 200);
    }
    // It waits now: also with what would do no harm.
    assert_eq!(ask("127.0.0.2", &[]), 503);
    let health = host.health();
    assert!(health.off_until.is_none() && health.last_failure.unwrap().1.contains("proxy_on_request_headers"));
    for source in ["127.0.0.4", "127.0.0.5", "127.0.0.6"] {
        ask(source, &["x-poison: 1"]);
    }
    // It is looked at when it is wanted.
    ask("127.0.0.7", &[]);
    assert_eq!(ask("127.0.0.8", &[]), 503);
    assert!(host.health().off_until.is_some());
}

/// Requests that a plugin never comes back from cost the others a few milliseconds each, and whoever sends them waits.
#[test]
fn a_client_whose_requests_run_away_leaves_the_others_alone() {
    let upstream = Upstream::saying("served");
    let plugins = loaded([probe("running", "request-headers loop-at x-poison")]);
    let host = plugins[0].loaded.get::<weir_plugin_host::Plugin>().unwrap();
    let node = Node::start(World::new(&[upstream.address]).plugins(plugins));
    for _ in 0..50 {
        let poison = Client::try_connect_from("127.0.0.2", node.address).unwrap().ask(&get("/", &["x-poison: 1"]));
        assert_eq!(poison.status(), 503);
        assert_eq!(node.ask(&get("/", &[])).text(), "served");
    }
    // Most of them were not shown to it at all.
    assert!((1..=20).contains(&host.totals().timeouts), "{:?}", host.totals());
    assert!(host.health().off_until.is_none());
}

/// An endpoint that says when a request for `/slow` has come, and answers it when it is told to.
fn held() -> (Upstream, Receiver<()>, Sender<()>) {
    let ((tell, told), (release, released)) = (channel(), channel());
    let (tell, released) = (Mutex::new(tell), Mutex::new(released));
    let upstream = Upstream::answering(move |request: &Message| {
        if request.first.contains(" /slow ") {
            tell.lock().unwrap().send(()).unwrap();
            released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        response(200, b"served")
    });
    (upstream, told, release)
}

fn fail(node: &Node) {
    let mut client = Client::try_connect_from("127.0.0.2", node.address).unwrap();
    assert_eq!(client.ask(&get("/", &["x-poison: 1"])).status(), 503);
}

/// Requests that share an instance with the one that it failed with.
#[test]
fn others_do_not_pay_for_a_request_that_an_instance_fails_with() {
    let script =
        "request-headers panic-at x-poison\nrequest-headers put seen yes\nresponse-headers property seen as x-seen";
    let post = "POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody";
    for (request, on_failure, expected) in [
        (get("/slow", &[]), OnFailure::Closed, (200, Some("yes"), None)),
        (get("/slow", &[]), OnFailure::Open, (200, Some("yes"), None)),
        // What has gone on of a body cannot be shown again.
        (post.to_owned(), OnFailure::Closed, (503, None, Some("plugin_failed"))),
        (post.to_owned(), OnFailure::Open, (200, None, None)),
    ] {
        let (upstream, arrived, release) = held();
        let plugin = Plugin { on_failure, ..probe("failing", script) };
        let node = Node::start(World::new(&[upstream.address]).plugins(loaded([plugin])));
        let mut client = node.client();
        client.send(&request);
        arrived.recv_timeout(PATIENCE).unwrap();
        let mut other = Client::try_connect_from("127.0.0.2", node.address).unwrap();
        let poisoned = other.ask(&get("/", &["x-poison: 1"]));
        assert_eq!(poisoned.status(), if on_failure == OnFailure::Open { 200 } else { 503 });
        release.send(()).unwrap();
        let reply = client.receive();
        assert_eq!((reply.status(), reply.header("x-seen"), reply.cause()), expected, "{request} {on_failure:?}");
        assert_eq!(upstream.requests().iter().filter(|request| request.first.contains("/slow")).count(), 1);
    }
}

/// The instance fails while a request waits for what a service says.
#[test]
fn a_request_that_waits_is_shown_to_a_new_instance() {
    let (authority, asked, release) = held();
    let upstream = Upstream::saying("served");
    let script =
        "request-headers panic-at x-poison\nrequest-headers set x-once yes\nrequest-headers call default/auth:80 /slow";
    let node = Node::start(world(&upstream, &[script]).service("auth", &[authority.address]));
    let mut client = node.client();
    client.send(get("/", &[]));
    asked.recv_timeout(PATIENCE).unwrap();
    fail(&node);
    // The second instance asks once more.
    release.send(()).unwrap();
    asked.recv_timeout(PATIENCE).unwrap();
    release.send(()).unwrap();
    assert_eq!(client.receive().text(), "served");
    let request = &upstream.requests()[0];
    assert_eq!((request.header("x-once"), request.header("x-call")), (Some("yes"), Some("200 served")));
}
