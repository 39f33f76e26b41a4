//! Large transfers: every byte right, half-close kept, memory bounded.

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use weir_e2e::{PLAIN, RECOGNITION, Story, Terrain, until};
use weir_lab::ServicePort;
use weir_lab::client::{Payload, Request, bulk, send};
use weir_lab::content::{SEED, sha256};
use weir_lab::server::Mode;

use super::ALL;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// For a gibibyte that is hashed at both ends, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(20);

fn at(vip: &str) -> SocketAddr {
    SocketAddr::new(vip.parse().unwrap(), 80)
}

#[test]
fn a_gibibyte_both_ways_past_the_proxy() {
    let story = Story::begin(&Terrain::standard().rule("all", ALL).serve("plain", Mode::Bulk));
    for ip in story.lab.pod("plain").unwrap().ips() {
        let done = bulk(story.lab.layout(), "client", SocketAddr::new(ip, 8080), (GIB, GIB), IDLE).unwrap();
        assert_eq!((done.up, done.down), (GIB, GIB), "{ip}");
        println!("1 GiB both ways, pod to pod, {ip}: {:?}", done.took);
    }
    assert_eq!(story.admin.connections("accepted"), 0);
}

#[test]
fn a_gibibyte_both_ways_through_the_proxy_as_opaque_tcp() {
    // Neither the name nor an appProtocol says what the port speaks, so the proxy looks, and passes it on.
    let terrain = Terrain::standard().rule("all", ALL).serve("v1", Mode::Bulk);
    let mut port = ServicePort::tcp(80, 8080);
    port.name = "data".to_owned();
    let story = Story::begin(&terrain.port("vehicle-recognition", &port));
    for (number, vip) in (1..).zip(RECOGNITION) {
        let before = story.resident();
        let done = bulk(story.lab.layout(), "client", at(vip), (GIB, GIB), IDLE).unwrap();
        assert_eq!((done.up, done.down), (GIB, GIB), "{vip}");
        assert_eq!((story.admin.connections("accepted"), story.admin.connections("opaque")), (number, number));
        bounded(&story, before);
        println!("1 GiB both ways, through the proxy, {vip}: {:?}", done.took);
    }
}

/// That what the proxy holds does not grow with what passes it.
#[track_caller]
fn bounded(story: &Story, before: u64) {
    let now = story.resident();
    assert!(now < before + 16 * MIB, "{} MiB more", (now - before) / MIB);
}

#[test]
fn a_gibibyte_each_way_as_bodies_of_http() {
    let story = Story::begin(&Terrain::standard().rule("all", ALL));
    let expected = sha256(SEED, GIB);
    for vip in RECOGNITION.map(at) {
        let before = story.resident();
        let down = story.told("client", &["sh", "-c", &format!("curl -gsS http://{vip}/bytes/{GIB} | sha256sum")]);
        assert_eq!(down.split(' ').next(), Some(&*expected), "response body, {vip}");
        // Both ways of saying where a body ends: chunks, and a length.
        for (body, name, value) in [
            (Payload::Chunked(GIB), "transfer-encoding", "chunked".to_owned()),
            (Payload::Content(GIB), "content-length", GIB.to_string()),
        ] {
            let request = Request::new("PUT", &format!("http://{vip}/up")).unwrap().body(body).limit(LIMIT);
            let up = send(&story.lab, "client", &request).unwrap().json().unwrap();
            assert_eq!((&up["server"], &up["body_bytes"]), (&json!("v1"), &json!(GIB)), "{vip}: {up}");
            assert_eq!(up["body_sha256"], json!(expected), "request body, {vip}: {up}");
            assert_eq!(up["headers"][name], json!(value), "{up}");
        }
        bounded(&story, before);
    }
    assert_eq!(story.admin.connections("accepted"), 6, "all of it went through the proxy");
}

#[test]
fn a_slow_reader_costs_bounded_memory() {
    let terrain = Terrain::standard().rule("all", ALL).serve("v1", Mode::SlowRead);
    let mut port = ServicePort::tcp(80, 8080);
    port.name = "data".to_owned();
    let story = Story::begin(&terrain.port("vehicle-recognition", &port));
    let before = story.resident();
    let mut stream = story.lab.connect("client", at(RECOGNITION[0]), IDLE).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let piece = vec![0; 64 * 1024];
    let mut sent = 0;
    // Backpressure must come before this much: the client's and the proxy's socket buffers are a few MiB.
    while sent < 256 * MIB {
        match stream.write(&piece) {
            Ok(n) => sent += n as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
    }
    assert!(sent < 64 * MIB, "{} MiB went to a server that reads a byte a second", sent / MIB);
    assert!(story.resident() < before + 8 * MIB, "{} MiB more", (story.resident() - before) / MIB);
}

#[test]
fn a_server_that_speaks_first_is_not_kept_waiting() {
    let terrain = Terrain::standard().rule("all", ALL).serve("v1", Mode::Greet);
    let mut port = ServicePort::tcp(80, 8080);
    port.name = "data".to_owned();
    let story = Story::begin(&terrain.port("vehicle-recognition", &port));
    let greeting = until("the greeting", || {
        use std::io::{BufRead as _, BufReader};
        let begun = std::time::Instant::now();
        let stream = story.lab.connect("client", at(RECOGNITION[0]), IDLE).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(IDLE)).map_err(|error| error.to_string())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).map_err(|error| error.to_string())?;
        Ok::<_, String>((line, begun.elapsed()))
    });
    assert!(greeting.0.contains("v1"), "{}", greeting.0);
    assert!(greeting.1 < Duration::from_secs(2), "{:?}", greeting.1);
}

#[test]
fn a_gibibyte_each_way_through_a_plain_service() {
    // By programs in the pod's cgroup, for the kernel balances their connections when they connect.
    let story = Story::begin(&Terrain::standard().rule("all", ALL));
    let expected = sha256(SEED, GIB);
    let from = story.lab.pod("shadow").unwrap().ip4();
    for (vip, client) in PLAIN.map(at).into_iter().zip(story.lab.pod("client").unwrap().ips()) {
        let down = story.told("client", &["sh", "-c", &format!("curl -gsS http://{vip}/bytes/{GIB} | sha256sum")]);
        assert_eq!(down.split(' ').next(), Some(&*expected), "{vip}");
        let pipe = format!("curl -sS http://{from}:8080/bytes/{GIB} | curl -gsS -T - http://{vip}/up");
        let up: serde_json::Value = serde_json::from_str(&story.told("client", &["sh", "-c", &pipe])).unwrap();
        assert_eq!((&up["server"], &up["body_sha256"]), (&json!("plain"), &json!(expected)), "{up}");
        let peer: SocketAddr = up["peer"].as_str().unwrap().parse().unwrap();
        assert_eq!(peer.ip(), client, "plain sees the client itself: {up}");
    }
    assert_eq!(story.admin.connections("accepted"), 0);
}
