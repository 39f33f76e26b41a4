//! What plugins do beside their exchanges: calls, queues, ticks.

use crate::support::http2::{self, Answer};
use crate::support::message::Message;
use crate::support::plugins::{loaded, probe, world};
use crate::support::upstream::{Upstream, refusing, response};
use crate::support::world::World;
use crate::support::{Node, get, until};
use weir_core::snapshot::Protocol;

#[test]
fn a_plugin_asks_a_service_before_a_request_goes_on() {
    let (upstream, authority) = (Upstream::saying("served"), Upstream::saying("let it pass"));
    let (hanging, gone) = (Upstream::hanging(), refusing());
    for (script, expected) in [
        ("call default/auth:80 /check?a=b", "200 let it pass"),
        ("call auth:80 /", "200 let it pass"),
        ("call outbound|80||auth.default.svc.cluster.local /", "200 let it pass"),
        ("call default/hanging:80 /", "504 upstream request timeout"),
        ("call default/gone:80 /", "503 upstream connect error or disconnect/reset before headers"),
        ("call default/nobody:80 /", "BadArgument"),
    ] {
        let world = world(&upstream, &[&format!("request-headers {script}")]);
        let world = world.service("auth", &[authority.address]).service("hanging", &[hanging.address]);
        let node = Node::start(world.service("gone", &[gone]));
        let mut client = node.client();
        for _ in 0..2 {
            assert_eq!(client.ask(&get("/", &[])).text(), "served", "{script}");
            assert_eq!(upstream.requests().last().unwrap().header("x-call"), Some(expected), "{script}");
        }
    }
    let asked = &authority.requests()[0];
    assert!(asked.first.starts_with("GET /check?a=b "), "{asked:?}");
    assert_eq!((asked.header("host"), asked.header("x-asked")), (Some("probe"), Some("yes")));
}

#[test]
fn a_plugin_is_called_again_and_again_without_any_request() {
    let upstream = Upstream::saying("x");
    let plugins = loaded([probe("ticking", "tick 20 ticks")]);
    let host = plugins[0].loaded.get::<weir_plugin_host::Plugin>().unwrap();
    let _node = Node::start(World::new(&[upstream.address]).plugins(plugins));
    until("ticks", || host.metrics().first().is_some_and(|metric| metric.value >= 5));
}

#[test]
fn workers_share_what_a_plugin_shares() {
    let upstream = Upstream::saying("x");
    let plugins = loaded([probe("sharing", "response-headers share count")]);
    let node = Node::start_with(World::new(&[upstream.address]).plugins(plugins), |settings| settings.workers = 2);
    let mut seen: Vec<u64> =
        (0..40).map(|_| node.ask(&get("/", &[])).header("x-shared").unwrap().parse().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=40).collect::<Vec<_>>());
}

#[test]
fn calls_have_trailers_both_ways() {
    let upstream = Upstream::saying("served");
    let authority = http2::Upstream::answering(|request| Answer {
        trailers: vec![("x-trailer", "back")],
        ..Answer::text(if request.trailer("x-sent") == Some("there") { "with" } else { "without" })
    });
    let script = "request-headers call-with-trailers auth:80 x-sent there";
    let world = world(&upstream, &[script]).service("auth", &[authority.address]);
    let node = Node::start(world.speaking("auth", Protocol::Http2));
    assert_eq!(node.ask(&get("/", &[])).text(), "served");
    assert_eq!(upstream.requests()[0].header("x-call"), Some("200 with"));
    // The same by HTTP/1.1.
    let authority = Upstream::answering(|request: &Message| response(200, &request.body));
    let world = self::world(&upstream, &[script]).service("auth", &[authority.address]);
    assert_eq!(Node::start(world).ask(&get("/", &[])).text(), "served");
    assert_eq!(upstream.requests()[1].header("x-call"), Some("200 body"));
    assert_eq!(authority.requests()[0].header("x-sent"), Some("there"));
}

/// Answers calls: `Say` with the message, `Chat` with each of them, and others as their names say.
fn echo() -> http2::Upstream {
    http2::Upstream::answering(|request| {
        let said = std::str::from_utf8(&request.body).unwrap_or_default();
        let trailers = match () {
            () if said.contains("fail") => vec![("grpc-status", "9"), ("grpc-message", "so%21")],
            () if said.contains("mute") => vec![],
            () => vec![("grpc-status", "0"), ("x-trailing", "t")],
        };
        let body = if said.contains("fail") { "".into() } else { bytes::Bytes::from(request.body.clone()) };
        let headers = vec![("content-type", "application/grpc"), ("x-initial", "i")];
        Answer { headers, body, trailers, ..Answer::text("") }
    })
}

#[test]
fn a_plugin_makes_calls_of_grpc() {
    let (upstream, callee, hanging) = (Upstream::saying("served"), echo(), http2::Upstream::held());
    let forbidding = http2::Upstream::answering(|_| Answer { status: 403, ..Answer::text("") });
    for (script, expected) in [
        ("grpc callee:80 hello", "hello"),
        ("grpc default/callee:80 fail", "(9, Some(\"so!\"))"),
        ("grpc callee:80 mute", "mute"),
        ("grpc gone:80 x", "(14, Some(\"upstream connect error or disconnect/reset before headers\"))"),
        ("grpc hanging:80 x", "(4, Some(\"upstream request timeout\"))"),
        ("grpc forbidding:80 x", "(7, Some(\"the answer has the status 403\"))"),
        ("grpc nobody:80 x", "InternalFailure"),
        ("grpc-stream callee:80 hello", "initial true i; hello; hello; trailing true t; closed 0"),
        ("grpc-stream callee:80 fail", "initial true i; trailing true ; closed 9"),
        ("grpc-stream callee:80 mute", "initial true i; mute; mute; closed 2"),
        ("grpc-stream gone:80 x", "closed 14"),
        ("grpc-cancel hanging:80", "Ok(()) Err(BadArgument) Ok(()) Err(NotFound)"),
    ] {
        let world = world(&upstream, &[&format!("request-headers {script}")]);
        let world = world.service("callee", &[callee.address]).service("gone", &[refusing()]);
        let world = world.service("hanging", &[hanging.0.address]).service("forbidding", &[forbidding.address]);
        let node = Node::start(world);
        let mut client = node.client();
        for _ in 0..2 {
            assert_eq!(client.ask(&get("/", &[])).text(), "served", "{script}");
            assert_eq!(upstream.requests().last().unwrap().header("x-grpc"), Some(expected), "{script}");
        }
    }
    let request = &callee.requests()[0];
    assert_eq!(request.target, "http://callee.default:80/probe.Echo/Say");
    for (name, value) in
        [("x-asked", "yes"), ("te", "trailers"), ("content-type", "application/grpc"), ("grpc-timeout", "300m")]
    {
        assert_eq!(request.header(name), Some(value));
    }
}

#[test]
fn a_queue_is_told_to_whoever_listens() {
    let upstream = Upstream::saying("x");
    let plugins = loaded([probe("queue", "queue jobs\nrequest-headers enqueue jobs one")]);
    let host = plugins[0].loaded.get::<weir_plugin_host::Plugin>().unwrap();
    let node = Node::start_with(World::new(&[upstream.address]).plugins(plugins), |settings| settings.workers = 2);
    for _ in 0..20 {
        node.ask(&get("/", &[]));
    }
    until("all items", || host.metrics().iter().any(|metric| metric.name == "queue.one" && metric.value == 20));
}

/// It asks a service when it is not configured any more, and goes when that has answered.
#[test]
fn a_plugin_may_do_something_before_it_goes() {
    let (upstream, authority) = (Upstream::saying("x"), Upstream::saying("farewell"));
    for (script, asked) in [("parting default/auth:80 /bye", 1), ("parting default/nobody:80 /", 1), ("", 1)] {
        let plugins = loaded([probe("going", script)]);
        let host = plugins[0].loaded.get::<weir_plugin_host::Plugin>().unwrap();
        let world = World::new(&[upstream.address]).service("auth", &[authority.address]);
        let mut node = Node::start(world.plugins(plugins));
        node.ask(&get("/", &[]));
        assert_eq!(host.totals().instances, 1);
        node.publish(|world| world.plugins = loaded([probe("staying", "")]));
        until("the instance is gone", || host.totals().instances == 0);
        assert_eq!(authority.requests().len(), asked, "{script}");
        assert_eq!((host.totals().traps, node.ask(&get("/", &[])).text()), (0, "x"));
    }
    assert!(authority.requests()[0].first.starts_with("GET /bye "));
}

#[test]
fn a_plugin_is_told_of_revisions() {
    let upstream = Upstream::saying("x");
    let plugins = loaded([probe("watching", "revisions revision")]);
    let host = plugins[0].loaded.get::<weir_plugin_host::Plugin>().unwrap();
    let mut node = Node::start(World::new(&[upstream.address]).plugins(plugins));
    node.ask(&get("/", &[]));
    assert!(host.metrics().is_empty(), "it is told of what it was started with");
    node.publish(|world| drop(world.services.insert("b", vec![])));
    until("the revision", || host.metrics().first().is_some_and(|metric| metric.value == 2));
}
