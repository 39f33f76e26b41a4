//! A client of IPv4 is led to addresses of IPv4, one of IPv6 to addresses of IPv6, and to the others only when its
//! service has none of its own.

mod support;

use std::net::SocketAddr;

use support::upstream::Upstream;
use support::world::{RuleOf, World};
use support::{Node, get};
use weir_core::snapshot::Protocol;
use weir_telemetry::MirrorEvent;

/// Enough that a choice between two that is left to chance shows.
const REQUESTS: usize = 16;

fn node(listener: &str, world: World) -> Node {
    Node::start_with(world, |settings| settings.services[0].address = listener.parse().expect("an address"))
}

#[test]
fn requests_and_copies_stay_in_the_family_of_their_client() {
    for (listener, own, other) in [("127.0.0.1:0", 0, 1), ("[::1]:0", 1, 0)] {
        let service = [Upstream::saying_at("127.0.0.1:0", "four"), Upstream::saying_at("[::1]:0", "six")];
        let shadow = [Upstream::saying_at("127.0.0.1:0", ""), Upstream::saying_at("[::1]:0", "")];
        let addresses = |upstreams: &[Upstream; 2]| upstreams.each_ref().map(|upstream| upstream.address);
        let rule = RuleOf { to: vec![("a", 1)], mirrors: vec!["shadow"], ..RuleOf::default() };
        let node = node(listener, World::new(&addresses(&service)).service("shadow", &addresses(&shadow)).rule(rule));
        for _ in 0..REQUESTS {
            assert_eq!(node.ask(&get("/", &[])).text(), ["four", "six"][own], "{listener}");
        }
        node.await_copies(MirrorEvent::Sent, REQUESTS as u64);
        assert_eq!(shadow[own].requests().len(), REQUESTS, "{listener}");
        assert_eq!((service[other].connections(), shadow[other].connections()), (0, 0), "{listener}");
    }
}

#[test]
fn a_service_of_the_other_family_is_reached_all_the_same() {
    for (listener, upstream) in [("127.0.0.1:0", "[::1]:0"), ("[::1]:0", "127.0.0.1:0")] {
        let upstream = Upstream::saying_at(upstream, "other");
        let node = node(listener, World::new(&[upstream.address]));
        assert_eq!(node.ask(&get("/", &[])).text(), "other", "{listener}");
    }
}

#[test]
fn what_is_not_http_stays_in_its_family_too() {
    for (listener, expected) in [("127.0.0.1:0", "four"), ("[::1]:0", "six")] {
        let upstreams = [("127.0.0.1:0", "four"), ("[::1]:0", "six")].map(|(at, text)| Upstream::raw_at(at, text));
        let addresses: Vec<SocketAddr> = upstreams.iter().map(|upstream| upstream.address).collect();
        let node = node(listener, World::new(&addresses).protocol(Protocol::Detect));
        for _ in 0..REQUESTS {
            let mut client = node.client();
            client.send(b"\x16\x03\x01 not HTTP");
            client.stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(client.rest().unwrap(), expected.as_bytes(), "{listener}");
        }
    }
}
