//! Who reaches whom, and what the servers tell about it.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weir_lab::client::{self, Payload, Request};
use weir_lab::server::Mode;
use weir_lab::{DnatRule, PodSpec, Protocol, ServicePort, ServiceSpec, Spec, Tuning};
use weir_lab::{content, manifests};

use crate::{build, pair, server};

const LIMIT: Duration = Duration::from_secs(20);

fn at(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

#[test]
fn everyone_reaches_everyone_in_both_families() {
    let mut spec = Spec::with_pods(["client", "v1"]);
    spec.pods.push(PodSpec::new("routed").routed());
    spec.remote = true;
    let lab = build(&spec).unwrap();
    let places = ["client", "v1", "routed", "remote", "node"];
    let servers: Vec<_> = places.iter().map(|place| lab.serve(*place, &server(place)).unwrap()).collect();
    for to in places {
        let namespace = lab.namespace(to).unwrap();
        let six = namespace.ip6.map(IpAddr::from);
        let own = std::iter::once(namespace.ip4.into()).chain(six);
        for ip in own.chain(namespace.behind.clone()) {
            for from in places {
                let url = format!("http://{}/x", at(ip, 8080));
                let response =
                    client::get(&lab, from, &url, &[]).unwrap_or_else(|e| panic!("{from} to {to} ({url}): {e}"));
                let json = response.json().unwrap();
                assert_eq!((response.served_by(), &json["server"]), (Some(to), &to.into()));
                let peer: SocketAddr = json["peer"].as_str().unwrap().parse().unwrap();
                if !matches!(from, "node" | "remote") && from != to {
                    let ips = lab.pod(from).unwrap().ips();
                    assert!(ips.contains(&peer.ip()), "{from} is seen as {peer} by {to}");
                }
            }
        }
    }
    assert_eq!(servers.len(), places.len());
}

#[test]
fn a_lab_may_do_without_ipv6() {
    let spec = Spec { ipv6: false, ..Spec::with_pods(["client", "v1"]) };
    let lab = build(&spec).unwrap();
    let v1 = lab.pod("v1").unwrap();
    assert_eq!((v1.ip6(), v1.ips().len()), (None, 1));
    let _served = lab.serve("v1", &server("v1").on(v1.ip4().into())).unwrap();
    let url = format!("http://{}:8080/", v1.ip4());
    assert_eq!(client::get(&lab, "client", &url, &[]).unwrap().status, 200);
}

#[test]
fn requests_are_told_as_they_arrived() {
    let lab = pair();
    let _served = lab.serve("v1", &server("v1")).unwrap();
    let to = at(lab.pod("v1").unwrap().ip4(), 8080);
    let size = 5_000_001;
    for body in [Payload::Content(size), Payload::Chunked(size)] {
        let request = Request::new("POST", &format!("http://{to}/upload?a=b")).unwrap();
        let request = request.header("x-user-tag", "canary-user").body(body);
        let json = client::send(&lab, "client", &request).unwrap().json().unwrap();
        assert_eq!(json["method"], "POST");
        assert_eq!(json["path"], "/upload?a=b");
        assert_eq!(json["version"], "1");
        assert_eq!(json["headers"]["x-user-tag"], "canary-user");
        assert_eq!(json["headers"]["host"], to.to_string());
        assert_eq!(json["body_bytes"], size);
        assert_eq!(json["body_sha256"], content::sha256(content::SEED, size));
        assert_eq!(json["local"], to.to_string());
    }
    let mirrored = [("x-weir-mirror", "1")];
    client::get(&lab, "client", &format!("http://{to}/m"), &mirrored).unwrap();
    let count = client::get(&lab, "node", &format!("http://{to}/count"), &[]).unwrap();
    let count = count.json().unwrap();
    assert_eq!((&count["total"], &count["mirrored"]), (&2.into(), &1.into()), "{count}");
    assert_eq!(count["by_method"]["GET"]["mirrored"], 1);
    let last = client::get(&lab, "node", &format!("http://{to}/last?n=2"), &[]).unwrap();
    let last = last.json().unwrap();
    assert_eq!((&last[0]["path"], &last[1]["path"]), (&"/upload?a=b".into(), &"/m".into()));
    assert_eq!(last[0]["complete"], true);
    let forget = Request::new("POST", &format!("http://{to}/forget")).unwrap();
    client::send(&lab, "node", &forget).unwrap();
    let last = client::get(&lab, "node", &format!("http://{to}/last?n=9"), &[]).unwrap();
    assert_eq!(last.text(), "[]");
}

#[test]
fn curl_runs_inside_and_connections_are_kept() {
    let lab = pair();
    let _served = lab.serve("v1", &server("v1")).unwrap();
    let to = at(lab.pod("v1").unwrap().ip6().unwrap(), 8080);
    weir_lab::require("curl").unwrap();
    let url = format!("http://{to}/fast");
    let out = lab.run("client", &["curl", "-sS", "-g", &url], LIMIT).unwrap();
    assert!(out.status.success() && out.stdout.starts_with(b"{\"answer\""), "{out:?}");
    let mut kept = client::connect(&lab, "client", to, LIMIT).unwrap();
    let port = kept.stream().local_addr().unwrap();
    for _ in 0..3 {
        let request = Request::new("GET", &format!("http://{to}/")).unwrap();
        let json = kept.exchange(&request, LIMIT).unwrap().json().unwrap();
        assert_eq!(json["peer"], port.to_string());
    }
}

#[test]
fn kube_proxy_is_imitated_and_can_change() {
    let endpoints = ["10.77.0.3:8080", "10.77.0.4:8080"].map(|e| e.parse().unwrap());
    let four = |endpoints: &[SocketAddr]| DnatRule {
        vip: "10.96.0.10:80".parse().unwrap(),
        protocol: Protocol::Tcp,
        endpoints: endpoints.to_vec(),
    };
    let six = DnatRule {
        vip: "[fd96::10]:80".parse().unwrap(),
        protocol: Protocol::Tcp,
        endpoints: vec!["[fd77::3]:8080".parse().unwrap(), "[fd77::4]:8080".parse().unwrap()],
    };
    let tuning = Tuning { bridge_nf_call: Some(true), ..Tuning::default() };
    let mut spec = Spec::with_pods(["client", "v1", "v2"]);
    (spec.kube_proxy, spec.tuning, spec.remote) = (vec![four(&endpoints), six], tuning, true);
    let lab = build(&spec).unwrap();
    let _served = ["v1", "v2"].map(|pod| lab.serve(pod, &server(pod)).unwrap());
    let ask = |from: &str, vip: &str| {
        let response = client::get(&lab, from, &format!("http://{vip}/"), &[]).unwrap();
        response.served_by().unwrap().to_owned()
    };
    for vip in ["10.96.0.10", "[fd96::10]"] {
        // v1 as a client reaches itself half of the time: that is the hairpin.
        for from in ["client", "node", "v1"] {
            let mut seen: Vec<_> = (0..40).map(|_| ask(from, vip)).collect();
            seen.sort();
            seen.dedup();
            assert_eq!(seen, ["v1", "v2"], "from {from} to {vip}");
        }
    }
    lab.set_kube_proxy(&[four(&endpoints[1..])]).unwrap();
    assert!((0..10).all(|_| ask("client", "10.96.0.10") == "v2"));
    lab.set_kube_proxy(&[]).unwrap();
    let gone = Request::new("GET", "http://10.96.0.10/").unwrap().limit(Duration::from_secs(1));
    assert!(client::send(&lab, "client", &gone).is_err());
}

#[test]
fn settings_belong_to_the_node_alone() {
    let lab = pair();
    let outside = || std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").unwrap();
    let before = outside();
    for (mode, on) in [(1, true), (2, false), (0, true)] {
        lab.tune(Tuning { rp_filter: Some(mode), src_valid_mark: Some(on), bridge_nf_call: Some(on) }).unwrap();
        let bit = u8::from(on).to_string();
        for (key, expected) in [
            ("net.ipv4.conf.all.rp_filter", &mode.to_string()),
            ("net.ipv4.conf.cni0.rp_filter", &mode.to_string()),
            ("net.ipv4.conf.default.src_valid_mark", &bit),
            ("net.bridge.bridge-nf-call-iptables", &bit),
            ("net.bridge.bridge-nf-call-ip6tables", &bit),
        ] {
            assert_eq!(&lab.sysctl("node", key).unwrap(), expected, "{key}");
        }
    }
    assert_eq!(outside(), before);
    assert!(lab.set_sysctl("node", "kernel.panic", "0").is_err());
}

#[test]
fn bytes_pass_unharmed_both_ways_at_once() {
    let lab = pair();
    let _served = lab.serve("v1", &server("v1").mode(Mode::Bulk)).unwrap();
    let to = at(lab.pod("v1").unwrap().ip4(), 8080);
    for (up, down) in [(0, 0), (1, 100_003), (300_000_007, 200_000_003)] {
        let done = client::bulk(&lab, "client", to, (up, down), LIMIT).unwrap();
        assert_eq!((done.up, done.down), (up, down));
        println!("{up} up and {down} down in {:?}", done.took);
    }
}

#[test]
fn servers_may_speak_first() {
    let lab = pair();
    let _served = lab.serve("v1", &server("v1").mode(Mode::Greet)).unwrap();
    let to = at(lab.pod("v1").unwrap().ip4(), 8080);
    let mut stream = lab.connect("client", to, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let own = stream.local_addr().unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut line = String::new();
    stream.read_to_string(&mut line).unwrap();
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&json["server"], &json["peer"]), (&"v1".into(), &own.to_string().into()));
}

#[test]
fn manifests_describe_the_lab() {
    let mut spec = Spec::with_pods(["client", "outside"]);
    spec.pods.push(PodSpec::new("vr-1").label("app", "vr").label("version", "v1"));
    spec.pods.push(PodSpec::new("vr-2").label("app", "vr").label("version", "v2"));
    spec.pods[1].in_mesh = false;
    let lab = build(&spec).unwrap();
    let service = ServiceSpec {
        name: "vr".to_owned(),
        namespace: "default".to_owned(),
        vip4: Some("10.96.0.10".parse().unwrap()),
        vip6: Some("fd96::10".parse().unwrap()),
        ports: vec![ServicePort::http(80, 8080)],
        pods: vec!["vr-1".to_owned(), "vr-2".to_owned()],
    };
    let text = manifests(&lab, std::slice::from_ref(&service)).unwrap();
    let all: Vec<serde_json::Value> =
        serde_yaml::Deserializer::from_str(&text).map(|d| serde::Deserialize::deserialize(d).unwrap()).collect();
    let kinds: Vec<_> = all.iter().map(|d| d["kind"].as_str().unwrap()).collect();
    let expected = "Namespace Pod Pod Pod Pod Service EndpointSlice EndpointSlice";
    assert_eq!(kinds.join(" "), expected);
    assert_eq!(all[2]["metadata"]["annotations"]["weir.dev/mesh"], "disabled");
    assert_eq!(all[3]["metadata"]["labels"]["version"], "v1");
    assert_eq!(all[3]["status"]["podIPs"][1]["ip"], "fd77::4");
    assert_eq!(all[5]["spec"]["clusterIPs"][1], "fd96::10");
    assert_eq!(all[5]["spec"]["selector"], serde_json::json!({ "app": "vr" }));
    let slice = &all[7];
    assert_eq!(slice["addressType"], "IPv6");
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "vr");
    assert_eq!(slice["endpoints"][1]["addresses"][0], "fd77::5");
    assert_eq!(slice["endpoints"][1]["targetRef"]["uid"], all[4]["metadata"]["uid"]);
    assert_eq!(slice["ports"][0]["port"], 8080);
    let unknown = ServiceSpec { pods: vec!["nobody".to_owned()], ..service };
    assert!(manifests(&lab, &[unknown]).is_err());
}
