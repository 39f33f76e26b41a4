//! The address plan and the `ip -batch` scripts that carry it out, as pure functions.
//!
//! ```text
//!  client eth0 10.77.0.2 ── veth1a2b3c4d ┐
//!  v1     eth0 10.77.0.3 ── veth5e6f7a8b ┴ cni0 10.77.0.1   node   eth0 172.31.77.1 ── remote 172.31.77.2
//!  routed eth0 10.77.1.4 ── veth9c0d1e2f (host route)                                  lo: 10.78.0.2
//!                          far eth0 10.78.1.5 ── veth6a7b8c9d ─ cni0 10.78.1.1 on the remote node
//! ```
//! IPv6 mirrors it: `fd77::/64`, `fd77:0:0:1::/64`, `fd7a::/64`, `fd78::/64`, `fd78:0:0:1::/64`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::layout::{Layout, Namespace, Pod};
use crate::spec::{Link, PodSpec, Spec};

const NODE4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
const UPLINK4: Ipv4Addr = Ipv4Addr::new(172, 31, 77, 1);
const UPLINK6: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0, 0, 0, 0, 0, 0, 1);
const REMOTE4: Ipv4Addr = Ipv4Addr::new(172, 31, 77, 2);
const REMOTE6: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0, 0, 0, 0, 0, 0, 2);
const BEHIND4: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const BEHIND6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 2);
/// The remote node's end of its bridge.
const FAR4: Ipv4Addr = Ipv4Addr::new(10, 78, 1, 1);
const FAR6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 1, 0, 0, 0, 1);
/// Next hop of routed pods: an address that every host end of such a link has.
const HOP4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const HOP6: &str = "fe80::1";
/// The first pod's last byte; .1 is the node.
const FIRST_POD: u8 = 2;

/// The directory where iproute2 keeps named namespaces.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// Names and addresses for a spec. `random` makes the veth names, which on a real node tell
/// nothing about the pod. Interface indexes are filled in once the links exist.
pub(crate) fn layout(id: &str, spec: &Spec, cgroup_root: &Path, mut random: impl FnMut() -> u32) -> Layout {
    let six = |address| spec.ipv6.then_some(address);
    let pods_cgroup = cgroup_root.join(format!("weir-{id}"));
    let outside = |name: &str, ip4, ip6, behind| {
        let name = format!("weir-{id}-{name}");
        Namespace {
            path: Path::new(NETNS_DIR).join(&name),
            cgroup: cgroup_root.join(&name),
            name,
            ip4,
            ip6: six(ip6),
            behind,
        }
    };
    let both = |four: Ipv4Addr, ip6: Ipv6Addr| -> Vec<IpAddr> {
        let six = six(ip6).map(IpAddr::from);
        std::iter::once(four.into()).chain(six).collect()
    };
    let node = outside("node", NODE4, NODE6, Vec::new());
    let remote = outside("remote", REMOTE4, REMOTE6, both(BEHIND4, BEHIND6));
    let mut layout = Layout {
        id: id.to_owned(),
        node,
        remote: spec.remote.then_some(remote),
        pods: Vec::new(),
        pods_cgroup,
        uplink: if spec.remote { both(UPLINK4, UPLINK6) } else { Vec::new() },
    };
    for pod in &spec.pods {
        let pod = place_pod(&layout, pod, random());
        layout.pods.push(pod);
    }
    layout
}

/// Gives a pod the first address that no other pod of the layout has.
pub(crate) fn place_pod(layout: &Layout, spec: &PodSpec, random: u32) -> Pod {
    let used = |host: &u8| layout.pods.iter().any(|p| p.ip4().octets()[3] == *host);
    let host = (FIRST_POD..u8::MAX).find(|h| !used(h)).unwrap_or(u8::MAX);
    let (network, network6, subnet) = match (spec.on_remote, spec.link) {
        (false, Link::Bridge) => (77, 0xfd77, 0),
        (false, Link::Routed) => (77, 0xfd77, 1),
        (true, _) => (78, 0xfd78, 1),
    };
    let name = format!("weir-{}-{}", layout.id, spec.name);
    let ip6 = Ipv6Addr::new(network6, 0, 0, subnet.into(), 0, 0, 0, host.into());
    Pod {
        namespace: Namespace {
            path: Path::new(NETNS_DIR).join(&name),
            name,
            cgroup: layout.pods_cgroup.join(&spec.name),
            ip4: Ipv4Addr::new(10, network, subnet, host),
            ip6: layout.node.ip6.map(|_| ip6),
            behind: Vec::new(),
        },
        mac: format!("0a:58:0a:{network:02x}:{subnet:02x}:{host:02x}"),
        host_link: format!("veth{random:08x}"),
        host_ifindex: 0,
        spec: spec.clone(),
    }
}

/// The script that makes these namespaces.
pub(crate) fn add_namespaces<'a>(all: impl IntoIterator<Item = &'a Namespace>) -> String {
    lines(all.into_iter().map(|n| format!("netns add {}", n.name)))
}

/// What runs in the node's namespace: bridge, uplink. The bridge has a fixed MAC because a
/// bridge without one changes it whenever a port with a lower one joins.
pub(crate) fn node_script(layout: &Layout) -> String {
    let mut out = String::from("link set lo up\n");
    out += "link add cni0 address 0a:58:0a:4d:00:01 type bridge\n";
    out += &format!("addr add {NODE4}/24 dev cni0\n");
    if layout.node.ip6.is_some() {
        out += &format!("addr add {NODE6}/64 dev cni0 nodad\n");
    }
    out += "link set cni0 up\n";
    let Some(remote) = &layout.remote else {
        return out;
    };
    out += &format!("link add eth0 type veth peer name eth0 netns {}\n", remote.name);
    out += &format!("addr add {UPLINK4}/24 dev eth0\n");
    if remote.ip6.is_some() {
        out += &format!("addr add {UPLINK6}/64 dev eth0 nodad\n");
    }
    // As on real nodes everything else leaves by the uplink, too: without such a route the
    // node's own connections to virtual addresses fail before netfilter sees them.
    out += "link set eth0 up\n";
    out += &format!("route add default via {REMOTE4}\n");
    if remote.ip6.is_some() {
        out += &format!("route add default via {REMOTE6}\n");
    }
    out
}

/// What runs in the node's namespace for one pod.
pub(crate) fn host_script(pod: &Pod) -> String {
    let (link, ip4) = (&pod.host_link, pod.ip4());
    let mut out =
        format!("link add {link} type veth peer name eth0 address {} netns {}\n", pod.mac, pod.namespace.name);
    match pod.spec.link {
        // K3s's flannel sets hairpin, so that a pod reaches itself through its service.
        Link::Bridge => {
            out += &format!("link set {link} master cni0\n");
            out += &format!("link set {link} type bridge_slave hairpin on\n");
            out += &format!("link set {link} up\n");
        }
        Link::Routed => {
            out += &format!("addr add {HOP4}/32 dev {link}\n");
            if pod.ip6().is_some() {
                out += &format!("addr add {HOP6}/64 dev {link} nodad\n");
            }
            out += &format!("link set {link} up\nroute add {ip4}/32 dev {link}\n");
            if let Some(ip6) = pod.ip6() {
                out += &format!("route add {ip6}/128 dev {link}\n");
            }
        }
    }
    out
}

/// What runs inside a pod.
pub(crate) fn pod_script(pod: &Pod) -> String {
    let (ip4, ip6) = (pod.ip4(), pod.ip6());
    let (hop4, hop6) = if pod.spec.on_remote { (FAR4, FAR6) } else { (NODE4, NODE6) };
    let mut out = String::from("link set lo up\nlink set eth0 up\n");
    match pod.spec.link {
        Link::Bridge => {
            out += &format!("addr add {ip4}/24 dev eth0\nroute add default via {hop4}\n");
            if let Some(ip6) = ip6 {
                out += &format!("addr add {ip6}/64 dev eth0 nodad\n");
                out += &format!("route add default via {hop6}\n");
            }
        }
        Link::Routed => {
            out += &format!("addr add {ip4}/32 dev eth0\nroute add {HOP4}/32 dev eth0 scope link\n");
            out += &format!("route add default via {HOP4} dev eth0\n");
            if let Some(ip6) = ip6 {
                out += &format!("addr add {ip6}/128 dev eth0 nodad\n");
                out += &format!("route add default via {HOP6} dev eth0\n");
            }
        }
    }
    out
}

/// What runs inside the remote node.
pub(crate) fn remote_script(remote: &Namespace) -> String {
    let mut out = String::from("link set lo up\nlink set eth0 up\n");
    out += &format!("addr add {REMOTE4}/24 dev eth0\naddr add {BEHIND4}/32 dev lo\n");
    out += &format!("route add 10.77.0.0/16 via {UPLINK4}\n");
    if remote.ip6.is_some() {
        out += &format!("addr add {REMOTE6}/64 dev eth0 nodad\naddr add {BEHIND6}/128 dev lo nodad\n");
        out += &format!("route add fd77::/48 via {UPLINK6}\n");
    }
    out
}

/// What runs inside the remote node where it has pods: their bridge.
pub(crate) fn far_script(remote: &Namespace) -> String {
    let mut out = String::from("link add cni0 address 0a:58:0a:4e:01:01 type bridge\n");
    out += &format!("addr add {FAR4}/24 dev cni0\n");
    if remote.ip6.is_some() {
        out += &format!("addr add {FAR6}/64 dev cni0 nodad\n");
    }
    out += "link set cni0 up\n";
    out
}

/// One command a line, as `ip -batch` reads them.
pub(crate) fn lines(commands: impl IntoIterator<Item = String>) -> String {
    commands.into_iter().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "{line}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Layout {
        let mut spec = Spec::with_pods(["a", "b"]);
        spec.pods.push(PodSpec::new("r").routed());
        let mut next = 0;
        layout("t1", &spec, Path::new("/cg"), || {
            next += 1;
            next
        })
    }

    #[test]
    fn addresses_are_distinct_and_freed_ones_return() {
        let mut layout = sample();
        let ips: Vec<String> = layout.pods.iter().map(|p| p.ip4().to_string()).collect();
        assert_eq!(ips, ["10.77.0.2", "10.77.0.3", "10.77.1.4"]);
        assert_eq!(layout.pods[2].ip6().unwrap().to_string(), "fd77:0:0:1::4");
        assert_eq!(layout.pods[0].host_link, "veth00000001");
        assert_eq!(layout.pods[1].namespace.cgroup, Path::new("/cg/weir-t1/b"));
        assert_eq!(layout.node.cgroup, Path::new("/cg/weir-t1-node"));
        layout.pods.remove(0);
        let pod = place_pod(&layout, &PodSpec::new("c"), 9);
        assert_eq!(pod.ip4().to_string(), "10.77.0.2");
        assert_eq!(pod.mac, "0a:58:0a:4d:00:02");
    }
}
