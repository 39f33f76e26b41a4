//! Stories of packets: real programs, real sockets, namespaces as pods.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::fd::AsFd;

use support::{Greeter, Lab, PATIENCE, REFUSAL, asked, count, eventually, ip, run, says};
use weir_kernel::{Desired, FailMode, Kernel, Policy, Protocol, Reason, ServiceAction, ServiceAddr, Slot, Verdict};

fn service(ip_text: &str, port: u16, protocol: Protocol) -> ServiceAddr {
    ServiceAddr { ip: ip(ip_text), port, protocol }
}

/// The pods, and two virtual addresses that the proxy has.
fn proxied(lab: &Lab) -> Desired {
    let mut desired = lab.desired();
    for vip in ["10.43.0.10", "fd43::10"] {
        desired.services.insert(service(vip, 80, Protocol::Tcp), ServiceAction::Proxy);
    }
    desired
}

fn clone(greeter: &Greeter) -> std::net::TcpListener {
    greeter.listener().try_clone().unwrap()
}

fn apply(lab: &Lab, kernel: Kernel, desired: &Desired) -> Kernel {
    let desired = desired.clone();
    lab.with(kernel, move |kernel| {
        kernel.apply(&desired).unwrap();
    })
    .0
}

/// Puts listeners into both slots.
fn listen(lab: &Lab, kernel: Kernel) -> (Kernel, Greeter, Greeter) {
    let proxy4 = Greeter::proxy(lab, "127.0.0.1:15001");
    let proxy6 = Greeter::proxy(lab, "[::1]:15001");
    let (four, six) = (clone(&proxy4), clone(&proxy6));
    let (kernel, ()) = lab.with(kernel, move |kernel| {
        kernel.set_listener(Slot::Out4, four.as_fd()).unwrap();
        kernel.set_listener(Slot::Out6, six.as_fd()).unwrap();
    });
    (kernel, proxy4, proxy6)
}

/// A loaded node whose virtual addresses are proxied, with listeners in both slots.
fn intercepted(lab: &Lab) -> (Kernel, Greeter, Greeter) {
    let kernel = apply(lab, lab.load(&lab.settings()), &proxied(lab));
    listen(lab, kernel)
}

#[test]
fn a_virtual_address_reaches_the_proxy_and_keeps_its_name() {
    let lab = Lab::new();
    let (kernel, _four, _six) = intercepted(&lab);
    let answer = lab.ask("a", "10.43.0.10:80", PATIENCE).unwrap();
    assert!(answer.starts_with("proxy 10.43.0.10:80 10.77.0.11:"), "{answer}");
    let answer = lab.ask("b", "[fd43::10]:80", PATIENCE).unwrap();
    assert!(answer.starts_with("proxy [fd43::10]:80 [fd77::12]:"), "{answer}");
    assert_eq!(count(&kernel, Reason::Steered), 2);
    assert_eq!(count(&kernel, Reason::Picked), 2);
}

#[test]
fn pods_talk_directly_when_no_rule_concerns_them() {
    let lab = Lab::new();
    let (kernel, _four, _six) = intercepted(&lab);
    let _four = Greeter::server(&lab, "b", "10.77.0.12:80");
    let _six = Greeter::server(&lab, "b", "[fd77::12]:80");
    for (to, expected) in [
        ("10.77.0.12:80", "server-b 10.77.0.12:80 10.77.0.11:"),
        ("[fd77::12]:80", "server-b [fd77::12]:80 [fd77::11]:"),
    ] {
        let answer = lab.ask("a", to, PATIENCE).unwrap();
        assert!(answer.starts_with(expected), "{answer}");
    }
    assert_eq!(count(&kernel, Reason::Steered), 0);
    assert_eq!(count(&kernel, Reason::PassedDirect), 2);
    assert!(count(&kernel, Reason::PassedEstablished) > 0);
}

#[test]
fn policy_steers_a_pods_own_address_past_the_bridge() {
    let lab = Lab::new();
    let (kernel, _four, _six) = intercepted(&lab);
    let _server = Greeter::server(&lab, "b", "10.77.0.12:80");
    let mut desired = proxied(&lab);
    lab.guard(&mut desired, 12, Verdict::Direct);
    let to_b = Policy { source: None, guard: 12, port: Some((Protocol::Tcp, 80)) };
    desired.policies.insert(to_b, says(Verdict::Proxy));
    let kernel = apply(&lab, kernel, &desired);
    for (nf_call, rp_filter, valid_mark) in [(0, 0, 0), (1, 0, 0), (1, 1, 1), (1, 2, 1)] {
        run(&format!(
            "nsenter --net=/run/netns/{} sh -c 'modprobe br_netfilter 2>/dev/null
               for f in bridge-nf-call-iptables bridge-nf-call-ip6tables; do
                 echo {nf_call} > /proc/sys/net/bridge/$f || exit 1; done
               for i in all cni0; do echo {rp_filter} > /proc/sys/net/ipv4/conf/$i/rp_filter
                 echo {valid_mark} > /proc/sys/net/ipv4/conf/$i/src_valid_mark; done'",
            lab.node()
        ));
        let answer = lab.ask("a", "10.77.0.12:80", PATIENCE).unwrap();
        assert!(answer.starts_with("proxy 10.77.0.12:80 10.77.0.11:"), "{answer}");
    }
    assert_eq!(count(&kernel, Reason::Steered), 4);
}

#[test]
fn a_forged_source_is_dropped_and_reported() {
    let lab = Lab::new();
    let (kernel, _four, _six) = intercepted(&lab);
    let a = lab.pod("a");
    run(&format!("ip -n {a} addr add 10.77.0.99/32 dev eth0 && ip -n {a} addr add fd77::99/128 dev eth0 nodad"));
    let (kernel, records) = lab.with(kernel, move |kernel| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut events = kernel.take_events().unwrap().expect("the first call gives the stream");
            let mut records = Vec::new();
            for (source, to) in [("10.77.0.99", "10.77.0.12"), ("fd77::99", "fd77::12")] {
                let (from, to) = (ip(source), ip(to));
                let sender = support::inside(&a, move || {
                    let socket = std::net::UdpSocket::bind((from, 0)).unwrap();
                    socket.send_to(b"forged", (to, 9)).unwrap()
                });
                sender.join().unwrap();
                let next = tokio::time::timeout(PATIENCE, async {
                    // Of an IPv4 packet the question for its neighbour is forged, and dropped, first.
                    loop {
                        let record = events.next().await.unwrap();
                        if record.source.ip() == ip(source) {
                            return record;
                        }
                    }
                });
                records.push(next.await.expect("an event"));
            }
            records
        })
    });
    for record in records {
        assert_eq!(record.reason, Reason::DroppedSpoofed);
        assert_eq!(record.ifindex, lab.ifindex("va"));
    }
    assert!(count(&kernel, Reason::DroppedSpoofed) >= 2);
}

#[test]
fn denied_flows_are_dropped_at_the_source_and_at_the_destination() {
    let lab = Lab::new();
    let (kernel, _four, _six) = intercepted(&lab);
    let _b = Greeter::server(&lab, "b", "10.77.0.12:80");
    let _c = Greeter::server(&lab, "c", "10.77.0.13:80");
    let mut desired = proxied(&lab);
    lab.guard(&mut desired, 12, Verdict::Direct);
    desired.policies.insert(asked(11, 12, None), says(Verdict::Deny));
    let kernel = apply(&lab, kernel, &desired);
    assert!(lab.ask("a", "10.77.0.12:80", REFUSAL).is_err(), "denied");
    assert!(lab.ask("a", "10.77.0.13:80", PATIENCE).is_ok(), "another destination");
    assert!(lab.ask("c", "10.77.0.12:80", PATIENCE).is_ok(), "another source");
    let at_source = count(&kernel, Reason::DeniedPolicy);
    assert!(at_source >= 1);

    // Without its program on the source's link, the guard at the destination is what denies.
    desired.pods.remove(&weir_kernel::IfIndex(lab.ifindex("va")));
    let kernel = apply(&lab, kernel, &desired);
    assert!(lab.ask("a", "10.77.0.12:80", REFUSAL).is_err(), "denied by the guard");
    assert!(count(&kernel, Reason::DeniedPolicy) > at_source);

    // By default denied, and a policy that allows.
    let mut desired = proxied(&lab);
    lab.guard(&mut desired, 12, Verdict::Deny);
    lab.guard(&mut desired, 13, Verdict::Deny);
    desired.policies.insert(asked(11, 12, None), says(Verdict::Direct));
    let kernel = apply(&lab, kernel, &desired);
    assert!(lab.ask("a", "10.77.0.12:80", PATIENCE).is_ok(), "allowed by name");
    assert!(lab.ask("a", "10.77.0.13:80", REFUSAL).is_err(), "denied by default");
    drop(kernel);
}

#[test]
fn without_a_proxy_the_fail_mode_decides() {
    for (mode, passes) in [(FailMode::Closed, false), (FailMode::Open, true)] {
        let lab = Lab::new();
        let mut settings = lab.settings();
        settings.fail_mode = mode;
        let mut desired = proxied(&lab);
        desired.services.insert(service("10.77.0.12", 80, Protocol::Tcp), ServiceAction::Proxy);
        let kernel = apply(&lab, lab.load(&settings), &desired);
        let _server = Greeter::server(&lab, "b", "10.77.0.12:80");
        let answer = lab.ask("a", "10.77.0.12:80", if passes { PATIENCE } else { REFUSAL });
        assert_eq!(answer.is_ok(), passes, "{mode:?}: {answer:?}");
        let reason = if passes { Reason::PassedNoProxy } else { Reason::DroppedNoProxy };
        assert!(count(&kernel, reason) > 0, "{mode:?}");
        // The proxy comes: new flows are its own, with no other order.
        let (kernel, four, _six) = listen(&lab, kernel);
        let answer = lab.ask("a", "10.77.0.12:80", PATIENCE).unwrap();
        assert!(answer.starts_with("proxy 10.77.0.12:80"), "{mode:?}: {answer}");
        // It goes: the slot empties by itself.
        four.close();
        let before = count(&kernel, reason);
        eventually("the slot's emptying", || {
            let _ = lab.ask("a", "10.77.0.12:80", std::time::Duration::from_millis(200));
            count(&kernel, reason) > before
        });
    }
}

#[test]
fn plain_services_are_balanced_at_connect_time() {
    let lab = Lab::new();
    let cgroup = support::Cgroup::new(&lab);
    let mut settings = lab.settings();
    settings.cgroup = Some(cgroup.path().to_owned());
    let _b4 = Greeter::server(&lab, "b", "10.77.0.12:8080");
    let _c4 = Greeter::server(&lab, "c", "10.77.0.13:8080");
    let _b6 = Greeter::server(&lab, "b", "[fd77::12]:8080");
    let mut desired = proxied(&lab);
    let balance = |backends: &[(&str, u32)]| {
        ServiceAction::Balance(backends.iter().map(|(a, w)| (a.parse().unwrap(), *w)).collect())
    };
    let weighted = balance(&[("10.77.0.12:8080", 90), ("10.77.0.13:8080", 10)]);
    desired.services.insert(service("10.43.0.20", 80, Protocol::Tcp), weighted);
    desired.services.insert(service("fd43::20", 80, Protocol::Tcp), balance(&[("[fd77::12]:8080", 1)]));
    desired.services.insert(service("10.43.0.21", 80, Protocol::Tcp), balance(&[]));
    desired.services.insert(service("10.43.0.22", 53, Protocol::Udp), balance(&[("10.77.0.12:5353", 1)]));
    let kernel = apply(&lab, lab.load(&settings), &desired);
    let (kernel, _four, _six) = listen(&lab, kernel);

    let script = "for i in $(seq 400); do exec 3<>/dev/tcp/10.43.0.20/80; cat <&3; echo; done";
    let answers = cgroup.bash(&lab.pod("a"), script).expect("connects");
    let to_b = answers.lines().filter(|line| line.starts_with("server-b 10.77.0.12:8080")).count();
    let to_c = answers.lines().filter(|line| line.starts_with("server-c 10.77.0.13:8080")).count();
    assert_eq!(to_b + to_c, 400);
    // Mean 40, standard deviation 6: beyond five of them once in a million runs.
    assert!((10..=70).contains(&to_c), "{to_c} of 400 at weight 10 of 100");

    let answer = cgroup.bash(&lab.pod("a"), "exec 3<>/dev/tcp/fd43::20/80; cat <&3").expect("connects");
    assert!(answer.starts_with("server-b [fd77::12]:8080"), "{answer}");
    let answer = cgroup.bash(&lab.pod("a"), "exec 3<>/dev/tcp/10.43.0.10/80; cat <&3").expect("connects");
    assert!(answer.starts_with("proxy 10.43.0.10:80"), "services with rules keep their address: {answer}");
    let refused = cgroup.bash(&lab.pod("a"), "exec 3<>/dev/tcp/10.43.0.21/80").unwrap_err();
    assert!(refused.contains("Connection refused"), "{refused}");
    assert_eq!(count(&kernel, Reason::RefusedNoBackend), 1);

    let receiver = support::inside(&lab.pod("b"), || {
        let socket = std::net::UdpSocket::bind("10.77.0.12:5353").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    });
    let receiver = receiver.join().unwrap();
    cgroup.bash(&lab.pod("a"), "echo hello > /dev/udp/10.43.0.22/53").expect("sends");
    let mut buffer = [0; 16];
    let length = receiver.recv(&mut buffer).expect("the datagram arrives");
    assert_eq!(&buffer[..length], b"hello\n");
}
