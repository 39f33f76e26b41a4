//! Clients that come back to the endpoint that they had, because the answer told them a token.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use support::message::Message;
use support::upstream::{Upstream, refusing};
use support::world::{RuleOf, World};
use support::{Node, get};
use weir_core::methods::Methods;
use weir_core::retry::{Backoff, Failures, Retry, RetryTo};
use weir_core::session::{Carrier, Session, Token};

fn session(carrier: Carrier, timeout: Option<u64>) -> Arc<Session> {
    Arc::new(Session { carrier, timeout: timeout.map(Duration::from_secs) })
}

fn by_cookie() -> Arc<Session> {
    session(Carrier::Cookie { name: "s".into(), is_permanent: false }, None)
}

/// The token that an answer tells.
fn told(reply: &Message) -> Option<String> {
    let cookie = reply.header("set-cookie")?.strip_prefix("s=")?;
    cookie.split(';').next().map(str::to_owned)
}

fn with(token: &str) -> String {
    get("/", &[&format!("cookie: a=b; s={token}")])
}

#[test]
fn a_client_comes_back_to_its_endpoint_and_is_told_once() {
    let endpoints: Vec<Upstream> = ["a", "b", "c", "d"].map(Upstream::saying).into();
    let addresses: Vec<_> = endpoints.iter().map(|one| one.address).collect();
    let header = session(Carrier::Header(HeaderName::from_static("x-session")), None);
    for session in [by_cookie(), header] {
        let rule = RuleOf { to: vec![("a", 1)], session: Some(Arc::clone(&session)), ..RuleOf::default() };
        let node = Node::start(World::new(&addresses).rule(rule));
        let mut first = BTreeSet::new();
        for _ in 0..12 {
            let reply = node.ask(&get("/", &[]));
            let token = match session.carrier {
                Carrier::Cookie { .. } => told(&reply),
                Carrier::Header(_) => reply.header("x-session").map(str::to_owned),
            };
            let token = token.expect("a token");
            first.insert(reply.text().to_owned());
            for _ in 0..8 {
                let again = match session.carrier {
                    Carrier::Cookie { .. } => node.ask(&with(&token)),
                    Carrier::Header(_) => node.ask(&get("/", &[&format!("x-session: {token}")])),
                };
                assert_eq!(again.text(), reply.text());
                assert_eq!((again.header("set-cookie"), again.header("x-session")), (None, None), "it knows");
            }
        }
        assert!(first.len() > 1, "those without a session are shared: {first:?}");
    }
}

#[test]
fn a_session_stays_with_its_version_when_weights_change_and_its_endpoint_goes() {
    let (stable, canary) = (Upstream::saying("stable"), [Upstream::saying("canary 1"), Upstream::saying("canary 2")]);
    let rule = |stable: u32, canary: u32| RuleOf {
        to: vec![("a", stable), ("canary", canary)],
        session: Some(by_cookie()),
        ..RuleOf::default()
    };
    let world = World::new(&[stable.address]).service("canary", &canary.each_ref().map(|one| one.address));
    let mut node = Node::start(world.rule(rule(0, 1)));
    let reply = node.ask(&get("/", &[]));
    let (token, had) = (told(&reply).unwrap(), reply.text().to_owned());
    // No new sessions for the canary: those that it has stay.
    node.publish(|world| world.rules = vec![rule(1, 0)]);
    (0..5).for_each(|_| assert_eq!(node.ask(&get("/", &[])).text(), "stable"));
    (0..5).for_each(|_| assert_eq!(node.ask(&with(&token)).text(), had));
    // Its endpoint goes: to another one of the same version, which it is told.
    let other = canary.iter().find(|one| one.requests().is_empty()).expect("one that was not asked").address;
    node.publish(|world| drop(world.services.insert("canary", vec![other])));
    let moved = node.ask(&with(&token));
    assert!(moved.text().starts_with("canary") && moved.text() != had, "{}", moved.text());
    assert!(told(&moved).is_some_and(|new| new != token));
    // The version goes: to what there is.
    node.publish(|world| world.rules = vec![RuleOf { to: vec![("a", 1)], ..rule(1, 0) }]);
    assert_eq!(node.ask(&with(&token)).text(), "stable");
}

#[test]
fn tokens_that_are_none_or_have_expired_are_as_if_they_were_not_there() {
    let endpoints: Vec<Upstream> = ["a", "b"].map(Upstream::saying).into();
    let addresses: Vec<_> = endpoints.iter().map(|one| one.address).collect();
    let session = session(Carrier::Cookie { name: "s".into(), is_permanent: true }, Some(3_600));
    let rule = RuleOf { to: vec![("a", 1)], session: Some(session), ..RuleOf::default() };
    let node = Node::start(World::new(&addresses).rule(rule));
    let reply = node.ask(&get("/", &[]));
    assert!(reply.header("set-cookie").unwrap().contains("; Max-Age=3600;"), "{reply:?}");
    let good = Token::parse(&told(&reply).unwrap()).unwrap();
    assert_eq!(told(&node.ask(&with(&good.to_string()))), None);
    for token in [
        Token { since: good.since - 3_601, ..good }.to_string(),
        Token { since: good.since + 3_600, ..good }.to_string(),
        Token { destination: 1, ..good }.to_string(),
        Token { endpoint: 1, ..good }.to_string(),
        "nonsense".to_owned(),
    ] {
        let reply = node.ask(&with(&token));
        assert_eq!(reply.status(), 200, "{token}");
        assert!(told(&reply).is_some_and(|new| new != token), "{token}");
    }
}

#[test]
fn the_session_is_at_the_endpoint_that_answered_in_the_end() {
    let good = Upstream::saying("good");
    let mut on = Failures::unanswered();
    on.add_statuses([503]);
    let backoff = Backoff::from_base(Duration::from_millis(1));
    let retry = Retry { attempts: 3, on, methods: Methods::Idempotent, backoff, hedge_after: None, to: RetryTo::Same };
    let rule = RuleOf { to: vec![("a", 1)], session: Some(by_cookie()), retry: Some(retry), ..RuleOf::default() };
    let node = Node::start(World::new(&[refusing(), good.address]).rule(rule));
    let tokens: BTreeSet<_> = (0..12).map(|_| told(&node.ask(&get("/", &[]))).unwrap()[..33].to_owned()).collect();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert!(node.metric("weir_proxy_retries_total", "event=\"failed_connect\"") > 0.0);
}

/// Where a plugin sends a request comes before where its client has been.
#[test]
fn a_plugin_that_chooses_the_destination_is_heard() {
    let (stable, other) = (Upstream::saying("stable"), Upstream::saying("other"));
    let rule = RuleOf { to: vec![("a", 1)], session: Some(by_cookie()), ..RuleOf::default() };
    let mut node = Node::start(World::new(&[stable.address]).service("c", &[other.address]).rule(rule));
    let token = told(&node.ask(&get("/", &[]))).expect("a token");
    assert_eq!(node.ask(&with(&token)).text(), "stable");
    let plugin = support::plugins::probe("choosing", "request-headers put weir.route.destination c:80");
    node.publish(|world| world.plugins = support::plugins::loaded([plugin]));
    assert_eq!(node.ask(&with(&token)).text(), "other");
}
