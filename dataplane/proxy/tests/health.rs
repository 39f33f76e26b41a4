//! Health checks: endpoints that fail them get no requests, and get them again when they pass.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use support::http2::{self, Answer};
use support::upstream::{Upstream, refusing, response};
use support::world::World;
use support::{Node, get, until};
use weir_core::balance::{Algorithm, HealthCheck, Question, TrafficPolicy};
use weir_core::snapshot::Protocol;
use weir_telemetry::WorkerEvent;

fn policy(question: Question) -> TrafficPolicy {
    let check = HealthCheck {
        question,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        healthy_threshold: 2,
        unhealthy_threshold: 2,
    };
    TrafficPolicy { health: Some(Arc::new(check)), algorithm: Algorithm::RoundRobin, ..TrafficPolicy::default() }
}

fn http() -> Question {
    Question::Http { method: http::Method::GET, path: "/healthz".into(), host: None, statuses: Vec::new() }
}

fn node(endpoints: &[SocketAddr], question: Question) -> Node {
    Node::start_with(World::new(endpoints).policy(policy(question)), |settings| {
        // The worker's time in small steps.
        settings.downstream.head_timeout = Duration::from_millis(400);
    })
}

/// Waits until these are those who answer.
fn await_answers(node: &Node, expected: &[&str]) {
    until(&format!("answers of {expected:?}"), || {
        let mut client = node.client();
        let mut seen: Vec<String> = (0..4).map(|_| client.ask(&get("/", &[])).text().to_owned()).collect();
        seen.sort();
        seen.dedup();
        seen == expected
    });
}

/// An endpoint whose health can be changed.
fn changing(text: &'static str) -> (Upstream, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let health = Arc::clone(&is_well);
    let upstream = Upstream::answering(move |request| match request.first.starts_with("GET /healthz ") {
        true => response(if health.load(Ordering::SeqCst) { 204 } else { 503 }, b""),
        false => response(200, text.as_bytes()),
    });
    (upstream, is_well)
}

#[test]
fn an_endpoint_that_fails_its_checks_gets_no_requests_until_it_passes_them() {
    let ([a, b], [a_is_well, b_is_well]) = {
        let (a, b) = (changing("a"), changing("b"));
        ([a.0, b.0], [a.1, b.1])
    };
    let node = node(&[a.address, b.address], http());
    await_answers(&node, &["a", "b"]);
    b_is_well.store(false, Ordering::SeqCst);
    await_answers(&node, &["a"]);
    node.await_event(WorkerEvent::EndpointUnhealthy, 1);
    // None is well: better all than none.
    a_is_well.store(false, Ordering::SeqCst);
    await_answers(&node, &["a", "b"]);
    b_is_well.store(true, Ordering::SeqCst);
    // One of two is half of them: that is enough.
    await_answers(&node, &["b"]);
    node.await_event(WorkerEvent::EndpointHealthy, 1);
    a_is_well.store(true, Ordering::SeqCst);
    await_answers(&node, &["a", "b"]);
    let checks = a.requests().into_iter().find(|request| request.first.starts_with("GET /healthz")).unwrap();
    assert_eq!(checks.header("host"), Some(a.address.to_string().as_str()));
    assert!(checks.header("user-agent").unwrap().starts_with("weir-health/"));
}

#[test]
fn an_endpoint_that_accepts_no_connection_fails_whatever_is_asked() {
    for question in [Question::Tcp, http(), Question::Grpc { service: "".into() }] {
        let is_grpc = matches!(question, Question::Grpc { .. });
        let (good, _) = changing("good");
        // Half of them are well, unless what is well is asked something that it does not understand.
        let node = node(&[refusing(), good.address], question);
        node.await_event(WorkerEvent::EndpointUnhealthy, if is_grpc { 2 } else { 1 });
        if !is_grpc {
            await_answers(&node, &["good"]);
        }
    }
}

#[test]
fn servers_of_grpc_are_asked_in_their_own_way() {
    let serving = Arc::new(AtomicBool::new(true));
    let is_serving = Arc::clone(&serving);
    let endpoint = http2::Upstream::answering(move |request| {
        assert_eq!(request.target.split('/').skip(3).collect::<Vec<_>>(), ["grpc.health.v1.Health", "Check"]);
        assert_eq!((&request.body[..], request.header("te")), (&b"\0\0\0\0\x05\x0a\x03a.B"[..], Some("trailers")));
        let status = if is_serving.load(Ordering::SeqCst) { 1 } else { 2 };
        Answer {
            headers: vec![("content-type", "application/grpc")],
            body: Bytes::from(vec![0, 0, 0, 0, 2, 8, status]),
            trailers: vec![("grpc-status", "0")],
            ..Answer::text("")
        }
    });
    let world = World::new(&[endpoint.address]).protocol(Protocol::Http2);
    let node = Node::start(world.policy(policy(Question::Grpc { service: "a.B".into() })));
    until("some checks", || endpoint.requests().len() > 3);
    assert_eq!(node.telemetry.count(WorkerEvent::EndpointUnhealthy), 0);
    serving.store(false, Ordering::SeqCst);
    node.await_event(WorkerEvent::EndpointUnhealthy, 1);
    serving.store(true, Ordering::SeqCst);
    node.await_event(WorkerEvent::EndpointHealthy, 1);
}

#[test]
fn checks_follow_the_configuration() {
    let (a, _) = changing("a");
    let (b, b_is_well) = changing("b");
    b_is_well.store(false, Ordering::SeqCst);
    let mut node = node(&[a.address, b.address], http());
    await_answers(&node, &["a"]);
    node.publish(|world| world.policy.health = None);
    // Nobody asks any more, and so nobody says that it is not well.
    await_answers(&node, &["a", "b"]);
    let asked = || b.requests().iter().filter(|request| request.first.contains("healthz")).count();
    let before = asked();
    await_answers(&node, &["a", "b"]);
    assert!(asked() <= before + 1, "one may have been on its way");
    node.publish(|world| world.policy = policy(http()));
    await_answers(&node, &["a"]);
}
