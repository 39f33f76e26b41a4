//! Large transfers: every byte right, half-close kept, memory bounded.

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use weir_e2e::{PLAIN, RECOGNITION, Story, Terrain, until};
use weir_lab::ServicePort;
use weir_lab::client::bulk;
use weir_lab::content::{SEED, sha256};
use weir_lab::server::Mode;

use super::ALL;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const IDLE: Duration = Duration::from_secs(20);

fn at(vip: &str) -> SocketAddr {
    SocketAddr::new(vip.parse().unwrap(), 80)
}

#[test]
fn a_gibibyte_both_ways_past_the_proxy() {
    let story = Story::begin(&Terrain::standard().rule("all", ALL).serve("plain", Mode::Bulk));
    let plain = story.lab.pod("plain").unwrap().ip4();
    let done = bulk(story.lab.layout(), "client", SocketAddr::new(plain.into(), 8080), (GIB, GIB), IDLE).unwrap();
    assert_eq!((done.up, done.down), (GIB, GIB));
    assert_eq!(story.admin.connections("accepted"), 0);
    println!("1 GiB both ways, pod to pod: {:?}", done.took);
}

#[test]
fn a_gibibyte_both_ways_through_the_proxy_as_opaque_tcp() {
    // Neither the name nor an appProtocol says what the port speaks, so the proxy looks, and passes it on.
    let terrain = Terrain::standard().rule("all", ALL).serve("v1", Mode::Bulk);
    let mut port = ServicePort::tcp(80, 8080);
    port.name = "data".to_owned();
    let story = Story::begin(&terrain.port("vehicle-recognition", &port));
    let before = story.resident();
    let done = bulk(story.lab.layout(), "client", at(RECOGNITION[0]), (GIB, GIB), IDLE).unwrap();
    assert_eq!((done.up, done.down), (GIB, GIB));
    assert_eq!((story.admin.connections("accepted"), story.admin.connections("opaque")), (1, 1));
    assert!(story.resident() < before + 16 * MIB, "{} MiB more", (story.resident() - before) / MIB);
    println!("1 GiB both ways, through the proxy: {:?}", done.took);
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
    let (vip, expected) = (PLAIN[0], sha256(SEED, GIB));
    let down = story.told("client", &["sh", "-c", &format!("curl -sS http://{vip}/bytes/{GIB} | sha256sum")]);
    assert_eq!(down.split(' ').next(), Some(&*expected));
    let from = story.lab.pod("shadow").unwrap().ip4();
    let pipe = format!("curl -sS http://{from}:8080/bytes/{GIB} | curl -sS -T - http://{vip}/up");
    let up: serde_json::Value = serde_json::from_str(&story.told("client", &["sh", "-c", &pipe])).unwrap();
    assert_eq!((&up["server"], &up["body_sha256"]), (&json!("plain"), &json!(expected)), "{up}");
    let client = story.lab.pod("client").unwrap().ip4().to_string();
    assert!(up["peer"].as_str().unwrap().starts_with(&format!("{client}:")), "plain sees the client itself: {up}");
    assert_eq!(story.admin.connections("accepted"), 0);
}
