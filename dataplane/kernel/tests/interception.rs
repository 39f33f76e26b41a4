//! Stories of packets: real programs, real sockets, namespaces as pods.

mod support;

use std::os::fd::AsFd;

use support::{Greeter, Lab, PATIENCE, REFUSAL, count, ip, run};
use weir_kernel::{Desired, Kernel, Protocol, Reason, ServiceAction, ServiceAddr, Slot};

const VIP4: &str = "10.43.0.10";
const VIP6: &str = "fd43::10";

fn proxied(desired: &mut Desired) {
    for vip in [VIP4, VIP6] {
        let address = ServiceAddr { ip: ip(vip), port: 80, protocol: Protocol::Tcp };
        desired.services.insert(address, ServiceAction::Proxy);
    }
}

/// A loaded node whose VIP is proxied, with listeners in both slots.
fn intercepted(lab: &Lab) -> (Kernel, Greeter, Greeter) {
    let kernel = lab.load(&lab.settings());
    let proxy4 = Greeter::proxy(lab, "127.0.0.1:15001");
    let proxy6 = Greeter::proxy(lab, "[::1]:15001");
    let mut desired = lab.desired();
    proxied(&mut desired);
    let (four, six) = (clone(&proxy4), clone(&proxy6));
    let (kernel, ()) = lab.with(kernel, move |kernel| {
        kernel.set_listener(Slot::Out4, four.as_fd()).unwrap();
        kernel.set_listener(Slot::Out6, six.as_fd()).unwrap();
        kernel.apply(&desired).unwrap();
    });
    (kernel, proxy4, proxy6)
}

fn clone(greeter: &Greeter) -> std::net::TcpListener {
    greeter.listener().try_clone().unwrap()
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
    let _ = REFUSAL;
    let _ = run("true");
}
