//! What a pod says on its link (ICMPv6, RFC 4861): it may look for others, and tell where it is itself; it may not
//! pretend to be the node, another pod or a router.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};
use support::{Lab, count, eventually, inside, run};
use weir_kernel::{Desired, Kernel, Reason};

const NODE: &str = "fd77::1";
const A: &str = "fd77::11";
const B: &str = "fd77::12";
const FORGED_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x66];

/// Sends an ICMPv6 message from pod `a` to pod `b`, with the hop limit that shows that it was not routed.
fn say(lab: &Lab, source: &'static str, message: Vec<u8>) {
    let work = inside(&lab.pod("a"), move || {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
        socket.set_unicast_hops_v6(255).unwrap();
        let scope = run("cat /sys/class/net/eth0/ifindex").trim().parse().unwrap();
        let source: Ipv6Addr = source.parse().unwrap();
        let source = SocketAddrV6::new(source, 0, 0, if source.is_unicast_link_local() { scope } else { 0 });
        socket.bind(&source.into()).unwrap();
        socket.send_to(&message, &SocketAddrV6::new(B.parse().unwrap(), 0, 0, 0).into()).unwrap();
    });
    work.join().unwrap();
}

/// An unsolicited advertisement that overrides what is known (RFC 4861, 4.4).
fn advertisement(claimed: &str) -> Vec<u8> {
    let claimed: Ipv6Addr = claimed.parse().unwrap();
    [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &claimed.octets(), &[2, 1], &FORGED_MAC].concat()
}

/// A router advertisement without options (RFC 4861, 4.2).
fn router() -> Vec<u8> {
    [&[134, 0, 0, 0, 64, 0, 7, 8][..], &[0; 8]].concat()
}

fn neighbours_of_b(lab: &Lab) -> String {
    run(&format!("ip -6 -n {} neigh show dev eth0", lab.pod("b")))
}

fn ping(lab: &Lab, from: &str, to: &str) -> bool {
    let namespace = lab.pod(from);
    let command = format!("ip netns exec {namespace} bash -c 'exec 3<>/dev/tcp/{to}/9 || true' 2>&1; true");
    // Refused is an answer: it takes neighbour discovery in both directions.
    run(&command).contains("refused")
}

fn start(lab: &Lab) -> Kernel {
    let desired: Desired = lab.desired();
    let kernel = lab.load(&lab.settings());
    lab.with(kernel, move |kernel| {
        kernel.apply(&desired).unwrap();
    })
    .0
}

#[test]
fn a_neighbour_that_is_asked_again_stays_reachable() {
    let lab = Lab::new();
    let kernel = start(&lab);
    assert!(ping(&lab, "a", NODE) && ping(&lab, "b", A), "the topology works");
    let spoofed = count(&kernel, Reason::DroppedSpoofed);
    // Probing asks the neighbour itself, from whichever address the kernel likes, usually the link-local one.
    for (pod, neighbour) in [("a", NODE), ("b", A)] {
        let namespace = lab.pod(pod);
        let known = run(&format!("ip -6 -n {namespace} neigh show {neighbour} dev eth0"));
        let mac = known.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap().to_owned();
        run(&format!("ip -6 -n {namespace} neigh replace {neighbour} lladdr {mac} nud probe dev eth0"));
        eventually("the neighbour answers", || {
            run(&format!("ip -6 -n {namespace} neigh show {neighbour} dev eth0")).contains("REACHABLE")
        });
    }
    assert_eq!(count(&kernel, Reason::DroppedSpoofed), spoofed);
}

#[test]
fn a_pod_cannot_pretend_to_be_another_the_node_or_a_router() {
    let lab = Lab::new();
    let kernel = start(&lab);
    assert!(ping(&lab, "b", NODE) && ping(&lab, "b", A), "the topology works");
    let node_on_link = run(&format!("ip -6 -n {} -o addr show dev cni0 scope link", lab.node()));
    let node_on_link = node_on_link.split_whitespace().find(|word| word.starts_with("fe80")).unwrap();
    let node_on_link = node_on_link.split('/').next().unwrap();
    assert!(node_on_link.parse::<IpAddr>().is_ok());

    let forged = FORGED_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let refused = [advertisement(NODE), advertisement(node_on_link), advertisement("fd77::13"), router()];
    for message in refused {
        let before = count(&kernel, Reason::DroppedSpoofed);
        say(&lab, A, message.clone());
        eventually("it is dropped", || count(&kernel, Reason::DroppedSpoofed) == before + 1);
    }
    assert!(!neighbours_of_b(&lab).contains(&forged), "{}", neighbours_of_b(&lab));

    // The control: of itself it may say so, and is believed.
    let before = count(&kernel, Reason::DroppedSpoofed);
    say(&lab, A, advertisement(A));
    eventually("b believes it", || neighbours_of_b(&lab).contains(&forged));
    assert_eq!(count(&kernel, Reason::DroppedSpoofed), before);
}
