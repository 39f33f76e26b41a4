//! File descriptors that run out. In a process of its own, since the limit is the process's.

mod support;

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::upstream::Upstream;
use support::world::{RuleOf, World};
use support::{Node, get};
use weir_telemetry::WorkerEvent;

/// Sets how many file descriptors this process may have.
fn limit(count: usize) {
    let this = std::process::id().to_string();
    let status = Command::new("prlimit").args(["--pid", &this, &format!("--nofile={count}:")]).status();
    assert!(status.expect("prlimit (util-linux) is needed").success());
}

#[test]
fn without_descriptors_what_is_open_is_served_and_the_rest_waits() {
    let (upstream, other) = (Upstream::saying("ok"), Upstream::saying("other"));
    let rule = RuleOf { header: Some(("x-to", "other")), to: vec![("b", 1)], ..RuleOf::default() };
    let node = Node::start(World::new(&[upstream.address]).service("b", &[other.address]).rule(rule));
    let mut open = node.client();
    assert_eq!(open.ask(&get("/", &[])).text(), "ok");

    // The clients' own sockets exist before the limit falls.
    let mut clients: Vec<Socket> = (0..20).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    limit(std::fs::read_dir("/proc/self/fd").unwrap().count() + 3);
    let start = Instant::now();
    clients.iter().for_each(|client| client.connect(&node.address.into()).unwrap());
    node.await_event(WorkerEvent::AcceptExhausted, 3);
    for _ in 0..100 {
        assert_eq!(open.ask(&get("/", &[])).text(), "ok");
    }
    // A request that needs a new connection is answered, and its client keeps its own.
    let reply = open.ask(&get("/", &["x-to: other"]));
    assert_eq!((reply.status(), reply.cause()), (503, Some("out_of_sockets")));
    node.await_metric("weir_proxy_local_replies_total", r#"cause="out_of_sockets""#, 1.0);
    assert!(node.metric("weir_proxy_events_total", r#"event="accept_exhausted""#) >= 3.0);
    let (failures, elapsed) = (node.telemetry.count(WorkerEvent::AcceptExhausted), start.elapsed());
    assert!(
        Duration::from_millis(50) * (failures as u32 - 1) <= elapsed,
        "{failures} failures in {elapsed:?}: spinning"
    );

    limit(1_024);
    assert_eq!(open.ask(&get("/", &["x-to: other"])).text(), "other");
    for client in &mut clients {
        client.set_read_timeout(Some(support::PATIENCE)).unwrap();
        client.write_all(get("/", &["connection: close"]).as_bytes()).unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("ok"), "{reply}");
    }
}
