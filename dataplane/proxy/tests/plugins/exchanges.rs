//! Plugins on the wire: what they see, what they change, and what becomes of requests when they fail.

use std::time::{Duration, Instant};

use crate::support::http2::{self, run};
use crate::support::message::Message;
use crate::support::plugins::{chunked, echo, loaded, probe, world};
use crate::support::upstream::Upstream;
use crate::support::world::World;
use crate::support::{Node, get};
use weir_core::plugin::{Capabilities, Limits, OnFailure, Plugin};
use weir_core::snapshot::Protocol;
use weir_telemetry::Cause;

#[test]
fn heads_are_changed_both_ways() {
    let upstream = echo();
    let script = "request-headers set x-set changed\nrequest-headers add x-many 2\nrequest-headers remove x-gone\n\
                  request-headers set :path /new?q=1\nrequest-headers set :authority other\n\
                  response-headers set :status 203\nresponse-headers set x-answer yes";
    let node = Node::start(world(&upstream, &[script]));
    let mut client = node.client();
    for _ in 0..3 {
        let reply = client.ask(&get("/old", &["x-set: 1", "x-many: 1", "x-gone: 1"]));
        assert_eq!((reply.status(), reply.header("x-answer")), (203, Some("yes")));
    }
    let request = &upstream.requests()[2];
    let many: Vec<_> = request.headers.iter().filter(|(name, _)| name == "x-many").map(|(_, value)| &**value).collect();
    assert!(request.first.starts_with("GET /new?q=1 "), "{request:?}");
    assert_eq!((request.header("host"), request.header("x-set")), (Some("other"), Some("changed")));
    assert_eq!((request.header("x-gone"), many), (None, vec!["1", "2"]));
}

#[test]
fn bodies_are_changed_piece_by_piece_or_as_a_whole() {
    let length = "request-headers remove content-length\nresponse-headers remove content-length\n";
    // Script, what the upstream gets, what the client gets.
    let cases = [
        ("request-body upper", "ONETWO", "ONETWO"),
        ("request-body end append !", "onetwo!", "onetwo!"),
        ("response-body upper", "onetwo", "ONETWO"),
        // Held back until it is whole, and replaced then.
        ("request-body pause\nrequest-body end body all of it\nrequest-body end go", "all of it", "all of it"),
        ("request-body pause\nrequest-body end upper\nrequest-body end go", "ONETWO", "ONETWO"),
        ("response-body end append .", "onetwo", "onetwo."),
    ];
    for (script, request, reply) in cases {
        let upstream = echo();
        let node = Node::start(world(&upstream, &[&format!("{length}{script}")]));
        for sent in
            [chunked(&["one", "two"]), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nonetwo".to_owned()]
        {
            let answer = node.ask(&sent);
            assert_eq!((answer.status(), answer.text()), (200, reply), "{script}");
            assert_eq!(String::from_utf8_lossy(&upstream.requests().last().unwrap().body), request, "{script}");
        }
    }
}

#[test]
fn a_body_is_as_long_as_its_head_says() {
    let upstream = echo();
    let sent = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\none";
    // Who looks at a body and leaves it as it is, or as long, has its length told.
    let node = Node::start(world(&upstream, &["request-body upper\nresponse-body upper"]));
    let reply = node.ask(sent);
    assert_eq!((reply.text(), reply.header("content-length")), ("ONE", Some("3")));
    let request = &upstream.requests()[0];
    assert_eq!((request.header("content-length"), request.header("transfer-encoding")), (Some("3"), None));
    for longer_or_shorter in ["end append !", "body no"] {
        let node = Node::start(world(&upstream, &[&format!("request-body {longer_or_shorter}")]));
        let reply = node.ask(sent);
        assert_eq!((reply.status(), reply.cause()), (503, Some("plugin_length")), "{longer_or_shorter}");
        // A response is cut off, so that nobody takes the part for the whole.
        let node = Node::start(world(&upstream, &[&format!("response-body {longer_or_shorter}")]));
        let mut client = node.client();
        client.send(sent);
        assert!(client.try_receive().is_err(), "{longer_or_shorter}");
        node.await_cause(Cause::PluginLength, 1);
    }
}

#[test]
fn several_plugins_see_a_request_in_order_and_its_response_in_the_other() {
    let upstream = echo();
    let script = |name: &str| {
        format!(
            "response-headers remove content-length\nrequest-headers add x-seen {name}\nresponse-headers add x-seen {name}\nrequest-body end append {name}\n\
             response-body end append {name}"
        )
    };
    let node = Node::start(world(&upstream, &[&script("a"), &script("b"), &script("c")]));
    let reply = node.ask(&chunked(&["-"]));
    let seen = |message: &Message| -> Vec<String> {
        message.headers.iter().filter(|(name, _)| name == "x-seen").map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(seen(&upstream.requests()[0]), ["a", "b", "c"]);
    assert_eq!(seen(&reply), ["c", "b", "a"]);
    assert_eq!(reply.text(), "-abccba");
}

#[test]
fn a_plugin_answers_by_itself() {
    let upstream = echo();
    let node = Node::start(world(&upstream, &["request-headers reply 403 not for you"]));
    let mut client = node.client();
    for _ in 0..2 {
        let reply = client.ask(&get("/", &[]));
        assert_eq!((reply.status(), reply.header("x-from"), reply.text()), (403, Some("probe"), "not for you"));
    }
    assert_eq!(upstream.connections(), 0);
    node.await_metric("weir_proxy_requests_total", "status=\"4xx\"", 2.0);
    // While the body is on its way.
    let node = Node::start(world(&upstream, &["request-body end reply 422 not like this"]));
    let reply = node.ask(&chunked(&["one", "two"]));
    assert_eq!((reply.status(), reply.text()), (422, "not like this"));
    // Instead of what the endpoint answered.
    let node = Node::start(world(&upstream, &["response-headers reply 451 gone"]));
    let reply = node.ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.text()), (451, "gone"));
}

#[test]
fn a_plugin_breaks_a_request_off() {
    let upstream = echo();
    let node = Node::start(world(&upstream, &["request-headers reset"]));
    let reply = node.ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause()), (502, Some("plugin_reset")));
    node.await_cause(Cause::PluginReset, 1);
}

#[test]
fn a_plugin_that_fails_closes_or_opens_the_way() {
    // Where it fails, and what it had changed before.
    for at in ["request-headers", "response-headers"] {
        for failing in ["panic", "loop", "grow 64"] {
            let script = format!("{at} set x-half done\n{at} {failing}");
            let upstream = Upstream::saying("whole");
            let of = |on_failure| Plugin { on_failure, ..probe("failing", &script) };
            let closed = World::new(&[upstream.address]).plugins(loaded([of(OnFailure::Closed)]));
            let node = Node::start(closed);
            let reply = node.ask(&get("/", &[]));
            assert_eq!((reply.status(), reply.cause()), (503, Some("plugin_failed")), "{script}");
            let open = World::new(&[upstream.address]).plugins(loaded([of(OnFailure::Open)]));
            let node = Node::start(open);
            for _ in 0..3 {
                let reply = node.ask(&get("/", &["x-mine: 1"]));
                assert_eq!((reply.text(), reply.header("x-half")), ("whole", None), "{script}");
            }
            let request = upstream.requests().last().unwrap().clone();
            assert_eq!((request.header("x-half"), request.header("x-mine")), (None, Some("1")), "{script}");
        }
    }
}

#[test]
fn what_a_plugin_holds_back_is_bounded() {
    let upstream = echo();
    let limits = Limits { body: 1_000, ..Limits::default() };
    let plugin = Plugin { limits, ..probe("holding", "request-body pause") };
    let node = Node::start(World::new(&[upstream.address]).plugins(loaded([plugin])));
    let piece = "x".repeat(600);
    let reply = node.ask(&chunked(&[&piece, &piece, &piece]));
    assert_eq!((reply.status(), reply.cause()), (413, Some("body_too_large")));
}

#[test]
fn a_plugin_that_hangs_leaves_the_others_alone() {
    let upstream = Upstream::saying("quick");
    let hanging = Plugin { on_failure: OnFailure::Open, ..probe("hanging", "request-headers loop") };
    let node = Node::start(World::new(&[upstream.address]).plugins(loaded([hanging])));
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(node.ask(&get("/", &[])).text(), "quick");
    }
    // Each may take 3 ms of the processor, and after the second there is none for a while.
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn calls_of_grpc_pass_with_their_trailers() {
    let upstream = http2::Upstream::answering(|request| http2::Answer {
        trailers: vec![("grpc-status", "0")],
        ..http2::Answer::text(if request.body == b"\0\0\0\0\x01x" { "same" } else { "other" })
    });
    let script = "request-headers set x-seen yes\nresponse-trailers set x-trailer seen\nresponse-body end append !";
    let plugins = loaded([probe("probe", script)]);
    let node = Node::start(World::new(&[upstream.address]).plugins(plugins).protocol(Protocol::Http2));
    run(async {
        let mut client = http2::Client::connect(node.address).await;
        let reply = client.ask(http2::call("/s/m", b"\0\0\0\0\x01x")).await;
        assert_eq!((reply.status, reply.text()), (200, "same!"));
        assert_eq!((reply.trailer("grpc-status"), reply.trailer("x-trailer")), (Some("0"), Some("seen")));
    });
    assert_eq!(upstream.requests()[0].header("x-seen"), Some("yes"));
}

#[test]
fn a_plugin_does_what_it_may_and_nothing_else() {
    let (upstream, authority) = (Upstream::saying("served"), Upstream::saying("yes"));
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).into()).collect());
    let cluster = |name: &str| weir_core::name::ClusterName {
        service: weir_core::name::ServiceName::new("default", name),
        port: 80,
    };
    let node = |script: &str, capabilities: Capabilities| {
        let plugin = Plugin { capabilities, on_failure: OnFailure::Open, ..probe("bound", script) };
        let world = World::new(&[upstream.address]).plugins(loaded([plugin]));
        Node::start(world.service("auth", &[authority.address]).service("other", &[authority.address]))
    };
    let said = || upstream.requests().last().unwrap().header("x-call").map(str::to_owned);
    let only = Capabilities { upstreams: Some([cluster("auth")].into()), ..Capabilities::default() };
    for (name, expected) in [("auth", "200 yes"), ("other", "BadArgument")] {
        node(&format!("request-headers call {name}:80 /"), only.clone()).ask(&get("/", &[]));
        assert_eq!(said().as_deref(), Some(expected), "{name}");
    }
    // The library that it is made with panics at a function that it may not call.
    let base = ["proxy_log", "proxy_get_buffer_bytes", "proxy_set_effective_context", "proxy_get_log_level"];
    let with = [&base[..], &["proxy_replace_header_map_value"]].concat();
    for (functions, expected) in [(&base[..], None), (&with[..], Some("yes"))] {
        let capabilities = Capabilities { functions: names(functions), ..Capabilities::default() };
        node("request-headers set x-changed yes", capabilities).ask(&get("/", &[]));
        assert_eq!(upstream.requests().last().unwrap().header("x-changed"), expected, "{functions:?}");
    }
}
