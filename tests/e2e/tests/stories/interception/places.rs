//! Beyond the bridge: another node, the node itself; and what is not TCP.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use serde_json::json;
use weir_e2e::{RECOGNITION, Story, Terrain, server_program};
use weir_lab::server::Mode;
use weir_lab::{PodSpec, Server, ServerSpec};

use super::terrain;

/// Virtual addresses of a service whose only endpoint is on another node.
pub(super) const FAR: [&str; 2] = ["10.96.0.30", "fd96::30"];
/// Virtual addresses of a service that speaks UDP.
pub(super) const NAMES: [&str; 2] = ["10.96.0.40", "fd96::40"];

/// With another node behind `eth0`.
pub(super) fn two_nodes() -> Terrain {
    let mut terrain = terrain().settings(json!({ "interception": { "uplinks": ["eth0"] } }));
    terrain.spec.remote = true;
    terrain
}

/// A service of both families in front of these addresses.
pub(super) fn service(name: &str, vips: [&str; 2], port: (u16, u16, &str), endpoints: &[IpAddr]) -> String {
    let (port, target, protocol) = port;
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  clusterIP: {}\n  clusterIPs: [{}, \"{}\"]\n  \
         ports: [{{name: main, port: {port}, targetPort: {target}, protocol: {protocol}}}]\n",
        vips[0], vips[0], vips[1],
    );
    for ip in endpoints {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{}\n  labels: \
             {{kubernetes.io/service-name: {name}}}\naddressType: {family}\nendpoints: [{{addresses: [\"{ip}\"], \
             conditions: {{ready: true}}}}]\nports: [{{name: main, port: {target}, protocol: {protocol}}}]\n",
            family.to_lowercase()
        );
    }
    text
}

fn urls(addresses: impl IntoIterator<Item = IpAddr>, port: u16) -> Vec<String> {
    addresses.into_iter().map(|ip| format!("http://{}/", SocketAddr::new(ip, port))).collect()
}

pub(super) fn parsed(addresses: [&str; 2]) -> [IpAddr; 2] {
    addresses.map(|address| address.parse().unwrap())
}

pub(super) fn far_server(story: &Story) -> Server {
    story.lab.serve("remote", &ServerSpec::http(&server_program(), "far", 8080).version("far")).unwrap()
}

#[test]
fn endpoints_on_another_node_are_reached_with_and_without_rules() {
    let story = Story::begin(&two_nodes());
    let _far = far_server(&story);
    let behind = story.lab.remote().unwrap().behind.clone();
    assert_eq!(behind.len(), 2, "both families: {behind:?}");
    for url in urls(behind.clone(), 8080) {
        assert_eq!(story.get("client", &url, &[]), "200 far", "{url}");
    }
    story.apply("far.yaml", &service("far", FAR, (80, 8080, "TCP"), &behind));
    let client = story.lab.pod("client").unwrap().ips();
    for url in urls(parsed(FAR), 80) {
        let answer = story.curl("client", &[&url]);
        assert_eq!(answer.brief(), "200 far", "{url}");
        let peer: SocketAddr = answer.json()["peer"].as_str().unwrap().parse().unwrap();
        assert!(client.contains(&peer.ip()), "the other node sees the client itself: {answer:?}");
    }
    assert_eq!(story.admin.connections("accepted"), 0, "no rule, no proxy");
    story.apply_rule("far-rule", "{services: [far], timeouts: {request: 9s}}");
    for url in urls(parsed(FAR), 80) {
        assert_eq!(story.get("client", &url, &[]), "200 far", "{url}");
    }
    assert_eq!(story.admin.connections("accepted"), 2);
}

#[test]
fn clients_of_another_node_meet_the_rules_at_the_uplink_and_pods_as_ever() {
    let story = Story::begin(&two_nodes());
    story.apply_rule(
        "tag",
        "{services: [vehicle-recognition], match: {headers: {x-user-tag: {exact: t}}}, route: {destination: {host: \
         service-canary, port: 8080}}}",
    );
    for (net, via) in ["10.96.0.0/16", "fd96::/64"].into_iter().zip(&story.lab.uplink) {
        story.told("remote", &["ip", "route", "replace", net, "via", &via.to_string()]);
    }
    for url in urls(parsed(RECOGNITION), 80) {
        assert_eq!(story.get("remote", &url, &[]), "200 v1", "{url}");
        assert_eq!(story.get("remote", &url, &["x-user-tag: t"]), "200 v2", "{url}");
    }
    assert_eq!(story.admin.connections("accepted"), 4);
    for url in urls(story.lab.pod("v1").unwrap().ips(), 8080) {
        assert_eq!(story.get("remote", &url, &[]), "200 v1", "{url}");
    }
    assert_eq!(story.admin.connections("accepted"), 4, "from the other node straight to a pod");
}

#[test]
fn a_pod_whose_link_is_no_port_of_the_bridge_is_not_intercepted_and_that_is_told() {
    let mut terrain = terrain();
    terrain.spec.pods.push(PodSpec::new("routed").routed());
    terrain.servers.push(("routed".to_owned(), Mode::Http, "routed".to_owned()));
    let story = Story::begin(&terrain);
    story.await_log(&[" WARN ", "default/routed", "not a port of the bridge"]);
    let pods = story.admin.status()["pods"].clone();
    let routed = story.lab.pod("routed").unwrap();
    let told = pods.as_array().unwrap().iter().find(|pod| pod["name"] == "default/routed");
    let told = told.unwrap_or_else(|| panic!("{pods}"));
    assert_eq!((&told["enrolled"], &told["ifindex"]), (&json!(false), &json!(routed.host_ifindex)), "{told}");
    for (vip, ip) in parsed(RECOGNITION).into_iter().zip(routed.ips()) {
        let url = format!("http://{}/", SocketAddr::new(vip, 80));
        let own = story.curl("routed", &["--max-time", "2", &url]);
        assert_ne!(own.exit, 0, "without kube-proxy nobody serves the virtual address for it: {own:?}");
        let url = format!("http://{}/", SocketAddr::new(ip, 8080));
        assert_eq!(story.get("client", &url, &[]), "200 routed", "{url}: others reach it");
    }
    assert_eq!((story.admin.connections("accepted"), story.admin.kernel("steered")), (0, 0));
    // Said again only when it is news.
    story.apply_rule("more", "{services: [shadow], timeouts: {request: 9s}}");
    let log = story.log();
    assert_eq!(log.matches("not a port of the bridge").count(), 1, "{log}");
}

#[test]
fn addresses_of_the_node_itself_are_left_alone() {
    let story = Story::begin(&two_nodes());
    let _own = story.lab.serve("node", &ServerSpec::http(&server_program(), "own", 9090).version("own")).unwrap();
    let node = story.lab.node();
    let own = std::iter::once(IpAddr::from(node.ip4)).chain(node.ip6.map(IpAddr::from));
    for url in urls(own.chain(story.lab.uplink.clone()), 9090) {
        let answer = story.curl("client", &[&url]);
        assert_eq!(answer.brief(), "200 own", "{url}: {answer:?}");
    }
    // The node's own sockets, as the kubelet's probes: to pods, past every rule.
    for url in urls(story.lab.pod("v1").unwrap().ips(), 8080) {
        assert_eq!(story.get("node", &url, &[]), "200 v1", "{url}");
    }
    assert_eq!(story.admin.connections("accepted"), 0);
}

/// Answers each datagram with the same, and who sent it.
pub(super) fn echo(story: &Story, pod: &str, address: SocketAddr) {
    let socket = story.lab.enter(pod, || UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let text = format!("{} from {}\n", String::from_utf8_lossy(&buffer[..length]), from.ip());
            if socket.send_to(text.as_bytes(), from).is_err() {
                return;
            }
        }
    });
}

#[test]
fn datagrams_go_straight_on_and_services_of_udp_are_balanced() {
    let story = Story::begin(&terrain());
    let v1 = story.lab.pod("v1").unwrap().ips();
    story.apply("names.yaml", &service("names", NAMES, (53, 5353, "UDP"), &v1));
    v1.iter().for_each(|ip| echo(&story, "v1", SocketAddr::new(*ip, 5353)));
    let client = story.lab.pod("client").unwrap().ips();
    let said = |to: IpAddr, port: u16| {
        // The shell connects its socket, as resolvers do.
        let script = format!("exec 3<>/dev/udp/{to}/{port}; printf hello >&3; timeout 10 head -n 1 <&3");
        story.told("client", &["bash", "-c", &script]).trim().to_owned()
    };
    let balanced = story.admin.kernel("balanced");
    for (targets, port) in [(v1, 5353), (parsed(NAMES).to_vec(), 53)] {
        for (to, from) in targets.into_iter().zip(&client) {
            assert_eq!(said(to, port), format!("hello from {from}"), "to {to}");
        }
    }
    assert!(story.admin.kernel("balanced") >= balanced + 2);
    assert_eq!(story.admin.connections("accepted"), 0);
    assert_eq!(story.admin.kernel("steered"), 0);
}
