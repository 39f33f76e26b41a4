//! Plugins of rules, and at gateways.

use crate::support::message::Message;
use crate::support::plugins::{chunked, echo, loaded, probe, world};
use crate::support::upstream::{Upstream, response};
use crate::support::world::{RuleOf, World};
use crate::support::{Client, Node, free, get};
use weir_core::plugin::{Layer, Plugin};

/// A plugin of a name that says in a header that it was there.
fn marking(name: &str) -> Plugin {
    let script = format!("request-headers add x-seen {name}\nresponse-headers add x-seen {name}");
    probe(name, &script)
}

fn seen(message: &Message) -> Vec<&str> {
    message.headers.iter().filter(|(name, _)| name == "x-seen").map(|(_, value)| &**value).collect()
}

#[test]
fn a_plugin_of_a_rule_sees_what_the_rule_matches() {
    let (stable, canary) = (Upstream::saying("stable"), Upstream::saying("canary"));
    let of_rule = loaded([marking("of-rule")]);
    let rule = RuleOf { header: Some(("x-group", "beta")), to: vec![("c", 1)], plugins: of_rule, ..RuleOf::default() };
    for (plugins, before) in [(vec![], vec![]), (loaded([marking("of-service")]), vec!["of-service"])] {
        let world = World::new(&[stable.address]).service("c", &[canary.address]).rule(rule.clone()).plugins(plugins);
        let node = Node::start(world);
        let mut client = node.client();
        for _ in 0..2 {
            let reply = client.ask(&get("/", &["x-group: beta"]));
            assert_eq!(reply.text(), "canary");
            let mut both = [&before[..], &["of-rule"]].concat();
            assert_eq!(seen(canary.requests().last().unwrap()), both);
            both.reverse();
            assert_eq!(seen(&reply), both);
            let reply = client.ask(&get("/", &[]));
            assert_eq!((reply.text(), seen(&reply)), ("stable", before.clone()));
        }
    }
}

/// What it changes does not lead to another rule; what it decides does.
#[test]
fn the_rule_stays_the_one_that_was_met() {
    let (one, two) = (Upstream::saying("one"), Upstream::saying("two"));
    let rules = |script: &str| {
        let plugins = loaded([probe("changing", script)]);
        let first = RuleOf { header: Some(("x-to", "c")), to: vec![("c", 1)], plugins, ..RuleOf::default() };
        [first, RuleOf { header: Some(("x-to", "d")), to: vec![("d", 1)], ..RuleOf::default() }]
    };
    for (script, expected) in
        [("request-headers set x-to d", "one"), ("request-headers put weir.route.destination d:80", "two")]
    {
        let mut world = World::new(&[one.address]).service("c", &[one.address]).service("d", &[two.address]);
        world.rules = rules(script).into();
        let node = Node::start(world);
        assert_eq!(node.ask(&get("/", &["x-to: c"])).text(), expected, "{script}");
    }
    // And what a plugin of the service changes leads to the rule, with its plugins.
    let marking = RuleOf {
        header: Some(("x-to", "c")),
        to: vec![("c", 1)],
        plugins: loaded([marking("met")]),
        ..RuleOf::default()
    };
    let world = world(&one, &["request-headers set x-to c"]).service("c", &[two.address]).rule(marking);
    let reply = Node::start(world).ask(&get("/", &[]));
    assert_eq!((reply.text(), seen(&reply)), ("two", vec!["met"]));
}

#[test]
fn a_plugin_of_a_rule_sees_bodies_and_answers() {
    let upstream = echo();
    let rule =
        |script: &str| RuleOf { to: vec![("a", 1)], plugins: loaded([probe("of-rule", script)]), ..RuleOf::default() };
    let node =
        Node::start(World::new(&[upstream.address]).rule(rule("request-body upper\nresponse-headers set x-a b")));
    let reply = node.ask(&chunked(&["one", "two"]));
    assert_eq!((reply.text(), reply.header("x-a")), ("ONETWO", Some("b")));
    // With one of the service before it that looks at bodies as well.
    let world =
        world(&upstream, &["request-body end append !"]).rule(rule("request-body upper\nrequest-body end append ?"));
    assert_eq!(Node::start(world).ask(&chunked(&["one"])).text(), "ONE!?");
    let node = Node::start(World::new(&[upstream.address]).rule(rule("request-headers reply 403 no")));
    assert_eq!((node.ask(&get("/", &[])).status(), upstream.requests().len()), (403, 2));
    // It holds the body back, and then decides.
    let first = "request-headers put weir.body.before_route true\nrequest-headers pause\nrequest-body pause\n\
                 request-body end put weir.route.destination c:80\nrequest-body end go";
    let canary = Upstream::answering(|request: &Message| response(201, &request.body));
    let node = Node::start(World::new(&[upstream.address]).service("c", &[canary.address]).rule(rule(first)));
    let reply = node.ask(&chunked(&["one", "two"]));
    assert_eq!((reply.status(), reply.text()), (201, "onetwo"));
}

/// What a plugin of the service has had of the body before the route, one of the rule has as well.
#[test]
fn a_plugin_of_a_rule_sees_the_body_that_was_read_before() {
    let upstream = echo();
    let of_service = "request-headers put weir.body.before_route true\nrequest-headers pause\nrequest-body pause\n\
                      request-body end append !\nrequest-body end go";
    let plugins = loaded([probe("of-rule", "request-body upper\nrequest-body end append ?")]);
    let rule = RuleOf { to: vec![("a", 1)], plugins, ..RuleOf::default() };
    let node =
        Node::start(world(&upstream, &[&format!("request-headers remove content-length\n{of_service}")]).rule(rule));
    for _ in 0..2 {
        let reply = node.ask(&chunked(&["one", "two"]));
        assert_eq!((reply.status(), reply.text()), (200, "ONETWO!?"));
    }
}

/// One that both name sees a request once.
#[test]
fn a_plugin_of_service_and_rule_sees_a_request_once() {
    let upstream = Upstream::saying("x");
    let plugins = loaded([marking("both")]);
    let rule = RuleOf { to: vec![("a", 1)], plugins: plugins.clone(), ..RuleOf::default() };
    let reply = Node::start(World::new(&[upstream.address]).plugins(plugins).rule(rule)).ask(&get("/", &[]));
    assert_eq!(seen(&reply), ["both"]);
}

#[test]
fn plugins_see_what_comes_by_gateways() {
    let upstream = Upstream::saying("x");
    let script = "request-headers add x-seen of-gateway\nresponse-headers property destination.port as x-port";
    let rule = RuleOf { to: vec![("a", 1)], plugins: loaded([marking("of-rule")]), ..RuleOf::default() };
    let mut node = Node::start(world(&upstream, &[script]).rule(rule));
    let address = free();
    node.listen_at(&[address]);
    let reply = Client::connect(address).ask(&get("/", &[]));
    assert_eq!((reply.text(), reply.header("x-port")), ("x", Some(&*address.port().to_string())));
    assert_eq!(seen(&upstream.requests()[0]), ["of-gateway", "of-rule"]);
}

#[test]
fn a_plugin_for_connections_sees_no_requests() {
    let upstream = Upstream::saying("x");
    let plugin = Plugin { protocol: Layer::Tcp, ..probe("tcp", "tcp\nnew-connection close") };
    let node = Node::start(World::new(&[upstream.address]).tcp_plugins(loaded([plugin])));
    assert_eq!(node.ask(&get("/", &[])).text(), "x");
}
