//! Every denied flow leaves a record with both its ends, whichever program denies it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::{Domain, Socket, Type};
use support::{Lab, PATIENCE, REFUSAL, asked, count, inside, ip, says};
use weir_kernel::{Desired, DropRecord, FailMode, IfIndex, Kernel, Protocol, Reason, Verdict};

const PORT: u16 = 40_200;
const A: [&str; 2] = ["10.77.0.11", "fd77::11"];
const C: [&str; 2] = ["10.77.0.13", "fd77::13"];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Begins a flow from a certain port of pod `a`, which must not come about.
fn begin(lab: &Lab, protocol: u8, from: SocketAddr, to: SocketAddr) {
    let work = inside(&lab.pod("a"), move || {
        if protocol == UDP {
            UdpSocket::bind(from).unwrap().send_to(b"denied", to).unwrap();
            return;
        }
        let socket = Socket::new(Domain::for_address(from), Type::STREAM, None).unwrap();
        socket.bind(&from.into()).unwrap();
        let error = socket.connect_timeout(&to.into(), REFUSAL).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "dropped, not refused: {to}");
    });
    work.join().unwrap();
}

/// Begins the flows and returns the first record of each.
fn denied(lab: &Lab, kernel: Kernel, flows: &[(u8, SocketAddr, SocketAddr)]) -> (Kernel, Vec<DropRecord>) {
    flows.iter().for_each(|(protocol, from, to)| begin(lab, *protocol, *from, *to));
    let flows = flows.to_vec();
    lab.with(kernel, move |kernel| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut events = kernel.take_events().unwrap().expect("the first call gives the stream");
            let mut found = Vec::new();
            for (protocol, from, to) in flows {
                let next = async {
                    loop {
                        let record = events.next().await.unwrap();
                        if (record.protocol, record.source, record.destination) == (protocol, from, to) {
                            return record;
                        }
                    }
                };
                let record = tokio::time::timeout(PATIENCE, next).await;
                found.push(record.unwrap_or_else(|_| panic!("no record of {protocol} {from} to {to}")));
            }
            found
        })
    })
}

/// Nothing is allowed to pod c that no policy names.
fn deny_by_default(lab: &Lab) -> Desired {
    let mut desired = lab.desired();
    lab.guard(&mut desired, 13, Verdict::Deny);
    desired
}

#[test]
fn a_denied_flow_is_recorded_with_both_ends() {
    let flows: Vec<_> = A
        .iter()
        .zip(C)
        .flat_map(|(from, to)| {
            [TCP, UDP].map(|protocol| (protocol, SocketAddr::new(ip(from), PORT), SocketAddr::new(ip(to), 80)))
        })
        .collect();
    for is_at_source in [true, false] {
        let lab = Lab::new();
        let mut desired = deny_by_default(&lab);
        let mut link = "va";
        if !is_at_source {
            // The sender is not enrolled: only its addresses say who it is, and the guard of pod c's link denies.
            link = "vc";
            desired.pods.remove(&IfIndex(lab.ifindex("va")));
        }
        let (kernel, ()) = lab.with(lab.load(&lab.settings()), {
            let desired = desired.clone();
            move |kernel| {
                kernel.apply(&desired).unwrap();
            }
        });
        let (kernel, records) = denied(&lab, kernel, &flows);
        for (record, flow) in records.iter().zip(&flows) {
            assert_eq!(record.reason, Reason::DeniedPolicy, "{flow:?}");
            assert_eq!(record.rule, 13, "{flow:?}");
            assert_eq!(record.ifindex, lab.ifindex(link), "{flow:?}");
        }
        assert!(count(&kernel, Reason::DeniedPolicy) >= flows.len() as u64);
        let by_rule = kernel.rule_counters().unwrap();
        assert_eq!(by_rule.keys().collect::<Vec<_>>(), [&13]);
        assert_eq!(by_rule[&13].packets, count(&kernel, Reason::DeniedPolicy));

        // The control: named, the same flows are allowed, and nothing is denied.
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            desired.policies.insert(asked(11, 13, Some((protocol, 80))), says(Verdict::Direct));
        }
        let servers = C.map(|to| support::Greeter::server(&lab, "c", &SocketAddr::new(ip(to), 80).to_string()));
        let (kernel, ()) = lab.with(kernel, move |kernel| {
            kernel.apply(&desired).unwrap();
        });
        let before = count(&kernel, Reason::DeniedPolicy);
        for to in C.map(ip) {
            assert!(lab.ask("a", &SocketAddr::new(to, 80).to_string(), PATIENCE).is_ok(), "{to}");
            assert!(arrives(&lab, to), "{to}");
        }
        assert_eq!(count(&kernel, Reason::DeniedPolicy), before);
        drop(servers);
    }
}

/// Whether a datagram from pod `a` reaches pod `c`.
fn arrives(lab: &Lab, to: IpAddr) -> bool {
    let to = SocketAddr::new(to, 80);
    let receiver = inside(&lab.pod("c"), move || UdpSocket::bind(to).unwrap()).join().unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    inside(&lab.pod("a"), move || UdpSocket::bind(any).unwrap().send_to(b"allowed", to).unwrap()).join().unwrap();
    receiver.recv(&mut [0; 16]).is_ok()
}

/// Sends a bare TCP segment with these flags from pod `a` to port 80 of pod `c`, as a pod that may use raw sockets can.
fn send_segment(lab: &Lab, flags: u8) {
    let segment = [0x1f, 0x90, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x10, 0, 0, 0, 0, 0];
    let to = SocketAddr::new(ip(C[0]), 0);
    let send = move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(socket2::Protocol::TCP)).unwrap();
        socket.send_to(&segment, &to.into()).unwrap();
    };
    inside(&lab.pod("a"), send).join().unwrap();
}

#[test]
fn an_answer_to_nothing_and_what_follows_it_are_denied() {
    const SYN_ACK: u8 = 0x12;
    const ACK: u8 = 0x10;
    for (verdict, denied) in [(Verdict::Deny, true), (Verdict::Direct, false)] {
        let lab = Lab::new();
        let mut desired = lab.desired();
        // To be an answer, it would have to answer what pod c was allowed to ask.
        lab.guard(&mut desired, 11, verdict);
        lab.guard(&mut desired, 13, verdict);
        let (kernel, ()) = lab.with(lab.load(&lab.settings()), move |kernel| {
            kernel.apply(&desired).unwrap();
        });
        for (flags, count_after) in [(SYN_ACK, 1), (ACK, 2)] {
            send_segment(&lab, flags);
            let expected = if denied { count_after } else { 0 };
            assert_eq!(count(&kernel, Reason::DeniedPolicy), expected, "{verdict:?} {flags:#x}");
        }
    }
}

#[test]
fn what_should_have_come_by_the_proxy_does_not_come_without() {
    for (mode, passes) in [(FailMode::Closed, false), (FailMode::Open, true)] {
        let lab = Lab::new();
        let mut settings = lab.settings();
        settings.fail_mode = mode;
        let mut desired = lab.desired();
        lab.guard(&mut desired, 13, Verdict::Proxy);
        // The sender is not enrolled, so that nothing leads it to the proxy.
        desired.pods.remove(&IfIndex(lab.ifindex("va")));
        let to = SocketAddr::new(ip(C[0]), 80).to_string();
        let _server = support::Greeter::server(&lab, "c", &to);
        let (kernel, ()) = lab.with(lab.load(&settings), move |kernel| {
            kernel.apply(&desired).unwrap();
        });
        let answer = lab.ask("a", &to, if passes { PATIENCE } else { REFUSAL });
        assert_eq!(answer.is_ok(), passes, "{mode:?}: {answer:?}");
        let reason = if passes { Reason::PassedNoProxy } else { Reason::DroppedNoProxy };
        assert!(count(&kernel, reason) > 0, "{mode:?}");
    }
}
