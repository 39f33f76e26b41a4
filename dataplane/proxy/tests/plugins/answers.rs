//! What the proxy answers itself, and what begins another protocol: plugins see it as they see a response.

use std::io::{Read as _, Write as _};

use crate::support::http2::{self, run};
use crate::support::message::Message;
use crate::support::plugins::{loaded, probe, world};
use crate::support::upstream::{Upstream, refusing};
use crate::support::world::World;
use crate::support::{Client, Node, get};
use weir_core::plugin::{OnFailure, Plugin};
use weir_core::snapshot::Protocol;

/// What it is about an answer: its status, who it is from, what plugins say in it, and its text.
fn seen(reply: &Message) -> (u16, Option<&str>, Option<&str>, &str) {
    (reply.status(), reply.cause(), reply.header("x-out"), reply.text())
}

#[test]
fn answers_of_the_proxy_are_responses() {
    let gone = refusing();
    let cases: [(&[&str], (u16, Option<&str>, Option<&str>, &str)); 7] = [
        (
            &["response-headers property response.code as x-out"],
            (503, Some("connect_failed"), Some("503"), "the endpoint cannot be reached\n"),
        ),
        (&["response-body end body mine"], (503, Some("connect_failed"), None, "mine")),
        (&["response-headers reply 404 nobody is here"], (404, None, None, "nobody is here")),
        (
            &["response-body end reply 404 too late"],
            (502, Some("plugin_reset"), None, "a plugin broke the request off\n"),
        ),
        // The last that sees the request is the first that sees the response.
        (
            &["response-headers add x-out outer", "request-headers reply 403 no\nresponse-headers add x-out own"],
            (403, None, Some("own"), "no"),
        ),
        // Who has not seen the request does not see what another one answers.
        (&["request-headers reply 403 no", "response-headers add x-out inner"], (403, None, None, "no")),
        // A failure is told as it is, and is none of the others'.
        (
            &["response-headers add x-out outer", "request-headers panic"],
            (503, Some("plugin_failed"), Some("outer"), "a plugin that the request must pass has failed\n"),
        ),
    ];
    for (scripts, expected) in cases {
        let plugins = scripts.iter().enumerate().map(|(number, script)| probe(&format!("probe-{number}"), script));
        let node = Node::start(World::new(&[gone]).plugins(loaded(plugins)));
        let mut client = node.client();
        let replies = [client.ask(&get("/", &[])), client.ask(&get("/", &[]))];
        assert_eq!(seen(&replies[0]), expected, "{scripts:?}");
        // The connection serves on. Whoever has made an instance fail twice waits, and its request is shown to nobody after it.
        assert_eq!(replies[1].status(), expected.0, "{scripts:?}");
        assert_eq!(replies[0].header("content-length"), Some(&*expected.3.len().to_string()), "{scripts:?}");
    }
}

#[test]
fn several_plugins_see_an_answer_in_the_order_of_a_response() {
    let scripts = ["response-headers add x-out a", "response-headers add x-out b"];
    let node = Node::start(world(&Upstream::saying("x"), &[scripts[0], "request-headers reply 403 no", scripts[1]]));
    let all = node.ask(&get("/", &[]));
    assert_eq!(all.header("x-out"), Some("a"));
}

/// It sees the request, and fails with the answer to it.
#[test]
fn a_plugin_that_fails_with_an_answer_is_not_asked_again() {
    for (on_failure, expected) in
        [(OnFailure::Closed, (503, Some("plugin_failed"))), (OnFailure::Open, (503, Some("connect_failed")))]
    {
        let plugin = Plugin { on_failure, ..probe("failing", "response-headers panic") };
        let plugins = loaded([plugin]);
        let host = plugins[0].loaded.get::<weir_plugin_host::Plugin>().unwrap();
        let node = Node::start(World::new(&[refusing()]).plugins(plugins));
        let reply = node.ask(&get("/", &[]));
        assert_eq!((reply.status(), reply.cause()), expected);
        assert_eq!(host.totals().traps, 1);
    }
}

#[test]
fn answers_to_calls_of_grpc_are_seen() {
    let plugins = loaded([probe("probe", "response-headers set x-out seen")]);
    let node = Node::start(World::new(&[refusing()]).plugins(plugins).protocol(Protocol::Http2));
    run(async {
        let reply = http2::Client::connect(node.address).await.ask(http2::call("/s/m", b"")).await;
        assert_eq!((reply.status, reply.header("grpc-status"), reply.header("x-out")), (200, Some("14"), Some("seen")));
    });
}

#[test]
fn another_protocol_begins_as_the_endpoint_says_unless_a_plugin_refuses() {
    let upgrade = format!("{}pi", get("/", &["connection: Upgrade", "upgrade: echo"]));
    let upstream = Upstream::after_request(|mut stream| {
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nwelcome";
        stream.write_all(head.as_bytes()).unwrap();
        let mut bytes = [0; 4];
        // Whoever is refused closes.
        if stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes).unwrap();
        }
    });
    let script = "response-headers set x-out seen\nresponse-headers set :status 200\nresponse-headers remove upgrade";
    let node = Node::start(world(&upstream, &[script]));
    let mut client = node.client();
    let reply = client.ask(&upgrade);
    let head = (reply.status(), reply.header("upgrade"), reply.header("connection"), reply.header("x-out"));
    assert_eq!(head, (101, Some("echo"), Some("upgrade"), Some("seen")));
    client.send("ng");
    assert_eq!(client.rest().unwrap(), b"welcomeping");

    let node = Node::start(world(&upstream, &["response-headers reply 403 no"]));
    let reply = Client::try_connect(node.address).unwrap().ask(&upgrade);
    assert_eq!((reply.status(), reply.text()), (403, "no"));
}

/// A rule's own answer, and one that goes nowhere.
#[test]
fn answers_of_rules_are_seen() {
    let node = Node::start(world(
        &Upstream::saying("x"),
        &["request-headers put weir.route.destination nowhere:80\nresponse-headers set x-out seen"],
    ));
    let reply = node.ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause(), reply.header("x-out")), (500, Some("unresolved"), Some("seen")));
}
