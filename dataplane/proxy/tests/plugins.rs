//! Plugins on the wire: what they see, what they change, and what becomes of requests when they fail.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::http2::{self, run};
use support::message::Message;
use support::upstream::{Upstream, refusing, response};
use support::world::{RuleOf, World};
use support::{Node, get, until};
use weir_core::name::ObjectName;
use weir_core::plugin::{Limits, Loaded, ModuleSource, OnFailure, Plugin, VmOptions};
use weir_core::share::Share;
use weir_core::snapshot::Protocol;
use weir_plugin_host::Loader;
use weir_telemetry::Cause;

/// A plugin that does what these lines say; see `plugins/guests/probe`.
fn probe(name: &str, script: &str) -> Plugin {
    Plugin {
        name: ObjectName::new("Plugin", "default", name),
        module: ModuleSource { file: "probe.wasm".into(), sha256: None },
        configuration: script.as_bytes().into(),
        root_id: "".into(),
        vm: VmOptions::default(),
        share: Share::ALL,
        order: 0,
        limits: Limits::default(),
        on_failure: OnFailure::Closed,
        loaded: Loaded::default(),
    }
}

/// The same, loaded.
fn loaded(plugins: impl IntoIterator<Item = Plugin>) -> Vec<Arc<Plugin>> {
    let mut loader = Loader::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins"), None);
    let plugins = plugins.into_iter().map(|plugin| {
        loader.load(&plugin).unwrap_or_else(|error| panic!("{error:?}: run `make plugins` first"));
        Arc::new(plugin)
    });
    plugins.collect()
}

fn world(upstream: &Upstream, scripts: &[&str]) -> World {
    let plugins = scripts.iter().enumerate().map(|(number, script)| probe(&format!("probe-{number}"), script));
    World::new(&[upstream.address]).plugins(loaded(plugins))
}

/// Answers with what came: the request's body.
fn echo() -> Upstream {
    Upstream::answering(|request: &Message| response(200, &request.body))
}

fn chunked(pieces: &[&str]) -> String {
    let chunks: String = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
    format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

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
fn what_a_plugin_says_is_what_rules_match() {
    let (stable, canary) = (Upstream::saying("stable"), Upstream::saying("canary"));
    let rule = RuleOf { header: Some(("x-version", "canary")), to: vec![("c", 1)], ..RuleOf::default() };
    let world = world(&stable, &["request-headers set x-version canary"]).service("c", &[canary.address]).rule(rule);
    let node = Node::start(world);
    assert_eq!(node.ask(&get("/", &[])).text(), "canary");
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
fn a_body_is_not_longer_than_its_head_says() {
    let upstream = echo();
    let node = Node::start(world(&upstream, &["request-body end append !"]));
    let sent = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\none";
    let reply = node.ask(sent);
    assert_eq!((reply.status(), reply.cause()), (503, Some("plugin_length")));
    // A response is cut off, so that nobody takes the part for the whole.
    let node = Node::start(world(&upstream, &["response-body end append !"]));
    let mut client = node.client();
    client.send(sent);
    assert!(client.try_receive().is_err());
    node.await_cause(Cause::PluginLength, 1);
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
fn properties_say_what_a_request_is() {
    let upstream = Upstream::saying("x");
    let paths = [
        ("request.path", "/a/b?c=d"),
        ("request.url_path", "/a/b"),
        ("request.query", "c=d"),
        ("request.method", "GET"),
        ("request.host", "a"),
        ("request.scheme", "http"),
        ("request.protocol", "HTTP/1.1"),
        ("request.useragent", "test"),
        ("request.referer", "none"),
        ("request.headers.x-many", "1,2"),
        ("source.port", "CLIENT"),
        ("destination.port", "80"),
        ("xds.listener_direction", "2"),
        ("weir.revision", "1"),
        ("weir.service", "default/a:80"),
        ("plugin_name", "default/probe-0"),
        ("nobody.knows", "none"),
    ];
    let lines: Vec<String> = paths
        .iter()
        .enumerate()
        .map(|(number, (path, _))| format!("request-headers property {path} as x-{number}"))
        .collect();
    let node = Node::start(world(&upstream, &[&lines.join("\n")]));
    node.ask(&get("/a/b?c=d", &["user-agent: test", "x-many: 1", "x-many: 2"]));
    let request = &upstream.requests()[0];
    for (number, (path, value)) in paths.iter().enumerate() {
        let found = request.header(&format!("x-{number}"));
        let is_right =
            if *value == "CLIENT" { found.is_some_and(|port| port != "none") } else { found == Some(*value) };
        assert!(is_right, "{path}: {found:?}");
    }
}

#[test]
fn a_plugin_decides_where_a_request_goes() {
    let (stable, canary) = (Upstream::saying("stable"), Upstream::saying("canary"));
    let rule = || RuleOf { to: vec![("a", 1)], ..RuleOf::default() };
    let node = |script: &str, rules: Vec<RuleOf>| {
        let mut world = world(&stable, &[script]).service("c", &[canary.address]);
        world.rules = rules;
        Node::start(world)
    };
    for rules in [vec![], vec![rule()]] {
        let node = node("request-headers put weir.route.destination default/c:80", rules);
        for _ in 0..3 {
            assert_eq!(node.ask(&get("/", &[])).text(), "canary");
        }
    }
    // It sees what was decided, and what it said can be read.
    let script = "request-headers put weir.route.destination c:80\nresponse-headers property weir.route.destination as \
                  x-wanted\nresponse-headers property weir.destination as x-destination";
    let reply = node(script, vec![]).ask(&get("/", &[]));
    assert_eq!((reply.header("x-wanted"), reply.header("x-destination")), (Some("c:80"), Some("default/c:80")));
    let reply = node("request-headers put weir.route.destination default/nobody:80", vec![]).ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause()), (500, Some("unresolved")));
    assert_eq!(reply.text(), "a plugin sends the request to default/nobody:80, which does not exist\n");
    let reply = node("request-headers put weir.route.destination nonsense", vec![]).ask(&get("/", &[]));
    assert_eq!(
        (reply.status(), reply.text()),
        (500, "a plugin set weir.route.destination to \"nonsense\", which is not the name of a service and a port\n")
    );
}

#[test]
fn a_plugin_reads_the_body_before_it_decides_where_the_request_goes() {
    let (stable, canary) = (echo(), Upstream::answering(|request: &Message| response(201, &request.body)));
    let first = "request-headers put weir.body.before_route true\nrequest-headers pause\nrequest-headers add x-seen a\n\
                 request-body pause\nrequest-body end put weir.route.destination c:80\nrequest-body end set x-late yes\n\
                 request-body end go";
    // Whoever comes after it sees the head as it left it, and then the whole body.
    let second = "request-headers property request.headers.x-late as x-told\nrequest-body upper";
    let node = Node::start(world(&stable, &[first, second]).service("c", &[canary.address]));
    for sent in [
        chunked(&["one", "two", "three"]),
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nonetwothree".to_owned(),
    ] {
        let reply = node.ask(&sent);
        assert_eq!((reply.status(), reply.text()), (201, "ONETWOTHREE"), "{sent}");
        let request = canary.requests().last().unwrap().clone();
        let told =
            ["x-seen", "x-late", "x-told"].map(|name| request.header(name).map(str::to_owned).unwrap_or_default());
        assert_eq!(told, ["a", "yes", "yes"]);
    }
    // No more of it than it may hold back.
    let limits = Limits { body: 1_000, ..Limits::default() };
    let plugin = Plugin { limits, ..probe("bounded", first) };
    let node = Node::start(World::new(&[stable.address]).plugins(loaded([plugin])));
    let piece = "x".repeat(700);
    let reply = node.ask(&chunked(&[&piece, &piece, &piece]));
    assert_eq!((reply.status(), reply.cause()), (413, Some("body_too_large")));
    // It answers what it does not like, before anybody else has seen it.
    let script = "request-headers put weir.body.before_route true\nrequest-headers pause\nrequest-body pause\n\
                  request-body end reply 400 no";
    let before = stable.connections();
    let reply = Node::start(world(&stable, &[script])).ask(&chunked(&["one", "two"]));
    assert_eq!((reply.status(), reply.text(), stable.connections()), (400, "no", before));
}

#[test]
fn a_plugin_gives_a_request_less_time() {
    let upstream = Upstream::hanging();
    let node = Node::start(world(&upstream, &["request-headers put weir.route.timeout_ms 50"]));
    let reply = node.ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause()), (504, Some("request_timeout")));
}

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
