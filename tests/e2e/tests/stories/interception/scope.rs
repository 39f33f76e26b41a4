//! Which connections the proxy sees.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use weir_e2e::{PLAIN, RECOGNITION, Story, capture, until};

use super::terrain;

/// The address of a `peer` field.
fn ip_of(peer: &serde_json::Value) -> IpAddr {
    let text = peer.as_str().unwrap();
    text.parse::<std::net::SocketAddr>().unwrap().ip()
}

#[test]
fn original_destination_and_source_are_known_for_both_families() {
    let story = Story::begin(&terrain());
    for vip in [format!("http://{}/where?q=1", RECOGNITION[0]), format!("http://[{}]/where?q=1", RECOGNITION[1])] {
        assert_eq!(story.get("client", &vip, &[]), "200 v1");
    }
    let line = story.await_log(&["request", "status=200", "default/vehicle-recognition"]);
    assert!(line.contains("client"), "the source is told by its name: {line}");
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
    let (forged, v1) = (Ipv4Addr::new(10, 77, 0, 99), story.lab.pod("v1").unwrap().ip4());
    story.told("client", &["ip", "addr", "add", &format!("{forged}/32"), "dev", "eth0"]);
    for url in [format!("http://{v1}:8080/"), format!("http://{}/", RECOGNITION[0])] {
        let answer = story.curl("client", &["--max-time", "2", "--interface", &forged.to_string(), &url]);
        assert_eq!(answer.exit, 28, "nothing comes back: {answer:?}");
    }
    assert!(story.admin.kernel("dropped_spoofed") >= 2);
    assert!(story.seen("v1").is_empty(), "{:?}", story.seen("v1"));
    let exported = story.admin.metric("weir_kernel_packets_total", &["reason=\"dropped_spoofed\""]);
    assert!(exported >= 2.0, "{}", story.admin.metrics());
    // The drop record of the kernel, or aya-log's line, reaches the node's log with the address.
    let line = story.await_log(&["10.77.0.99"]);
    assert!(line.contains("spoofed"), "{line}");
    assert_eq!(
        story.get("client", &format!("http://{}/", RECOGNITION[0]), &[]),
        "200 v1",
        "its own address still works"
    );
}

#[test]
fn lines_of_the_programs_arrive_in_the_nodes_log() {
    let story = Story::begin(&terrain());
    assert_eq!(story.get("client", &format!("http://{}/", RECOGNITION[0]), &[]), "200 v1");
    story.await_log(&["weir::ebpf", "steer"]);
}

#[test]
fn packets_reach_nobody_else_also_when_the_bridge_forgets() {
    let story = Story::prepare(&terrain());
    story.told("node", &["ip", "link", "set", "cni0", "type", "bridge", "ageing_time", "100"]);
    let mut story = story;
    story.start();
    let mut third = capture(&story.lab, "shadow");
    let mut connection = story.connect("client", RECOGNITION[0]);
    let request =
        weir_lab::client::Request::new("GET", &format!("http://{}/drip?bytes=8&every=400ms", RECOGNITION[0])).unwrap();
    // Slow enough for the forwarding database to forget the client within the transfer: it ages after 1 s.
    let response = connection.exchange(&request, std::time::Duration::from_secs(20)).unwrap();
    assert_eq!(response.body.len(), 8);
    until("a second connection", || match story.get("client", &format!("http://{}/", RECOGNITION[0]), &[]).as_str() {
        "200 v1" => Ok(()),
        other => Err(other.to_owned()),
    });
    let strangers: Vec<String> = third.strangers().into_iter().filter(|flow| flow.contains("10.96.")).collect();
    assert!(strangers.is_empty(), "intercepted packets were flooded to a third pod: {strangers:?}");
}
