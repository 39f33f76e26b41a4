//! Connections that an interceptor easily gets wrong.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::TcpRepair};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use weir_e2e::{RECOGNITION, Story, Terrain, until};
use weir_lab::Tuning;
use weir_lab::client::{Request, connect};

use super::places::{far_server, parsed, two_nodes};
use super::{ALL, terrain, translations};

const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 45_678;

/// A connection from a certain port of a pod.
fn from_port(story: &Story, pod: &str, port: u16, to: SocketAddr) -> io::Result<TcpStream> {
    let open = || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], port).into() } else { ([0u16; 8], port).into() };
        socket.bind(&SockAddr::from(any))?;
        socket.connect_timeout(&SockAddr::from(to), LIMIT)?;
        Ok(TcpStream::from(socket))
    };
    story.lab.enter(pod, open).unwrap()
}

/// One request after which the proxy closes first, and so keeps the connection in TIME_WAIT.
fn closed_by_the_proxy(mut stream: TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /fast HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[test]
fn the_same_source_port_again_and_again() {
    let story = Story::begin(&terrain());
    for vip in RECOGNITION {
        let to = SocketAddr::new(vip.parse().unwrap(), 80);
        for round in 0..3 {
            let answer = from_port(&story, "client", PORT, to).and_then(closed_by_the_proxy);
            assert_eq!(answer.unwrap_or_else(|e| format!("{e}")), "HTTP/1.1 200 OK", "{vip}, round {round}");
        }
    }
    assert!(story.admin.connections("accepted") >= 6, "every round reached the proxy");
}

#[test]
fn a_client_that_vanished_comes_back_on_the_same_port() {
    let story = Story::begin(&terrain());
    for vip in RECOGNITION {
        let to = SocketAddr::new(vip.parse().unwrap(), 80);
        let mut first = from_port(&story, "client", PORT, to).unwrap();
        first.write_all(b"GET /fast HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert!(first.read(&mut [0; 1024]).unwrap() > 0);
        let own = first.local_addr().unwrap();
        // Closed in repair mode a socket sends nothing, as after a power cut: the proxy's end stays established.
        setsockopt(&first, TcpRepair, &1).unwrap();
        drop(first);
        let stale = story.told("node", &["ss", "-Htn", "state", "established", "src", &vip_filter(vip)]);
        assert!(stale.contains(&own.to_string()), "the proxy still has the dead connection: {stale}");
        let answer = from_port(&story, "client", PORT, to).and_then(closed_by_the_proxy);
        assert_eq!(answer.unwrap_or_else(|e| format!("{e}")), "HTTP/1.1 200 OK", "{vip}");
    }
}

/// An address as `ss` filters by it.
fn vip_filter(vip: &str) -> String {
    if vip.contains(':') { format!("[{vip}]") } else { vip.to_owned() }
}

#[test]
fn connections_from_before_survive_the_start_of_the_node() {
    let mut story = Story::prepare(&two_nodes());
    let _far = far_server(&story);
    story.lab.set_kube_proxy(&translations(&story)).unwrap();
    story.lab.tune(Tuning { bridge_nf_call: Some(true), ..Tuning::default() }).unwrap();
    let (v1, behind) = (story.lab.pod("v1").unwrap().ips(), story.lab.remote().unwrap().behind.clone());
    let vips = parsed(RECOGNITION).map(|vip| SocketAddr::new(vip, 80));
    let at = |ips: &[IpAddr]| [0, 1].map(|family| SocketAddr::new(ips[family], 8080));
    let ways =
        [("client", vips, "v1"), ("client", at(&v1), "v1"), ("client", at(&behind), "far"), ("remote", at(&v1), "v1")];
    let mut old = Vec::new();
    for (from, to, who) in ways {
        for to in to {
            let request = Request::new("GET", &format!("http://{to}/")).unwrap();
            old.push((connect(&story.lab, from, to, LIMIT).unwrap(), request, from, who));
        }
    }
    let mut exchange_all = |when: &str| {
        for (connection, request, from, who) in &mut old {
            let case = format!("{when}, {from} to {}", request.to);
            let response = connection.exchange(request, LIMIT).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!((response.status, response.served_by()), (200, Some(*who)), "{case}");
        }
    };
    exchange_all("before");
    story.start();
    exchange_all("while the node runs");
    assert_eq!(story.admin.connections("accepted"), 0, "what began without the proxy goes on without it");
    for vip in &vips {
        assert_eq!(story.get("client", &format!("http://{vip}/"), &[]), "200 v1", "{vip}");
    }
    assert_eq!(story.admin.connections("accepted"), 2, "what begins now is intercepted");
    exchange_all("beside new connections");
    story.stop();
    exchange_all("after the node's end");
}

#[test]
fn the_address_of_the_bridge_may_change() {
    let story = Story::begin(&terrain());
    let urls = [format!("http://{}/", RECOGNITION[0]), format!("http://[{}]/", RECOGNITION[1])];
    for url in &urls {
        assert_eq!(story.get("client", url, &[]), "200 v1", "{url}");
    }
    // One change for each family: the first to be asked after a change may still meet the old address.
    for (number, url) in urls.iter().enumerate() {
        story.told("node", &["ip", "link", "set", "cni0", "address", &format!("0a:58:0a:4d:00:7{number}")]);
        // The pods learn the new address by asking; the programs must follow it.
        story.told("client", &["ip", "neigh", "flush", "all"]);
        until("requests go on after the change", || match story.get("client", url, &[]).as_str() {
            "200 v1" => Ok(()),
            other => Err(other.to_owned()),
        });
    }
}

#[test]
fn a_pod_that_comes_later_is_enrolled_before_it_can_be_missed() {
    let mut story = Story::begin(&Terrain::standard().rule("all", ALL));
    story.lab.add_pod(&weir_lab::PodSpec::new("late")).unwrap();
    let before = story.admin.sequence();
    story.write_cluster();
    story.await_version_after(before);
    // Nothing serves the virtual address but Weir, so an answer means that the pod is intercepted.
    assert_eq!(story.get("late", &format!("http://{}/", RECOGNITION[0]), &[]), "200 v1", "its first connection works");
    assert_eq!(story.get("late", &format!("http://[{}]/", RECOGNITION[1]), &[]), "200 v1");
    let links = story.footprint().pins.len();
    let gone = story.lab.pod("late").unwrap().host_ifindex;
    story.lab.remove_pod("late").unwrap();
    let before = story.admin.sequence();
    story.write_cluster();
    story.await_version_after(before);
    until("what belonged to the pod is collected", || {
        let pods = story.admin.status()["pods"].to_string();
        let pins = story.footprint_names();
        let listed = pods.contains(&format!("\"ifindex\":{gone},")) || pods.contains("late");
        if pins.len() < links && !listed { Ok(()) } else { Err(format!("{pins:?} {pods}")) }
    });
}
