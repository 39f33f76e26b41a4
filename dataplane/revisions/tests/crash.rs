//! Kills a process that records without end, again and again, and looks at what it left.
//!
//! The process that is killed is this program again, asked by an environment variable to be the child.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::*;
use weir_core::revision::Sequence;
use weir_revisions::*;

const ROUNDS: u64 = 20;
const CHILD: &str = "WEIR_TEST_RECORD_WITHOUT_END";
/// What begins a line of the child; the test harness prints lines of its own.
const MARK: &str = "recorded ";

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    if let Some(state) = std::env::var_os(CHILD) {
        return record_without_end(Path::new(&state));
    }
    let state = tempfile::tempdir().unwrap();
    let mut known = 0;
    for round in 0..ROUNDS {
        let acknowledged = kill_one(state.path(), round);
        known = check(state.path(), known.max(acknowledged));
    }
    assert!(known > ROUNDS, "the child recorded nothing to speak of");
}

/// Applies other content each time, and says what is recorded.
fn record_without_end(state: &Path) {
    let mut node = Node::start(state);
    let mut out = std::io::stdout();
    loop {
        let host = format!("host-{}", node.in_force() % 5);
        let cycle = node.apply(&padded(&host, 16));
        assert!(outcome(&cycle).starts_with("applied"), "{cycle:?}");
        assert!(node.publisher.reader().current().unwrap().is_recorded);
        writeln!(out, "{MARK}{}", node.in_force()).unwrap();
    }
}

/// Lets the child work for a moment that is another each round, and kills it; the last that it said.
fn kill_one(state: &Path, round: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_acknowledged_is_lost_when_the_process_is_killed", "--nocapture"])
        .env(CHILD, state)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut recorded = lines.filter_map(|line| line.rsplit_once(MARK)?.1.parse::<u64>().ok());
    let mut last = 0;
    for _ in 0..=(round % 3) {
        last = recorded.next().expect("the child records");
    }
    // Into the middle of the next write: writes take between one and some tens of milliseconds.
    let until = Instant::now() + Duration::from_micros(round * 337 % 4000);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died counts too.
    recorded.last().unwrap_or(last)
}

/// The log opens, has everything that was acknowledged, and all of it is whole; its newest sequence.
fn check(state: &Path, acknowledged: u64) -> u64 {
    let log = Log::open(state, Retention::default()).unwrap();
    assert!(!state.join("revisions.redb.damaged").exists());
    let records = log.list(usize::MAX, None).unwrap();
    let newest = records[0].sequence.0;
    assert!(newest == acknowledged || newest == acknowledged + 1, "{newest} after {acknowledged}");
    for pair in records.windows(2) {
        assert_eq!(pair[0].parent, Some(pair[1].version()));
    }
    for record in &records {
        log.documents(record.sequence).unwrap();
        log.graph(record.sequence).unwrap();
    }
    let seen = log.seen("folder").unwrap().unwrap();
    assert_eq!(seen.version_id, records[0].version_id, "the source and the revision are written together");
    drop(log);
    let node = Node::start(state);
    assert_eq!(node.snapshot.load().sequence, Sequence(newest));
    newest
}
