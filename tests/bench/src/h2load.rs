//! The closed load in HTTP/2: h2load on a core of its own sends as fast as the answers come.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{process::Command, time::timeout};

use crate::process::Launch;

/// How much longer than its load h2load may run.
const GRACE: Duration = Duration::from_secs(15);
/// Requests under way on one connection.
const STREAMS: usize = 32;
/// Connections.
const CONNECTIONS: usize = 8;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// The small answer.
    Get,
    /// A unary call of gRPC with 100 bytes.
    Call,
}

/// What h2load counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// Those that were not answered with a status below 400.
    pub(crate) failed: u64,
    pub(crate) per_second: f64,
}

/// Runs one load from `core` for the given time.
pub(crate) async fn run(
    load: Load,
    address: SocketAddr,
    core: usize,
    seconds: u64,
    directory: &Path,
) -> anyhow::Result<Outcome> {
    let (connections, streams) = (CONNECTIONS.to_string(), STREAMS.to_string());
    let mut args: Vec<String> =
        ["-c", &connections, "-m", &streams, "-t", "1", "-D", &seconds.to_string()].map(str::to_owned).into();
    args.extend(["-H".to_owned(), "x-user-tag: canary-user".to_owned()]);
    let mut path = "/";
    if load == Load::Call {
        let message = directory.join("message.grpc");
        let bytes = [&[0, 0, 0, 0, 100][..], &[b'x'; 100]].concat();
        fs::write(&message, bytes).with_context(|| format!("write {}", message.display()))?;
        args.extend(["-d".to_owned(), message.display().to_string()]);
        for header in ["content-type: application/grpc", "te: trailers"] {
            args.extend(["-H".to_owned(), header.to_owned()]);
        }
        path = "/bench.Bench/Unary";
    }
    args.push(format!("http://{address}{path}"));
    let launch = Launch { program: "h2load".into(), args: args.into_iter().map(Into::into).collect(), core };
    let mut command = Command::from(launch.command());
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(Duration::from_secs(seconds) + GRACE, run).await.context("h2load did not end")?;
    let output = output.context("run h2load (tests/bench/install.sh installs it)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "h2load failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    outcome(&text, seconds).with_context(|| format!("understand h2load:\n{text}"))
}

/// Reads `requests: 15 total, 15 started, 15 done, 15 succeeded, 0 failed, 0 errored, 0 timeout` and what is like it.
fn outcome(text: &str, seconds: u64) -> Option<Outcome> {
    let counts = |start: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(start))?;
        let numbers = line.split([' ', ',']).filter_map(|word| word.parse().ok());
        Some(numbers.collect::<Vec<u64>>())
    };
    let (requests, statuses) = (counts("requests: ")?, status_counts(text)?);
    let done = *requests.get(2)?;
    // What the end of the time cuts off was no failure.
    let failed = requests.get(5)? + requests.get(6)? + statuses[2] + statuses[3];
    Some(Outcome { requests: done, failed, per_second: done as f64 / seconds as f64 })
}

/// `status codes: 15 2xx, 0 3xx, 0 4xx, 0 5xx`.
fn status_counts(text: &str) -> Option<[u64; 4]> {
    let line = text.lines().find_map(|line| line.strip_prefix("status codes: "))?;
    let counts: Vec<u64> = line.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok()).collect();
    counts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_h2load_prints_is_understood() {
        let text = "finished in 5.00s, 20.00 req/s, 10KB/s\n\
            requests: 105 total, 110 started, 100 done, 98 succeeded, 2 failed, 1 errored, 0 timeout\n\
            status codes: 97 2xx, 1 3xx, 1 4xx, 1 5xx\n";
        let expected = Outcome { requests: 100, failed: 3, per_second: 20.0 };
        assert_eq!(outcome(text, 5), Some(expected));
        assert_eq!(outcome("nothing", 5), None);
    }
}
