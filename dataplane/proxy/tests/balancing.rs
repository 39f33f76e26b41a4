//! Which endpoint of a service gets a request, and which gets none for a while.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::upstream::{Upstream, refusing, response};
use support::world::World;
use support::{Node, get, until};
use weir_core::balance::{Algorithm, Locality, OutlierDetection, TrafficPolicy, Weight};
use weir_core::split::StickyKey;
use weir_telemetry::WorkerEvent;

const NAMES: [&str; 3] = ["one", "two", "three"];
const HOUR: Duration = Duration::from_secs(3_600);

fn saying() -> [Upstream; 3] {
    NAMES.map(Upstream::saying)
}

fn addresses(upstreams: &[Upstream]) -> Vec<SocketAddr> {
    upstreams.iter().map(|upstream| upstream.address).collect()
}

fn with(algorithm: Algorithm) -> TrafficPolicy {
    TrafficPolicy { algorithm, ..TrafficPolicy::default() }
}

fn counts(upstreams: &[Upstream]) -> Vec<usize> {
    upstreams.iter().map(|upstream| upstream.requests().len()).collect()
}

/// So many requests on one connection, all of which are answered well.
fn ask(node: &Node, count: usize) {
    let mut client = node.client();
    for _ in 0..count {
        assert_eq!(client.ask(&get("/", &[])).status(), 200);
    }
}

/// One after the other; three failures in a row are an ejection for this long.
fn outliers(base_ejection: Duration) -> TrafficPolicy {
    let outliers = OutlierDetection {
        consecutive_5xx: Some(3),
        consecutive_local_failures: Some(3),
        base_ejection,
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    };
    TrafficPolicy { outliers: Some(outliers), ..with(Algorithm::RoundRobin) }
}

#[test]
fn each_takes_what_it_weighs_and_keeps_it_when_another_goes() {
    let upstreams = saying();
    let all = addresses(&upstreams);
    let mut world = World::new(&all).policy(with(Algorithm::RoundRobin));
    world.weights = all.iter().zip([50, 150, 200]).map(|(at, weight)| (*at, Weight::new(weight).unwrap())).collect();
    let mut node = Node::start(world);
    let mut before = [0; 3];
    let mut each_gets = |node: &Node, due: [usize; 3]| {
        ask(node, due.iter().sum());
        let now = counts(&upstreams);
        let got: Vec<usize> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        // However many picks were before these, none is further than two from its part.
        assert!(got.iter().zip(due).all(|(got, due)| got.abs_diff(due) <= 2), "{got:?}, not {due:?}");
        before.copy_from_slice(&now);
    };
    each_gets(&node, [10, 30, 40]);
    node.publish(|world| drop(world.services.insert("a", all[..2].to_vec())));
    each_gets(&node, [10, 30, 0]);
    // Of which nothing is said weigh the usual.
    node.publish(|world| {
        world.weights.remove(&all[0]);
        drop(world.services.insert("a", vec![all[0], all[2]]));
    });
    each_gets(&node, [10, 0, 20]);
}

#[test]
fn one_after_the_other() {
    let upstreams = saying();
    let node = Node::start(World::new(&addresses(&upstreams)).policy(with(Algorithm::RoundRobin)));
    ask(&node, 30);
    assert_eq!(counts(&upstreams), [10, 10, 10]);
}

#[test]
fn at_random_everybody_gets_some() {
    for algorithm in [Algorithm::Random, Algorithm::LeastRequest] {
        let upstreams = saying();
        let node = Node::start(World::new(&addresses(&upstreams)).policy(with(algorithm.clone())));
        ask(&node, 90);
        let counts = counts(&upstreams);
        // That one of them gets less than three has a chance of one in a billion.
        assert!(counts.iter().all(|count| *count > 2), "{algorithm:?} {counts:?}");
    }
}

#[test]
fn the_same_key_finds_the_same_endpoint_and_keeps_it_when_another_one_goes() {
    let upstreams = saying();
    let header = StickyKey::Header(http::HeaderName::from_static("x-user"));
    let policy = with(Algorithm::ConsistentHash(header));
    let mut node = Node::start(World::new(&addresses(&upstreams)).policy(policy));
    let ask = |node: &Node, user: usize| {
        let line = format!("x-user: {user}");
        node.ask(&get("/", &[&line])).text().to_owned()
    };
    let before: Vec<String> = (0..40).map(|user| ask(&node, user)).collect();
    let again: Vec<String> = (0..40).map(|user| ask(&node, user)).collect();
    assert_eq!(before, again);
    assert!(NAMES.iter().all(|name| before.iter().any(|got| got == name)), "{before:?}");
    let left = vec![upstreams[0].address, upstreams[2].address];
    node.publish(|world| drop(world.services.insert("a", left)));
    let moved = (0..40).filter(|user| {
        let got = ask(&node, *user);
        assert_ne!(got, "two");
        got != before[*user] && before[*user] != "two"
    });
    assert!(moved.count() <= 4, "few of those move whose endpoint stayed");
}

#[test]
fn a_slow_endpoint_gets_less() {
    let slow = Upstream::answering(|_| {
        std::thread::park_timeout(Duration::from_millis(100));
        response(200, b"slow")
    });
    let fast = Upstream::saying("fast");
    let node = Node::start(World::new(&[slow.address, fast.address]).policy(with(Algorithm::PeakEwma)));
    // One at a time: there is no load that would tell.
    ask(&node, 60);
    assert!(slow.requests().len() < 10, "{} of 60", slow.requests().len());
}

#[test]
fn an_endpoint_that_fails_is_left_alone_for_a_while() {
    for what in ["answers 500", "closes", "answers 500 to three"] {
        let is_cured = what.ends_with("three");
        let bad = match what {
            "closes" => Upstream::after_request(|_| {}),
            _ if is_cured => Upstream::answering_in_turn(&[500, 500, 500, 200]),
            _ => Upstream::answering(|_| response(500, b"")),
        };
        let good = Upstream::saying("good");
        let time = if is_cured { Duration::from_secs(1) } else { HOUR };
        let node = Node::start(World::new(&[bad.address, good.address]).policy(outliers(time)));
        let failed = (0..20).filter(|_| node.ask(&get("/", &[])).status() >= 500).count();
        assert_eq!(failed, 3, "{what}");
        assert_eq!(node.telemetry.count(WorkerEvent::EndpointEjected), 1, "{what}");
        if is_cured {
            node.await_event(WorkerEvent::EndpointReadmitted, 1);
            let before = bad.requests().len();
            ask(&node, 10);
            assert_eq!(bad.requests().len(), before + 5, "it has its turn again");
        } else {
            assert_eq!(bad.requests().len(), 3, "{what}");
        }
    }
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_left_alone_as_well() {
    let good = Upstream::saying("good");
    let node = Node::start(World::new(&[refusing(), good.address]).policy(outliers(HOUR)));
    let failed = (0..20).filter(|_| node.ask(&get("/", &[])).status() == 503).count();
    assert_eq!(failed, 3);
}

#[test]
fn an_endpoint_that_asks_for_rest_gets_it() {
    let busy = Upstream::answering(|_| b"HTTP/1.1 429 Busy\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n".to_vec());
    let good = Upstream::saying("good");
    let node = Node::start(World::new(&[busy.address, good.address]).policy(outliers(Duration::from_secs(1))));
    let refused = (0..20).filter(|_| node.ask(&get("/", &[])).status() == 429).count();
    assert_eq!((refused, busy.requests().len(), good.requests().len()), (1, 1, 19));
}

#[test]
fn when_most_are_ejected_all_are_used() {
    let two_of_three = || [500, 500, 200].map(|status| Upstream::answering(move |_| response(status, b"")));
    let upstreams = two_of_three();
    let node = Node::start(World::new(&addresses(&upstreams)).policy(outliers(HOUR)));
    for _ in 0..60 {
        let status = node.ask(&get("/", &[])).status();
        assert!([200, 500].contains(&status), "{status}");
    }
    assert_eq!(node.telemetry.count(WorkerEvent::EndpointEjected), 2);
    // One of three is well: that is below half of them.
    let counts = counts(&upstreams);
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");

    let upstreams = two_of_three();
    let mut policy = outliers(HOUR);
    policy.outliers.as_mut().unwrap().max_ejection_percent = 34;
    let node = Node::start(World::new(&addresses(&upstreams)).policy(policy));
    (0..40).for_each(|_| drop(node.ask(&get("/", &[]))));
    assert_eq!(node.telemetry.count(WorkerEvent::EndpointEjected), 1, "no more than may be");
}

#[test]
fn a_new_endpoint_starts_slowly() {
    let upstreams = [Upstream::saying("old"), Upstream::saying("new")];
    let window = Duration::from_secs(2);
    let policy = TrafficPolicy { slow_start: Some(window), ..with(Algorithm::Random) };
    let mut node = Node::start(World::new(&[upstreams[0].address]).policy(policy));
    let begun = Instant::now();
    until("the first one to be old", || {
        ask(&node, 1);
        begun.elapsed() > window * 2
    });
    node.publish(|world| world.services.get_mut("a").unwrap().push(upstreams[1].address));
    ask(&node, 60);
    let young = upstreams[1].requests().len();
    assert!(young < 20, "a tenth of what the other one gets is about 5: {young}");
    until("the new one to get as much", || {
        let before = upstreams[1].requests().len();
        ask(&node, 40);
        upstreams[1].requests().len() - before >= 16
    });
}

#[test]
fn endpoints_on_the_node_come_first() {
    for (locality, own, expected) in [
        (Locality::Anywhere, "n1", [10, 10, 10]),
        (Locality::SameNode, "n1", [15, 15, 0]),
        (Locality::SameNode, "n9", [10, 10, 10]),
        (Locality::OnlyNode, "n2", [0, 0, 30]),
        (Locality::OnlyNode, "n9", [0, 0, 0]),
    ] {
        let upstreams = saying();
        let mut world = World::new(&addresses(&upstreams));
        world.policy = TrafficPolicy { locality, ..with(Algorithm::RoundRobin) };
        world.nodes = upstreams.iter().map(|one| one.address).zip(["n1", "n1", "n2"]).collect();
        let node = Node::start_with(world, |settings| settings.locality.node = Some(own.to_owned()));
        let mut client = node.client();
        for _ in 0..30 {
            let reply = client.ask(&get("/", &[]));
            assert!(reply.status() == 200 || reply.cause() == Some("no_endpoint"));
        }
        assert_eq!(counts(&upstreams), expected, "{locality:?} on {own}");
    }
}
