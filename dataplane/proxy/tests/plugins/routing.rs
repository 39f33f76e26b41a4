//! Plugins that decide where requests go.

use std::time::Duration;

use crate::support::message::Message;
use crate::support::plugins::{chunked, echo, loaded, probe, world};
use crate::support::upstream::{Upstream, refusing, response};
use crate::support::world::{RuleOf, World};
use crate::support::{Node, get, until};
use weir_core::methods::Methods;
use weir_core::plugin::{Limits, Plugin};
use weir_core::retry::{Backoff, Failures, Retry, RetryTo};

#[test]
fn what_a_plugin_says_is_what_rules_match() {
    let (stable, canary) = (Upstream::saying("stable"), Upstream::saying("canary"));
    let rule = RuleOf { header: Some(("x-version", "canary")), to: vec![("c", 1)], ..RuleOf::default() };
    let world = world(&stable, &["request-headers set x-version canary"]).service("c", &[canary.address]).rule(rule);
    let node = Node::start(world);
    assert_eq!(node.ask(&get("/", &[])).text(), "canary");
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
        (
            500,
            "a plugin set weir.route.destination to \"nonsense\", which is not a service with its port, or some with weights, like a:80=9,b:80=1\n"
        )
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
fn a_plugin_shares_requests_out_by_weights() {
    let (stable, canary) = (Upstream::saying("stable"), Upstream::saying("canary"));
    let script = "request-headers put weir.route.destination a:80=1,c:80=3,a:80=0";
    let node = Node::start(world(&stable, &[script]).service("c", &[canary.address]));
    let mut client = node.client();
    let count = (0..400).filter(|_| client.ask(&get("/", &[])).text() == "canary").count();
    // Six times the standard deviation of such a draw.
    assert!((248..=352).contains(&count), "{count}");
}

#[test]
fn a_plugin_chooses_the_version() {
    let (one, two, three) = (Upstream::saying("v1"), Upstream::saying("v2"), Upstream::saying("v3"));
    let rule = RuleOf { to: vec![("a", 1), ("c", 0)], ..RuleOf::default() };
    let node = |version: &str, rules: Vec<RuleOf>| {
        let script = format!("request-headers put weir.route.version {version}");
        let mut world = world(&one, &[&script]).service("c", &[three.address]);
        world.services.insert("a", vec![one.address, two.address]);
        for (upstream, version) in [(&one, "v1"), (&two, "v2"), (&three, "v3")] {
            world = world.version(upstream.address, version);
        }
        world.rules = rules;
        Node::start(world)
    };
    for (version, rules) in [("v1", vec![]), ("v2", vec![]), ("v2", vec![rule.clone()]), ("v3", vec![rule])] {
        let node = node(version, rules);
        for _ in 0..5 {
            assert_eq!(node.ask(&get("/", &[])).text(), version);
        }
    }
    let reply = node("v3", vec![]).ask(&get("/", &[]));
    assert_eq!((reply.status(), reply.cause()), (500, Some("unresolved")));
    let said = "a plugin wants version v3, which no endpoint of default/a:80 or of its rule has\n";
    assert_eq!(reply.text(), said);
}

#[test]
fn a_plugin_has_requests_copied() {
    let (stable, of_rule, of_plugin) = (Upstream::saying("stable"), Upstream::saying("m"), Upstream::saying("p"));
    let rule = RuleOf { to: vec![("a", 1)], mirrors: vec!["m"], ..RuleOf::default() };
    for (wanted, rules, expected) in [
        ("p:80", vec![], (0, 1)),
        ("p:80", vec![rule.clone()], (0, 1)),
        ("p:80=0", vec![rule.clone()], (0, 0)),
        ("m:80,p:80=100", vec![rule.clone()], (1, 1)),
        ("", vec![rule], (0, 0)),
    ] {
        let script = format!("request-headers put weir.route.mirror {wanted}");
        let mut world = world(&stable, &[&script]).service("m", &[of_rule.address]).service("p", &[of_plugin.address]);
        world.rules = rules;
        let before = (of_rule.requests().len(), of_plugin.requests().len());
        let node = Node::start(world);
        assert_eq!(node.ask(&get("/", &[])).text(), "stable");
        // A write is not copied.
        assert_eq!(node.ask(&chunked(&["x"])).text(), "stable");
        let count = || (of_rule.requests().len() - before.0, of_plugin.requests().len() - before.1);
        until("copies", || count() == expected);
        drop(node);
        assert_eq!(count(), expected, "{wanted}");
    }
    let world = world(&stable, &["request-headers put weir.route.mirror nobody:80"]);
    let reply = Node::start(world).ask(&get("/", &[]));
    assert_eq!(reply.text(), "a plugin has requests copied to nobody:80, which does not exist\n");
}

#[test]
fn a_plugin_says_how_often_a_request_is_tried() {
    let mut on = Failures::unanswered();
    on.add_statuses([503]);
    let retry = |attempts| Retry {
        attempts,
        on: on.clone(),
        methods: Methods::Safe,
        backoff: Backoff::from_base(Duration::from_millis(1)),
        hedge_after: None,
        to: RetryTo::Same,
    };
    let rule = |attempts| RuleOf { to: vec![("a", 1)], retry: Some(retry(attempts)), ..RuleOf::default() };
    // What the plugin says, the rule, how many tries there are.
    for (wanted, rules, tries) in
        [("3", vec![rule(1)], 4), ("0", vec![rule(3)], 1), ("2", vec![], 1), ("1", vec![rule(3)], 2)]
    {
        let upstream = Upstream::answering(|_: &Message| response(503, b"no"));
        let script = format!("request-headers put weir.route.retries {wanted}");
        let mut world = world(&upstream, &[&script]);
        world.rules = rules;
        assert_eq!(Node::start(world).ask(&get("/", &[])).status(), 503);
        assert_eq!(upstream.requests().len(), tries, "{wanted}");
    }
    // Without a rule, after failures in which nobody answered.
    let upstream = Upstream::saying("at last");
    let mut world = world(&upstream, &["request-headers put weir.route.retries 10"]);
    world.services.insert("a", vec![upstream.address, refusing(), refusing()]);
    let node = Node::start(world);
    for _ in 0..10 {
        assert_eq!(node.ask(&get("/", &[])).text(), "at last");
    }
}

/// Whoever asks the function instead of setting properties hears at once whether it can be.
#[test]
fn a_plugin_is_told_what_cannot_be() {
    let (stable, canary) = (Upstream::saying("stable"), Upstream::saying("canary"));
    for (arguments, said, text) in [
        ("destination=c:80|timeout_ms=1000|retries=1", "[]", "canary"),
        ("destination=nobody:80", "NotFound", "stable"),
        ("destination=c", "BadArgument", "stable"),
        ("mirror=nobody:80", "NotFound", "stable"),
        ("destination=c:80|colour=red", "BadArgument", "stable"),
    ] {
        let script = format!(
            "request-headers foreign weir.route {arguments}\nresponse-headers property request.headers.x-foreign as x-said"
        );
        let node = Node::start(world(&stable, &[&script]).service("c", &[canary.address]));
        let reply = node.ask(&get("/", &[]));
        assert_eq!((reply.text(), reply.header("x-said")), (text, Some(said)), "{arguments}");
    }
    let script =
        "request-headers foreign clear_route_cache\nresponse-headers property request.headers.x-foreign as x-said";
    assert_eq!(Node::start(world(&stable, &[script])).ask(&get("/", &[])).header("x-said"), Some("[]"));
    let script = "request-headers foreign nobody.knows\nresponse-headers property request.headers.x-foreign as x-said";
    assert_eq!(Node::start(world(&stable, &[script])).ask(&get("/", &[])).header("x-said"), Some("NotFound"));
}
