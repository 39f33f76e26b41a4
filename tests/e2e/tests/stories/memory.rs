//! What a node holds in memory when there is much of something: connections at rest, rules.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use weir_e2e::{RECOGNITION, Story, Terrain, until};
use weir_lab::client::{Connection, Request};

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(10);

/// How many files a process may have open: the soft limit and the hard one.
fn open_files(pid: u32) -> (u64, u64) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().unwrap_or(u64::MAX));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Sets this process's soft limit.
fn set_open_files(soft: u64) {
    let this = std::process::id().to_string();
    let prlimit = weir_lab::require("prlimit").unwrap();
    let output = Command::new(prlimit).args(["--pid", &this, &format!("--nofile={soft}:")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn ten_thousand_connections_at_rest() {
    const COUNT: usize = 10_000;
    let (_, hard) = open_files(std::process::id());
    assert!(hard >= COUNT as u64 + 500, "the hard limit on open files is {hard}; this test needs {COUNT} and some");
    // As systemd starts services: the node has to raise it by itself.
    set_open_files(1_024);
    let rule = "{services: [vehicle-recognition], timeouts: {request: 5s}}";
    let story = Story::begin(&Terrain::standard().rule("all", rule));
    assert_eq!(open_files(story.pid()), (hard, hard));
    set_open_files(hard);
    let request = Request::new("GET", &format!("http://{}/", RECOGNITION[0])).unwrap();
    let ask = |connection: &mut Connection| connection.exchange(&request, LIMIT).map(|response| response.status);
    let to = format!("{}:80", RECOGNITION[0]);
    let mut open: Vec<Connection> = (0..COUNT).map(|_| story.connect("client", &to)).collect();
    for connection in &mut open {
        assert_eq!(ask(connection).unwrap(), 200);
    }
    // As soon as they rest, they keep no buffers.
    until("connections to rest", || {
        let rested = story.admin.metric("weir_proxy_events_total", &["event=\"rested\""]);
        if rested >= COUNT as f64 { Ok(()) } else { Err(rested) }
    });
    until("memory of connections that rest", || {
        let now = story.resident();
        if now < 100 * MIB { Ok(()) } else { Err(format!("{} MiB", now / MIB)) }
    });
    println!("{COUNT} connections at rest: {} MiB", story.resident() / MIB);
    let connections = story.admin.metric("weir_workload_connections", &["source=\"client\""]);
    assert_eq!(connections, COUNT as f64);
    for connection in open.iter_mut().step_by(97) {
        assert_eq!(ask(connection).unwrap(), 200);
    }
}

#[test]
fn ten_thousand_rules() {
    let rules: String = (0..10_000).fold(String::new(), |mut text, number| {
        let _ = write!(
            text,
            "---\napiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {{name: rule-{number}}}\nspec:\n  services: \
             [vehicle-recognition]\n  match: {{headers: {{x-user: {{exact: user-{number}}}}}}}\n  route: {{destination: \
             {{host: service-canary, port: 8080}}}}\n"
        );
        text
    });
    let story = Story::begin(&Terrain::standard().file("rules.yaml", rules));
    let ask = |user: &str| story.get("client", &format!("http://{}/", RECOGNITION[0]), &[user]);
    assert_eq!(ask("x-user: user-9999"), "200 v2");
    assert_eq!(ask("x-user: user-10000"), "200 v1");
    // What reading them has taken is given back. (60 MiB with the pages of the binary that is shipped, of which 10 MiB
    // are mapped then: docs/performance.md.)
    until("memory of rules", || {
        let now = story.allocated();
        if now < 50 * MIB { Ok(()) } else { Err(format!("{} MiB", now / MIB)) }
    });
    println!("10,000 rules: {} MiB allocated, {} MiB resident", story.allocated() / MIB, story.resident() / MIB);
}
