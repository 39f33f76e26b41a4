//! Listeners of gateways: they come and go with the configuration, and their clients are outside the mesh.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use support::upstream::{Upstream, response};
use support::world::World;
use support::{Client, Node, free, get, http2, until};
use weir_telemetry::WorkerEvent;

#[test]
fn listeners_come_and_go_with_the_configuration() {
    let upstream = Upstream::saying("ok");
    let mut node = Node::start_with(World::new(&[upstream.address]), |settings| settings.workers = 2);
    let (first, second) = (free(), free());
    for addresses in [vec![first], vec![first, second], vec![second], vec![], vec![first]] {
        node.listen_at(&addresses);
        for address in [first, second] {
            if addresses.contains(&address) {
                assert_eq!(Client::connect(address).ask(&get("/", &[])).text(), "ok", "{address} of {addresses:?}");
            } else {
                until(&format!("nobody at {address}"), || Client::try_connect(address).is_err());
            }
        }
    }
}

#[test]
fn connections_of_a_listener_that_is_gone_end_in_order() {
    let (begun, release) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let release_end = std::sync::Mutex::new(release.1);
    let begun_end = std::sync::Mutex::new(begun.0);
    let upstream = Upstream::answering(move |request| {
        if request.first.contains("/slow") {
            begun_end.lock().unwrap().send(()).unwrap();
            release_end.lock().unwrap().recv_timeout(support::PATIENCE).unwrap();
        }
        response(200, b"ok")
    });
    let mut node = Node::start_with(World::new(&[upstream.address]), |settings| {
        settings.gateways.drain = support::PATIENCE;
    });
    let address = free();
    node.listen_at(&[address]);
    let (mut slow, mut kept, mut other) = (Client::connect(address), Client::connect(address), node.client());
    for client in [&mut kept, &mut other] {
        assert_eq!(client.ask(&get("/", &[])).text(), "ok");
    }
    slow.send(get("/slow", &[]));
    begun.1.recv_timeout(support::PATIENCE).unwrap();
    node.listen_at(&[]);
    until("nobody to listen", || Client::try_connect(address).is_err());
    // What is under way is answered as it was decided; for what comes later there is no gateway. Both clients are told to
    // ask elsewhere.
    release.0.send(()).unwrap();
    let answers = [slow.receive(), kept.ask(&get("/", &[]))];
    let told = answers.each_ref().map(|reply| (reply.status(), reply.header("connection")));
    assert_eq!(told, [(200, Some("close")), (503, Some("close"))]);
    assert_eq!(slow.rest().unwrap(), b"");
    // The others stay as they are.
    assert_eq!(other.ask(&get("/", &[])).header("connection"), None);
}

#[test]
fn clients_in_http2_are_told_to_go_away() {
    let upstream = Upstream::saying("ok");
    let mut node = Node::start(World::new(&[upstream.address]));
    let address = free();
    node.listen_at(&[address]);
    http2::run(async {
        let mut client = http2::Client::connect(address).await;
        assert_eq!(client.ask(http2::get("/")).await.text(), "ok");
        node.listen_at(&[]);
        client.end().await.unwrap();
    });
}

#[test]
fn what_does_not_end_is_cut_off() {
    let upstream = Upstream::raw(|_stream| std::thread::park_timeout(support::PATIENCE));
    let mut node = Node::start_with(World::new(&[upstream.address]), |settings| {
        settings.gateways.drain = Duration::from_millis(50);
    });
    let address = free();
    node.listen_at(&[address]);
    let mut client = Client::connect(address);
    client.send(get("/", &[]));
    node.await_event(WorkerEvent::UpstreamConnected, 1);
    node.listen_at(&[]);
    node.await_event(WorkerEvent::DrainClosed, 1);
    assert!(client.try_receive().map_or(true, |reply| reply.status() == 503));
}

#[test]
fn an_address_that_is_taken_is_told_and_tried_again() {
    let upstream = Upstream::saying("ok");
    let mut node = Node::start(World::new(&[upstream.address]));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    node.publish(|world| world.gateways = vec![address]);
    let failure = || node.gateways.addresses().first().and_then(|one| one.failure.clone());
    until("the failure", || failure().is_some());
    let failure = failure().unwrap();
    assert!(failure.contains(&address.to_string()) && failure.contains("in use"), "{failure}");
    drop(taken);
    node.listen_at(&[address]);
    assert_eq!(Client::connect(address).ask(&get("/", &[])).text(), "ok");
}

#[test]
fn what_clients_say_of_proxies_is_not_believed() {
    let upstream = Upstream::saying("ok");
    let mut node = Node::start(World::new(&[upstream.address]));
    let address = free();
    node.listen_at(&[address]);
    let lies = [
        "x-forwarded-for: 10.0.0.1",
        "x-forwarded-proto: https",
        "x-forwarded-host: bank",
        "x-forwarded-port: 443",
        "forwarded: for=10.0.0.1",
        "x-request-id: mine",
    ];
    assert_eq!(Client::connect(address).ask(&get("/", &lies)).text(), "ok");
    let arrived = upstream.requests().remove(0);
    for (name, expected) in [
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", None),
        ("x-forwarded-port", None),
        ("forwarded", None),
        ("x-request-id", Some("mine")),
    ] {
        assert_eq!(arrived.header(name), expected, "{name}");
    }
}
