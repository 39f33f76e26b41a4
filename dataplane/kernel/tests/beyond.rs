//! Traffic beyond the node, and neighbours in the kernel: uplinks, address translation, other
//! versions of ourselves.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
};

use socket2::{Domain, Socket, Type};
use support::{Greeter, Lab, PATIENCE, REFUSAL, count, inside, ip, run};
use weir_kernel::{ABI_VERSION, Desired, Kernel, MARK_PROXY, Protocol, Reason, ServiceAction, ServiceAddr, Slot};

fn proxied(lab: &Lab, address: &str) -> Desired {
    let mut desired = lab.desired();
    let address = ServiceAddr { ip: ip(address), port: 80, protocol: Protocol::Tcp };
    desired.services.insert(address, ServiceAction::Proxy);
    desired
}

fn start(lab: &Lab, kernel: Kernel, desired: Desired, proxy: &Greeter) -> Kernel {
    let listener = proxy.listener().try_clone().unwrap();
    lab.with(kernel, move |kernel| {
        kernel.set_listener(Slot::Out4, listener.as_fd()).unwrap();
        kernel.apply(&desired).unwrap();
    })
    .0
}

/// Another machine behind the link `up0`.
fn add_remote(lab: &Lab) {
    let (node, remote) = (lab.node(), lab.pod("remote"));
    run(&format!(
        "ip netns add {remote} && ip -n {node} link add up0 type veth peer name eth0 netns {remote} &&
         ip -n {node} link set up0 up && ip -n {node} addr add 192.168.77.1/24 dev up0 &&
         ip -n {remote} link set lo up && ip -n {remote} link set eth0 up &&
         ip -n {remote} addr add 192.168.77.2/24 dev eth0 &&
         ip -n {remote} route add default via 192.168.77.1"
    ));
}

/// Connects from the node in a pod's name, as a proxy does that keeps its clients' addresses.
fn connect_as(lab: &Lab, from: &str, to: &str) -> std::io::Result<String> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    lab.on_node(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_ip_transparent_v4(true)?;
        socket.set_mark(MARK_PROXY)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), REFUSAL)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

#[test]
fn uplinks_bring_flows_and_replies_to_the_proxy() {
    let lab = Lab::new();
    add_remote(&lab);
    let mut settings = lab.settings();
    settings.uplinks = vec!["up0".to_owned()];
    let proxy = Greeter::proxy(&lab, "127.0.0.1:15001");
    let _pod = Greeter::server(&lab, "b", "10.77.0.12:81");
    let _far = Greeter::server(&lab, "remote", "192.168.77.2:80");
    let kernel = lab.load(&settings);
    let kernel = start(&lab, kernel, proxied(&lab, "10.77.0.12"), &proxy);

    let answer = lab.ask("remote", "10.77.0.12:80", PATIENCE).unwrap();
    assert!(answer.starts_with("proxy 10.77.0.12:80 192.168.77.2:"), "{answer}");
    let answer = lab.ask("remote", "10.77.0.12:81", PATIENCE).unwrap();
    assert!(answer.starts_with("server-b 10.77.0.12:81 192.168.77.2:"), "{answer}");

    // In a pod's name to another machine and to another pod: both see the pod, and their replies
    // come back to the proxy although the pod has that address.
    let answer = connect_as(&lab, "10.77.0.11:0", "192.168.77.2:80").unwrap();
    assert!(answer.starts_with("server-remote 192.168.77.2:80 10.77.0.11:"), "{answer}");
    let answer = connect_as(&lab, "10.77.0.11:0", "10.77.0.12:81").unwrap();
    assert!(answer.starts_with("server-b 10.77.0.12:81 10.77.0.11:"), "{answer}");

    // The same addresses and ports, first direct and then the proxy's: what is remembered of the
    // first must not lead the second's replies astray.
    let (pod, to) = (lab.pod("a"), "10.77.0.12:81".parse::<SocketAddr>().unwrap());
    let direct = inside(&pod, move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        socket.bind(&"10.77.0.11:40100".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE).unwrap();
        let mut text = String::new();
        TcpStream::from(socket).read_to_string(&mut text).unwrap();
        text
    });
    assert!(direct.join().unwrap().ends_with("10.77.0.11:40100"));
    let answer = connect_as(&lab, "10.77.0.11:40100", "10.77.0.12:81").unwrap();
    assert!(answer.ends_with("10.77.0.11:40100"), "{answer}");
    assert!(count(&kernel, Reason::SteeredEstablished) > 0);
}

#[test]
fn a_mark_forged_by_a_pod_does_not_pass_the_guard() {
    let lab = Lab::new();
    let _server = Greeter::server(&lab, "b", "10.77.0.12:80");
    let mut desired = lab.desired();
    lab.guard(&mut desired, 12, weir_kernel::Verdict::Deny);
    // The sender is not enrolled, so only the guard at the destination stands in its way.
    desired.pods.remove(&weir_kernel::IfIndex(lab.ifindex("va")));
    let (kernel, ()) = lab.with(lab.load(&lab.settings()), move |kernel| {
        kernel.apply(&desired).unwrap();
    });
    let forged = inside(&lab.pod("a"), || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_mark(MARK_PROXY).unwrap();
        socket.connect_timeout(&"10.77.0.12:80".parse::<SocketAddr>().unwrap().into(), REFUSAL)
    });
    assert!(forged.join().unwrap().is_err());
    assert!(count(&kernel, Reason::DeniedPolicy) > 0);
    // The node's own sockets, for example of the kubelet, pass.
    let answer = lab.on_node(|| support::ask("10.77.0.12:80".parse().unwrap(), PATIENCE)).unwrap();
    assert!(answer.starts_with("server-b"), "{answer}");
    assert!(count(&kernel, Reason::PassedLocalSocket) > 0);
}

#[test]
fn translation_of_the_same_address_does_not_get_in_the_way() {
    let lab = Lab::new();
    let node = lab.node();
    let proxy = Greeter::proxy(&lab, "127.0.0.1:15001");
    let _server = Greeter::server(&lab, "b", "10.77.0.12:80");
    run(&format!(
        "nsenter --net=/run/netns/{node} nft 'add table ip kube-proxy
           add chain ip kube-proxy services {{ type nat hook prerouting priority dstnat; }}
           add rule ip kube-proxy services ip daddr 10.43.0.10 tcp dport 80 dnat to 10.77.0.12:80
           add rule ip kube-proxy services ip daddr 10.43.0.11 tcp dport 80 dnat to 10.77.0.12:80'"
    ));
    let kernel = start(&lab, lab.load(&lab.settings()), proxied(&lab, "10.43.0.10"), &proxy);
    let tables = run(&format!("nsenter --net=/run/netns/{node} nft list tables"));
    assert!(tables.contains("table inet weir"), "found the translation by itself: {tables}");
    run(&format!("nsenter --net=/run/netns/{node} nft delete table inet weir"));
    let (kernel, restored) = lab.with(kernel, |kernel| (kernel.refresh().unwrap(), kernel.refresh().unwrap()));
    assert_eq!(restored, (1, 0), "what somebody removed is made again, once");
    let answer = lab.ask("a", "10.43.0.10:80", PATIENCE).unwrap();
    assert!(answer.starts_with("proxy 10.43.0.10:80 10.77.0.11:"), "{answer}");
    // A service that is not ours stays kube-proxy's.
    let answer = lab.ask("a", "10.43.0.11:80", PATIENCE).unwrap();
    assert!(answer.starts_with("server-b 10.77.0.12:80"), "{answer}");
    lab.on_node(move || kernel.detach().unwrap());
    let tables = run(&format!("nsenter --net=/run/netns/{node} nft list tables"));
    assert!(!tables.contains("weir") && tables.contains("kube-proxy"), "{tables}");
}

#[test]
fn what_another_version_left_is_removed() {
    let lab = Lab::new();
    let node = format!("/sys/fs/bpf/weir/{}", lab.settings().node);
    let kernel = lab.load(&lab.settings());
    // The same pins under another version's name are what an older release would have left.
    drop(kernel);
    std::fs::rename(format!("{node}/v{ABI_VERSION}"), format!("{node}/v0")).unwrap();
    let kernel = lab.load(&lab.settings());
    let versions = || {
        let mut names: Vec<_> = std::fs::read_dir(&node).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let own = format!("v{ABI_VERSION}");
    assert_eq!(versions(), ["v0", &own], "the other does the work until this one can");
    kernel.remove_other_versions().unwrap();
    assert_eq!(versions(), [&*own]);
    drop(kernel);
}
