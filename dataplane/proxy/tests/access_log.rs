//! The access log: what lines say, and which requests have one.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::http2::{self, call, run};
use support::upstream::{Upstream, refusing};
use support::world::{RuleOf, World};
use support::{Node, get, until};
use tempfile::TempDir;
use weir_core::methods::Methods;
use weir_core::retry::{Backoff, Failures, Retry, RetryTo};
use weir_core::snapshot::Protocol;
use weir_proxy::{AccessLog, Tracing};
use weir_telemetry::access::{Destination, Format};

/// A node that tells of its requests in a file.
struct Told {
    node: Node,
    folder: TempDir,
}

impl Told {
    /// Of this share of those that go well.
    fn start(world: World, percent: f64, format: Format) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let destination = Destination::File { path: folder.path().join("access.log"), max_bytes: 1 << 20 };
        let sampled = weir_core::share::Share::from_percent(percent).unwrap();
        let node = Node::start_with(world, |settings| {
            settings.access_log = Some(AccessLog { destination, format, sampled });
            settings.tracing = Tracing { sampled_percent: Some(weir_core::share::Share::ALL) };
            // The worker's clock ticks as often as the shortest of its times wants.
            settings.downstream.half_closed = std::time::Duration::from_millis(200);
        });
        Self { node, folder }
    }

    fn text(&self) -> String {
        read(&self.folder.path().join("access.log"))
    }

    /// So many lines, when they are there.
    fn lines(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} lines"), || self.text().lines().count() >= count);
        let text = self.text();
        assert_eq!(text.lines().count(), count, "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_line_tells_where_a_request_went_and_what_became_of_it() {
    let (stable, canary, copy) = (Upstream::saying("stable"), Upstream::saying("canary"), Upstream::saying("copy"));
    let header = Some(("x-user", "canary"));
    let rule = RuleOf { header, to: vec![("canary", 1)], mirrors: vec!["copy"], ..RuleOf::default() };
    let world = World::new(&[stable.address])
        .service("canary", &[canary.address])
        .service("copy", &[copy.address])
        .version(canary.address, "v2")
        .rule(rule);
    let told = Told::start(world, 100.0, Format::default());
    let mut client = told.node.client();
    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let lines = ["x-user: canary", "user-agent: test", "x-request-id: abc", trace, "content-length: 4"];
    let request = format!("{}body", get("/a/b?secret=1", &lines));
    assert_eq!(client.ask(&request).text(), "canary");
    assert_eq!(client.ask(&get("/", &[])).text(), "stable");
    let lines = told.lines(2);
    let address = client.stream.local_addr().unwrap().to_string();
    for (field, expected) in [
        ("client", json!(address)),
        ("method", json!("GET")),
        ("host", json!("a")),
        ("path", json!("/a/b")),
        ("protocol", json!("HTTP/1.1")),
        ("service", json!("default/a:80")),
        ("rule", json!("RouteRule default/rule-0")),
        ("destination", json!("default/canary:80")),
        ("version", json!("v2")),
        ("endpoint", json!(canary.address.to_string())),
        ("mirrors", json!(["default/copy:80"])),
        ("status", json!(200)),
        ("retries", json!(0)),
        ("revision", json!(1)),
        ("request_bytes", json!(4)),
        ("response_bytes", json!("canary".len())),
        ("request_id", json!("abc")),
        ("trace_id", json!("0af7651916cd43dd8448eb211c80319c")),
        ("user_agent", json!("test")),
    ] {
        assert_eq!(lines[0][field], expected, "{field}: {}", lines[0]);
    }
    let micros = |line: &Value, field: &str| line[field].as_u64().unwrap();
    assert!(micros(&lines[0], "response_us") <= micros(&lines[0], "duration_us"), "{}", lines[0]);
    // Without a rule; its id and its trace are the ones that the endpoint got.
    let seen = &stable.requests()[0];
    assert_eq!(lines[1]["destination"], "default/a:80");
    assert_eq!(
        (&lines[1]["rule"], &lines[1]["mirrors"], &lines[1]["cause"]),
        (&json!(null), &json!(null), &json!(null))
    );
    assert_eq!(lines[1]["request_id"].as_str(), seen.header("x-request-id"));
    let trace = lines[1]["trace_id"].as_str().unwrap();
    assert!(seen.header("traceparent").unwrap().contains(trace), "{}", lines[1]);
}

#[test]
fn what_fails_always_has_a_line_and_what_goes_well_by_chance() {
    for (percent, least, most) in [(0.0, 0, 0), (50.0, 60, 140), (100.0, 200, 200)] {
        let endpoint = Upstream::answering_in_turn(&[200]);
        let broken = RuleOf { header: Some(("x-to", "nowhere")), to: vec![("nowhere", 1)], ..RuleOf::default() };
        let refused = RuleOf { header: Some(("x-to", "refusing")), to: vec![("refusing", 1)], ..RuleOf::default() };
        let world = World::new(&[endpoint.address]).service("refusing", &[refusing()]).rule(broken).rule(refused);
        let world = world.pod("client-1", "client", "127.0.0.1");
        let told = Told::start(world, percent, Format::template("{status} {cause} {source} {endpoint}").unwrap());
        let mut client = told.node.client();
        for _ in 0..200 {
            assert_eq!(client.ask(&get("/", &[])).status(), 200);
        }
        assert_eq!(client.ask(&get("/", &["x-to: nowhere"])).status(), 500);
        assert_eq!(client.ask(&get("/", &["x-to: refusing"])).status(), 503);
        // Refused before any rule is looked at.
        assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").status(), 400);
        until("the last line", || told.text().contains("400 bad_request default/client-1 -"));
        let text = told.text();
        let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!(
            (count("500 unresolved default/client-1 -"), count("503 connect_failed default/client-1 127.0.0.1:")),
            (1, 1),
            "{text}"
        );
        assert!((least..=most).contains(&count("200 - default/client-1 127")), "{percent} %: {text}");
    }
}

#[test]
fn retries_and_calls_are_told_as_they_ended() {
    let (failing, stable) = (Upstream::answering_in_turn(&[503]), Upstream::saying("stable"));
    let mut on = Failures::unanswered();
    on.add_statuses([503]);
    let backoff = Backoff::from_base(std::time::Duration::from_millis(1));
    let retry = Retry {
        attempts: 1,
        on,
        methods: Methods::Idempotent,
        backoff,
        hedge_after: None,
        to: RetryTo::Other("stable"),
    };
    let rule = RuleOf { to: vec![("a", 1)], retry: Some(retry), ..RuleOf::default() };
    let world = World::new(&[failing.address]).service("stable", &[stable.address]).rule(rule);
    let told = Told::start(world, 100.0, Format::default());
    assert_eq!(told.node.ask(&get("/", &[])).text(), "stable");
    let line = &told.lines(1)[0];
    assert_eq!((&line["retries"], &line["destination"]), (&json!(1), &json!("default/stable:80")), "{line}");
    assert_eq!(line["endpoint"], stable.address.to_string());

    let world = World::new(&[refusing()]).protocol(Protocol::Http2);
    let told = Told::start(world, 0.0, Format::default());
    run(async { http2::Client::connect(told.node.address).await.ask(call("/a.B/C", b"\0\0\0\0\0")).await });
    let line = &told.lines(1)[0];
    let found = (&line["protocol"], &line["status"], &line["grpc_status"], &line["cause"]);
    assert_eq!(found, (&json!("HTTP/2"), &json!(200), &json!("14"), &json!("connect_failed")), "{line}");
}

#[test]
fn a_node_that_ends_has_written_everything() {
    let endpoint = Upstream::saying("endpoint");
    let mut told = Told::start(World::new(&[endpoint.address]), 100.0, Format::template("{path}").unwrap());
    let mut client = told.node.client();
    (0..50).for_each(|number| drop(client.ask(&get(&format!("/{number}"), &[]))));
    told.node.drain.finish(std::time::Duration::ZERO);
    told.node.join().unwrap();
    let expected: String = (0..50).map(|number| format!("/{number}\n")).collect();
    assert_eq!(told.text(), expected);
    assert_eq!(told.node.metric("weir_access_log_lines_total", "written"), 50.0);
}
