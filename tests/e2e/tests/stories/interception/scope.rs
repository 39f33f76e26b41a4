//! Which connections the proxy sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::json;
use weir_e2e::{PLAIN, RECOGNITION, Story, capture, until};
use weir_lab::client::Request;

use super::terrain;

/// The address of a `peer` field.
fn ip_of(peer: &serde_json::Value) -> IpAddr {
    let text = peer.as_str().unwrap();
    text.parse::<SocketAddr>().unwrap().ip()
}

#[test]
fn original_destination_and_source_are_known_for_both_families() {
    let story = Story::begin(&terrain());
    for vip in [format!("http://{}/where?q=1", RECOGNITION[0]), format!("http://[{}]/where?q=1", RECOGNITION[1])] {
        assert_eq!(story.get("client", &vip, &[]), "200 v1");
    }
    for line in story.await_access("/where", 2) {
        let told = (&line["source"], &line["service"], &line["status"]);
        let expected = (&json!("default/client"), &json!("default/vehicle-recognition:80"), &json!(200));
        assert_eq!(told, expected, "the source is told by its name: {line}");
        let client: SocketAddr = line["client"].as_str().unwrap().parse().unwrap();
        assert!(story.lab.pod("client").unwrap().ips().contains(&client.ip()), "{line}");
    }
    assert_eq!(story.admin.connections("accepted"), 2);
    assert!(story.admin.kernel("steered") >= 2 && story.admin.kernel("picked") >= 2);
    let explained = story.explain("client", &format!("http://{}/", RECOGNITION[0]), &[]);
    assert_eq!(explained["service"], "default/vehicle-recognition:80", "{explained}");
    let pods = story.admin.status()["pods"].clone();
    let client = pods.as_array().unwrap().iter().find(|pod| pod["name"].as_str().unwrap().ends_with("client")).cloned();
    let client = client.unwrap_or_else(|| panic!("{pods}"));
    assert_eq!(client["enrolled"], json!(true));
    assert_eq!(client["ifindex"], json!(story.lab.pod("client").unwrap().host_ifindex));
}

#[test]
fn pod_to_pod_traffic_is_not_touched() {
    let story = Story::begin(&terrain());
    let (client, v1) = (story.lab.pod("client").unwrap(), story.lab.pod("v1").unwrap());
    for url in [format!("http://{}:8080/", v1.ip4()), format!("http://[{}]:8080/", v1.ip6().unwrap())] {
        let answer = story.curl("client", &[&url]);
        assert_eq!(answer.brief(), "200 v1");
        assert!(client.ips().contains(&ip_of(&answer.json()["peer"])), "v1 sees the client itself: {}", answer.body);
    }
    assert_eq!(story.admin.connections("accepted"), 0, "the proxy saw none of it");
    assert_eq!(story.admin.kernel("steered"), 0);
    assert!(story.admin.kernel("passed_direct") >= 2);
}

#[test]
fn a_service_without_rules_is_balanced_in_the_kernel() {
    let story = Story::begin(&terrain());
    for url in [format!("http://{}/", PLAIN[0]), format!("http://[{}]/", PLAIN[1])] {
        let answer = story.curl("client", &[&url]);
        assert_eq!(answer.brief(), "200 plain");
        let client = story.lab.pod("client").unwrap().ips();
        assert!(client.contains(&ip_of(&answer.json()["peer"])), "plain sees the client itself: {}", answer.body);
    }
    assert_eq!(story.admin.connections("accepted"), 0);
    assert!(story.admin.kernel("balanced") >= 2);
}

#[test]
fn a_rule_takes_a_service_out_of_the_kernel_and_its_removal_gives_it_back() {
    let story = Story::begin(&terrain());
    let url = format!("http://{}/", PLAIN[0]);
    let peer = || ip_of(&story.curl("client", &[&url]).json()["peer"]);
    let client = IpAddr::from(story.lab.pod("client").unwrap().ip4());
    assert_eq!(peer(), client);
    let rule = weir_e2e::rule("plain", "{services: [plain], timeouts: {request: 9s}}")
        .replace("{name: plain}", "{name: plain, namespace: plain}");
    story.apply("plain.yaml", &rule);
    assert_eq!(story.curl("client", &[&url]).brief(), "200 plain");
    assert_eq!(story.admin.connections("accepted"), 1, "the rule brought the connection to the proxy");
    story.remove("plain.yaml");
    assert_eq!(peer(), client);
    assert_eq!(story.admin.connections("accepted"), 1);
}

#[test]
fn a_pod_outside_the_mesh_is_left_alone() {
    let story = Story::begin(&terrain());
    let v1 = story.lab.pod("v1").unwrap().ip4();
    assert_eq!(story.get("outside", &format!("http://{v1}:8080/"), &[]), "200 v1");
    let own = story.curl("outside", &["--max-time", "2", &format!("http://{}/", RECOGNITION[0])]);
    assert_ne!(own.exit, 0, "without kube-proxy nobody serves the virtual address for it: {own:?}");
    assert_eq!(story.admin.connections("accepted"), 0);
    let pods = story.admin.status()["pods"].clone();
    let outside =
        pods.as_array().unwrap().iter().find(|pod| pod["name"].as_str().unwrap().ends_with("outside")).cloned();
    assert!(outside.is_none_or(|pod| pod["enrolled"] == json!(false)), "{pods}");
}

#[test]
fn spoofed_sources_are_dropped_counted_logged_and_exported() {
    let story = Story::begin(&terrain());
    let v1 = story.lab.pod("v1").unwrap();
    let cases = v1.ips().into_iter().zip(RECOGNITION).map(|(ip, vip)| (neighbour_of(ip), ip, vip));
    for (forged, v1, vip) in cases {
        let targets = [SocketAddr::new(v1, 8080), SocketAddr::new(vip.parse().unwrap(), 80)];
        // With its own address first: then the forged packets need to ask for no neighbour.
        for to in targets {
            assert_eq!(story.get("client", &format!("http://{to}/"), &[]), "200 v1");
        }
        let bits = if forged.is_ipv4() { 32 } else { 128 };
        story.told("client", &["ip", "addr", "add", &format!("{forged}/{bits}"), "dev", "eth0"]);
        let (dropped, seen) = (story.admin.kernel("dropped_spoofed"), story.seen("v1").len());
        for to in targets {
            let url = format!("http://{to}/");
            let answer = story.curl("client", &["--max-time", "1", "--interface", &forged.to_string(), &url]);
            assert_eq!(answer.exit, 28, "nothing comes back: {answer:?}");
            // The drop record of the kernel reaches the node's log with both ends.
            let (source, destination) = (format!("source={}", before_port(forged)), format!("destination={to} "));
            let line = story.await_log(&["weir::kernel", "dropped_spoofed", &source, &destination]);
            assert!(line.contains("link_pod=\"default/client\""), "who forged it: {line}");
            assert!(!line.contains("source_pod"), "the forged address is nobody's: {line}");
            assert_eq!(line.contains("destination_pod=\"default/v1\""), to.ip() == v1, "{line}");
        }
        assert!(story.admin.kernel("dropped_spoofed") >= dropped + 2, "{forged}");
        assert_eq!(story.seen("v1").len(), seen, "{:?}", story.seen("v1"));
        let own = own_like(&story, forged);
        for to in targets {
            let answer = story.curl("client", &["--interface", &own, &format!("http://{to}/")]);
            assert_eq!(answer.brief(), "200 v1", "its own address still works");
        }
    }
    let exported = story.admin.metric("weir_kernel_packets_total", &["reason=\"dropped_spoofed\""]);
    assert!(exported >= 4.0, "{}", story.admin.metrics());
}

/// An address of the same network that nobody has.
fn neighbour_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(four) => Ipv4Addr::from(u32::from(four) | 0xf0).into(),
        IpAddr::V6(six) => Ipv6Addr::from(u128::from(six) | 0xf0).into(),
    }
}

/// How an address begins where its port follows.
fn before_port(ip: IpAddr) -> String {
    if ip.is_ipv4() { format!("{ip}:") } else { format!("[{ip}]:") }
}

/// The client's own address of a family.
fn own_like(story: &Story, other: IpAddr) -> String {
    let own = story.lab.pod("client").unwrap().ips();
    own.iter().find(|ip| ip.is_ipv4() == other.is_ipv4()).unwrap().to_string()
}

#[test]
fn lines_of_the_programs_arrive_in_the_nodes_log() {
    let story = Story::begin(&terrain());
    assert_eq!(story.get("client", &format!("http://{}/", RECOGNITION[0]), &[]), "200 v1");
    story.await_log(&["weir::ebpf", "steer"]);
}

#[test]
fn packets_reach_nobody_else_also_when_the_bridge_forgets() {
    let mut story = Story::prepare(&terrain());
    story.told("node", &["ip", "link", "set", "cni0", "type", "bridge", "ageing_time", "100"]);
    story.start();
    let mut third = capture(&story.lab, "shadow");
    let urls = RECOGNITION.map(|vip| format!("http://{}/", SocketAddr::new(vip.parse().unwrap(), 80)));
    // Slow enough for the forwarding database to forget the client within the transfer: it ages after 1 s.
    let slow = urls.each_ref().map(|url| Request::new("GET", &format!("{url}drip?bytes=8&every=400ms")).unwrap());
    let mut connections = RECOGNITION.map(|vip| story.connect("client", vip));
    std::thread::scope(|scope| {
        for (connection, request) in connections.iter_mut().zip(&slow) {
            scope.spawn(move || {
                let response = connection.exchange(request, Duration::from_secs(20)).unwrap();
                assert_eq!(response.body.len(), 8, "{}", request.to);
            });
        }
    });
    for url in &urls {
        until("a second connection", || match story.get("client", url, &[]).as_str() {
            "200 v1" => Ok(()),
            other => Err(other.to_owned()),
        });
    }
    let strangers = third.strangers();
    let is_intercepted = |flow: &String| RECOGNITION.iter().any(|vip| flow.split(" > ").any(|end| end == *vip));
    let strangers: Vec<&String> = strangers.iter().filter(|flow| is_intercepted(flow)).collect();
    assert!(strangers.is_empty(), "intercepted packets were flooded to a third pod: {strangers:?}");
    // The control: what the bridge floods is seen there.
    story.told("node", &["ip", "link", "set", "cni0", "type", "bridge", "fdb_flush"]);
    let client = story.lab.pod("client").unwrap().ip4();
    story.lab.enter("node", || UdpSocket::bind("0.0.0.0:0")?.send_to(b"flooded", (client, 9))).unwrap().unwrap();
    let flooded = format!("{} > {client}", story.lab.node().ip4);
    until("a flooded packet is seen", || {
        let strangers = third.strangers();
        if strangers.contains(&flooded) { Ok(()) } else { Err(format!("{strangers:?}")) }
    });
}
