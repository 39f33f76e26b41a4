//! What goes wrong around the node: each thing gets the right answer, is counted, and the node lives on.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use weir_e2e::{Load, RECOGNITION, Story, Terrain, brief, until};
use weir_lab::client::{ClientError, Payload, Request, Response};
use weir_lab::server::Mode;

const LIMIT: Duration = Duration::from_secs(20);
/// Makes the proxy stand between client and `v1`, with a short bound.
const RULE: &str = "{services: [vehicle-recognition], timeouts: {request: 2s}}";

fn begin() -> Story {
    let settings = json!({ "proxy": {
        "downstream": {
            "headTimeout": "500ms", "headBytes": 8192, "bodyBytes": 100_000, "keepAlive": "3s", "halfClosed": "1s",
        },
        "upstream": { "connectTimeout": "700ms" },
    } });
    Story::begin(&Terrain::standard().rule("all", RULE).settings(settings))
}

fn url(path: &str) -> String {
    format!("http://{}{path}", RECOGNITION[0])
}

#[track_caller]
fn lives_on(story: &mut Story) {
    assert!(story.is_running());
    assert_eq!(story.get("client", &url("/"), &[]), "200 v1", "the node lives on");
}

/// Waits until the samples of a metric with this label add up to this.
#[track_caller]
fn await_metric(story: &Story, name: &str, label: &str, value: f64) {
    until(&format!("{name}{{{label}}} is {value}"), || match story.admin.metric(name, &[label]) {
        found if found == value => Ok(()),
        found => Err(found.to_string()),
    });
}

/// What a client that sends these bytes gets.
#[track_caller]
fn raw(story: &Story, bytes: &[u8]) -> Result<Response, ClientError> {
    let mut connection = story.connect("client", RECOGNITION[0]);
    // The node may answer and close before everything was sent.
    let _ = connection.send_raw(bytes, LIMIT);
    connection.receive_raw(LIMIT)
}

#[test]
fn bad_requests_get_the_right_answer_and_are_counted() {
    let mut story = begin();
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(500));
    let large = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n{}", "x".repeat(200_000));
    let cases: [(&str, &[u8], u16, &str); 9] = [
        ("garbage", b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n", 400, "garbage"),
        (
            "two lengths",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            400,
            "garbage",
        ),
        ("two hosts", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, "bad_request"),
        ("no host", b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        ("long head", long.as_bytes(), 431, "head_too_large"),
        ("many headers", many.as_bytes(), 431, "head_too_large"),
        ("large body", large.as_bytes(), 413, "body_too_large"),
        ("half a head", b"GET / HTTP/1.1\r\nhost: a\r\nx-slow:", 408, "header_timeout"),
        ("connect", b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 405, "connect_method"),
    ];
    let counted = |story: &Story, cause: &str| {
        let label = format!("cause=\"{cause}\"");
        let names = ["weir_proxy_unrouted_total", "weir_proxy_local_replies_total"];
        names.iter().map(|name| story.admin.metric(name, &[&label])).sum::<f64>()
    };
    let mut wrong = Vec::new();
    for (what, bytes, status, cause) in cases {
        let before = counted(&story, cause);
        match raw(&story, bytes) {
            Ok(got) if got.status == status => {}
            Ok(got) => wrong.push(format!("{what}: {}, not {status}", got.status)),
            Err(error) => wrong.push(format!("{what}: {error}, not {status}")),
        }
        // Counted when the connection is done with, which may be after the answer.
        let deadline = Instant::now() + Duration::from_secs(3);
        while counted(&story, cause) < before + 1.0 {
            if Instant::now() > deadline {
                wrong.push(format!("{what}: not counted as {cause}"));
                break;
            }
            thread::yield_now();
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    lives_on(&mut story);
}

/// RFC 9112, section 6.1: chunks win over a length, the length must not be forwarded, and the connection is closed.
#[test]
fn a_length_beside_chunks_smuggles_nothing() {
    let mut story = begin();
    let inner = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let both = format!(
        "POST /outer HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        5 + inner.len()
    );
    let mut connection = story.connect("client", RECOGNITION[0]);
    connection.send_raw(both.as_bytes(), LIMIT).unwrap();
    let first = connection.receive_raw(LIMIT).unwrap();
    assert!([200, 400].contains(&first.status), "{first:?}");
    let second = connection.receive_raw(Duration::from_secs(5));
    assert!(
        matches!(second, Err(ClientError::Truncated { head: false, .. } | ClientError::Exchange(_))),
        "the connection goes on: {second:?}"
    );
    for seen in story.seen("v1") {
        assert_ne!(seen["path"], "/smuggled", "the length decided");
        assert!(seen["headers"]["content-length"].is_null(), "both were forwarded: {seen}");
    }
    lives_on(&mut story);
}

#[test]
fn a_chunked_body_beyond_the_limit_is_refused() {
    let mut story = begin();
    let request = Request::new("POST", &url("/upload")).unwrap().body(Payload::Chunked(1 << 20)).limit(LIMIT);
    // The bound is noticed on the way: 413, or the request is cut off. Never a success with a part of the body.
    match weir_lab::client::send(&story.lab, "client", &request) {
        Ok(response) => assert_eq!(brief(&response), "413 body_too_large"),
        Err(error) => assert!(matches!(error, ClientError::Exchange(_) | ClientError::Truncated { .. }), "{error}"),
    }
    let complete = story.seen("v1").iter().any(|seen| seen["path"] == "/upload" && seen["complete"] == json!(true));
    assert!(!complete, "the upstream must not take a part for the whole");
    lives_on(&mut story);
}

#[test]
fn an_upstream_that_is_down_slow_or_silent() {
    let mut story = begin();
    let slow = story.curl("client", &[&url("/hang")]);
    assert_eq!(slow.brief(), "504 request_timeout", "{slow:?}");
    assert!(slow.seconds < 4.0, "{slow:?}");
    story.silence("v1");
    assert_eq!(story.get("client", &url("/"), &[]), "503 connect_failed");
    story.serve("v1", Mode::Hang, "hanging");
    assert_eq!(story.get("client", &url("/"), &[]), "504 request_timeout");
    // Its link is down: nothing answers the connection.
    story.told("v1", &["ip", "link", "set", "eth0", "down"]);
    assert_eq!(story.get("client", &url("/"), &[]), "503 connect_timeout");
    for (cause, count) in [("request_timeout", 2.0), ("connect_failed", 1.0), ("connect_timeout", 1.0)] {
        await_metric(&story, "weir_proxy_local_replies_total", &format!("cause=\"{cause}\""), count);
    }
    // A link that goes down loses its IPv6 address and all routes.
    let (node, six) = (story.lab.node().clone(), story.lab.pod("v1").unwrap().ip6().unwrap());
    story.told("v1", &["ip", "link", "set", "eth0", "up"]);
    story.told("v1", &["ip", "addr", "replace", &format!("{six}/64"), "dev", "eth0", "nodad"]);
    for via in [node.ip4.to_string(), node.ip6.unwrap().to_string()] {
        story.told("v1", &["ip", "route", "replace", "default", "via", &via]);
    }
    story.serve("v1", Mode::Http, "v1");
    for url in [url("/"), format!("http://[{six}]:8080/")] {
        until("the upstream is back", || match story.get("client", &url, &[]).as_str() {
            "200 v1" => Ok(()),
            other => Err(other.to_owned()),
        });
    }
    story.write("cluster-empty.yaml", "");
    story.services().iter_mut().filter(|service| service.name == "vehicle-recognition").for_each(|s| s.pods.clear());
    let before = story.admin.sequence();
    story.write_cluster();
    story.await_version_after(before);
    assert_eq!(story.get("client", &url("/"), &[]), "503 no_endpoint");
    await_metric(&story, "weir_proxy_local_replies_total", "cause=\"no_endpoint\"", 1.0);
}

#[test]
fn a_broken_response_is_never_a_short_success() {
    let mut story = begin();
    for path in ["/close-mid?announce=100000&send=5000", "/close-mid?announce=100000&send=50000&chunked=1"] {
        let answer = story.curl("client", &[&url(path)]);
        // 18: partial transfer, 56: reset; anything but a success.
        assert!([18, 56].contains(&answer.exit), "{path}: exit {} with {} bytes", answer.exit, answer.body.len());
    }
    let reset = story.curl("client", &[&url("/reset")]);
    assert_eq!(reset.brief(), "502 upstream_closed", "{reset:?}");
    until("the aborts are counted", || {
        match story.admin.metric("weir_proxy_local_replies_total", &["cause=\"upstream_aborted\""]) {
            count if count >= 2.0 => Ok(()),
            count => Err(format!("{count}")),
        }
    });
    lives_on(&mut story);
}

/// A server in a pod that answers every connection with these bytes, and closes.
#[track_caller]
fn answer_with(story: &Story, pod: &str, bytes: &'static [u8]) {
    let listener = story.lab.enter(pod, || TcpListener::bind("[::]:8080")).unwrap().unwrap();
    thread::spawn(move || {
        // Ends with the test's process; each connection is short.
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
}

#[test]
fn garbage_from_an_upstream_is_502() {
    let cases: [(&[u8], &str); 4] = [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "502 upstream_garbage"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", "502 upstream_garbage"),
        (b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n", "502 upstream_garbage"),
        (b"", "502 upstream_closed"),
    ];
    for (bytes, expected) in cases {
        let story = Story::begin(&Terrain::standard().silent("v1").rule("all", RULE));
        answer_with(&story, "v1", bytes);
        let answer = story.curl("client", &[&url("/")]);
        assert_eq!(answer.brief(), expected, "{}: {answer:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn clients_that_go_away_half_open_or_are_idle() {
    let mut story = begin();
    let aborted = story.counted("v1")["aborted"].as_u64().unwrap();
    let mut gone = story.connect("client", RECOGNITION[0]);
    gone.send_raw(b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n", LIMIT).unwrap();
    until("the request is under way", || match story.admin.status()["routes"][0]["in_flight"].as_u64() {
        Some(1..) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(gone);
    until("the upstream is told", || match story.counted("v1")["aborted"].as_u64() {
        Some(now) if now > aborted => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // An idle connection is closed, in order, after its time.
    let mut idle = story.connect("client", RECOGNITION[0]);
    let request = Request::new("GET", &url("/")).unwrap();
    assert_eq!(brief(&idle.exchange(&request, LIMIT).unwrap()), "200 v1");
    let begun = Instant::now();
    assert!(matches!(idle.receive_raw(LIMIT), Err(ClientError::Truncated { head: false, got: 0 })), "closed in order");
    assert!(begun.elapsed() > Duration::from_secs(1), "closed after {:?}, not the configured 3 s", begun.elapsed());
    lives_on(&mut story);
}

/// Clients whose machine is gone without a word: nothing ends their connections but the bounds.
#[test]
fn half_open_connections_are_let_go_and_counted() {
    let settings = json!({ "proxy": { "downstream": { "keepAlive": "2s", "streamIdle": "1s" } } });
    let mut story =
        Story::begin(&Terrain::standard().rule("all", "{services: [vehicle-recognition]}").settings(settings));
    let mut idle = story.connect("client", RECOGNITION[0]);
    let request = Request::new("GET", &url("/")).unwrap();
    assert_eq!(brief(&idle.exchange(&request, LIMIT).unwrap()), "200 v1");
    // One more is in the middle of a response that is larger than all buffers on the way, and is not read.
    let mut busy = story.connect("client", RECOGNITION[0]);
    busy.send_raw(b"GET /bytes/268435456 HTTP/1.1\r\nhost: a\r\n\r\n", LIMIT).unwrap();
    until("the response is under way", || match story.admin.status()["routes"][0]["in_flight"].as_u64() {
        Some(1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let open = "side=\"downstream\"";
    assert_eq!(story.admin.metric("weir_proxy_connections", &[open]), 2.0);
    story.told("client", &["ip", "link", "set", "eth0", "down"]);
    // The one at rest, and the one whose response did not move.
    await_metric(&story, "weir_proxy_connections", open, 0.0);
    assert_eq!(story.admin.metric("weir_proxy_events_total", &["event=\"idle_closed\""]), 2.0);
    await_metric(&story, "weir_proxy_local_replies_total", "cause=\"idle_timeout\"", 1.0);
    await_metric(&story, "weir_proxy_requests_in_flight", "", 0.0);
    story.told("client", &["ip", "link", "set", "eth0", "up"]);
    story.told("client", &["ip", "route", "replace", "default", "via", &story.lab.node().ip4.to_string()]);
    until("the client is back", || match story.get("client", &url("/"), &[]).as_str() {
        "200 v1" => Ok(()),
        other => Err(other.to_owned()),
    });
    lives_on(&mut story);
}

/// The soft limit of open files of a process, set to another and returned as it was.
#[track_caller]
fn set_open_files(pid: &str, soft: &str) -> String {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(weir_lab::require("prlimit").unwrap());
        command.args(["--pid", pid]).args(arguments);
        let output = weir_lab::run(command, b"", LIMIT).unwrap();
        assert!(output.status.success(), "prlimit {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let before = run(&["--nofile", "--output", "SOFT", "--noheadings"]);
    run(&[&format!("--nofile={soft}:")]);
    before
}

#[test]
fn out_of_file_descriptors_and_back() {
    let mut story = begin();
    lives_on(&mut story);
    let pid = story.pid().to_string();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = set_open_files(&pid, &(open + 6).to_string());
    let to = format!("{}:80", RECOGNITION[0]).parse().unwrap();
    let clients: Vec<TcpStream> = (0..40).filter_map(|_| story.lab.connect("client", to, LIMIT).ok()).collect();
    assert!(!clients.is_empty());
    // Something about a pod changes now, which makes the node look at all of them: those that it cannot look at for want
    // of a descriptor have not gone.
    story.told("v2", &["ip", "addr", "add", "10.77.0.98/32", "dev", "eth0"]);
    story.await_log(&["looking for pods failed", "os error 24"]);
    // The API needs descriptors, too, so that the count is read when there are some again. The processor tells
    // whether the node spins meanwhile.
    let used = || story.processor_time();
    let (begun, at_first) = (Instant::now(), used());
    let late = story.curl("client", &["--max-time", "1", &url("/")]);
    let spent = used() - at_first;
    assert!(
        spent < begun.elapsed().mul_f64(0.8),
        "out of descriptors the node spins: {spent:?} of {:?} ({late:?})",
        begun.elapsed()
    );
    set_open_files(&pid, &before);
    drop(clients);
    until("the node serves again", || match story.get("client", &url("/"), &["connection: close"]).as_str() {
        "200 v1" => Ok(()),
        other => Err(other.to_owned()),
    });
    let exhausted = story.admin.connections("accept_exhausted");
    assert!(exhausted > 0, "the shortage is counted");
    story.await_log(&["pods on the bridge"]);
    let log = story.log();
    let forgotten = |line: &&str| line.contains("pods on the bridge") && !line.contains("unresolved=[]");
    assert_eq!(log.lines().find(forgotten), None, "no pod was taken for gone");
    lives_on(&mut story);
}

/// Clients of a load, each with one connection.
const CLIENTS: usize = 4;

#[test]
fn kill_9_under_load_then_a_restart() {
    let mut story =
        Story::begin(&Terrain::standard().rule("all", "{services: [vehicle-recognition], timeouts: {request: 5s}}"));
    let request = Request::new("GET", &url("/fast")).unwrap();
    let load = Load::start(&story.lab, "client", CLIENTS, &request, |response| match brief(response) {
        right if right == "200 v1" => Ok(()),
        other => Err(other),
    });
    load.await_good(300);
    let version = story.admin.current();
    let killed = Instant::now();
    story.kill9();
    let gone = Instant::now();
    story.start();
    let back = killed.elapsed();
    load.await_good(300);
    let report = load.stop();
    assert_eq!(story.admin.current()["version_id"], version["version_id"], "the last good version");
    // Connections of the dying process break, also new ones until the kernel has closed its listeners. What begins when
    // the process is gone waits for the next one, and succeeds.
    let late: Vec<_> = report.failures.iter().filter(|failure| failure.begun > gone).collect();
    assert!(late.is_empty(), "begun after the process was gone: {late:#?}");
    let before = report.failures.iter().filter(|failure| failure.begun <= killed).count();
    assert!(before <= CLIENTS, "one request of each client was under way: {report:#?}");
    assert!(report.failed <= 20, "all failures are looked at: {report:#?}");
    let silent = report.failures.iter().filter(|failure| failure.why.contains("no complete response")).count();
    assert_eq!(silent, 0, "a broken connection is told, not left hanging: {report:#?}");
    println!(
        "kill -9 under load: gone after {:?}, ready again after {back:?}, {} requests good, {before} broken, {} refused \
         while it died",
        gone - killed,
        report.good,
        report.failed as usize - before,
    );
}

#[test]
fn a_restart_in_order_under_load_loses_no_request() {
    let mut story =
        Story::begin(&Terrain::standard().rule("all", "{services: [vehicle-recognition], timeouts: {request: 5s}}"));
    story.overlay(json!({ "interception": { "onStop": "keep" } }));
    story.restart();
    let kept = Request::new("GET", &url("/fast")).unwrap();
    let new = kept.clone().header("connection", "close");
    let loads = [kept, new].map(|request| {
        Load::start(&story.lab, "client", 3, &request, |response| match brief(response) {
            right if right == "200 v1" => Ok(()),
            other => Err(other),
        })
    });
    loads.iter().for_each(|load| load.await_good(100));
    story.restart();
    loads.iter().for_each(|load| load.await_good(100));
    for load in loads {
        let report = load.stop();
        println!("restart in order under load: {} requests good, the slowest {:?}", report.good, report.slowest);
        // What was accepted is answered, and kept programs make new connections wait for the next process.
        assert_eq!(report.failed, 0, "{report:#?}");
    }
}

#[test]
fn a_port_that_is_not_http_is_passed_on_or_refused() {
    let mut story = begin();
    let mut silent = story.lab.connect("client", format!("{}:80", RECOGNITION[0]).parse().unwrap(), LIMIT).unwrap();
    silent.set_read_timeout(Some(LIMIT)).unwrap();
    // Says nothing at all on a port that is known to be HTTP: ended by the bound on the head.
    let mut answer = Vec::new();
    match silent.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    lives_on(&mut story);
}
