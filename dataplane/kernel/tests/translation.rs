//! Beside a translation of destinations, as kube-proxy's: what it does to flows of the proxy when connection tracking
//! sees them, and that it does nothing when it does not.

mod support;

use std::os::fd::AsFd;

use support::{Greeter, Lab, PATIENCE, REFUSAL, ip, run};
use weir_kernel::{Notrack, Protocol, ServiceAction, ServiceAddr, Slot};

/// Virtual addresses of a service of the proxy, and of one that is left to the translation.
const OURS: [&str; 2] = ["10.43.0.10", "fd43::10"];
const OTHERS: [&str; 2] = ["10.43.0.11", "fd43::11"];

/// Translates both services to pod b, in both families.
fn translate(lab: &Lab) {
    let rules: String = OURS
        .iter()
        .chain(&OTHERS)
        .map(|vip| {
            let (family, to) = if vip.contains(':') { ("ip6", "[fd77::12]:80") } else { ("ip", "10.77.0.12:80") };
            format!("add rule inet kube-proxy services {family} daddr {vip} tcp dport 80 dnat {family} to {to}\n")
        })
        .collect();
    run(&format!(
        "nsenter --net=/run/netns/{} nft 'add table inet kube-proxy
           add chain inet kube-proxy services {{ type nat hook prerouting priority dstnat; }}
           {rules}'",
        lab.node()
    ));
}

fn show_bridged_packets_to_netfilter(lab: &Lab, on: bool) {
    let on = u8::from(on);
    run(&format!(
        "modprobe br_netfilter 2>/dev/null; nsenter --net=/run/netns/{} sysctl -qw net.bridge.bridge-nf-call-iptables={on} \
         net.bridge.bridge-nf-call-ip6tables={on}",
        lab.node()
    ));
}

#[test]
fn flows_of_the_proxy_need_to_be_kept_from_connection_tracking() {
    for (notrack, works) in [(Notrack::Off, false), (Notrack::On, true), (Notrack::Auto, true)] {
        let lab = Lab::new();
        translate(&lab);
        let servers = ["10.77.0.12:80", "[fd77::12]:80"].map(|to| Greeter::server(&lab, "b", to));
        let proxies = ["127.0.0.1:15001", "[::1]:15001"].map(|bind| Greeter::proxy(&lab, bind));
        let mut desired = lab.desired();
        for vip in OURS {
            let address = ServiceAddr { ip: ip(vip), port: 80, protocol: Protocol::Tcp };
            desired.services.insert(address, ServiceAction::Proxy);
        }
        let mut settings = lab.settings();
        settings.notrack = notrack;
        let listeners = proxies.each_ref().map(|proxy| proxy.listener().try_clone().unwrap());
        let (_kernel, ()) = lab.with(lab.load(&settings), move |kernel| {
            for (slot, listener) in [Slot::Out4, Slot::Out6].into_iter().zip(&listeners) {
                kernel.set_listener(slot, listener.as_fd()).unwrap();
            }
            kernel.apply(&desired).unwrap();
        });
        for is_shown in [false, true] {
            show_bridged_packets_to_netfilter(&lab, is_shown);
            for (ours, others) in OURS.iter().zip(OTHERS) {
                let case = format!("{notrack:?}, bridge-nf-call {is_shown}, {ours}");
                let socket = |vip: &str| std::net::SocketAddr::new(ip(vip), 80).to_string();
                let answer = lab.ask("a", &socket(ours), if works { PATIENCE } else { REFUSAL });
                let is_ours = answer.as_ref().is_ok_and(|text| text.starts_with(&format!("proxy {} ", socket(ours))));
                assert_eq!(is_ours, works, "{case}: {answer:?}");
                // A service that is not ours stays kube-proxy's, which needs to be shown what stays on the bridge.
                let answer = lab.ask("a", &socket(others), if is_shown { PATIENCE } else { REFUSAL });
                let is_others = answer.as_ref().is_ok_and(|text| text.starts_with("server-b "));
                assert_eq!(is_others, is_shown, "{case}, {others}: {answer:?}");
            }
        }
        drop((servers, proxies));
    }
}
