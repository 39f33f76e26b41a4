//! The closed load: wrk on a core of its own sends as fast as the answers come.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tokio::{process::Command, time::timeout};

use crate::process::Launch;

/// How much longer than its load wrk may run.
const GRACE: Duration = Duration::from_secs(15);

/// One closed load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) path: &'static str,
    /// Bytes of a POST's body; zero for a GET.
    pub(crate) body: usize,
    /// Whether each request opens a connection of its own.
    pub(crate) lifetime: Lifetime,
}

/// How long a connection of the load lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    Kept,
    PerRequest,
}

/// What wrk counted; times in microseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) duration: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Answers with a status of 400 or more.
    pub(crate) status: u64,
    /// Connections that failed, broke or timed out.
    pub(crate) connect: u64,
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) timeout: u64,
}

/// Runs one load from `core` for the given time (wrk counts whole seconds).
pub(crate) async fn run(
    load: &Load,
    address: SocketAddr,
    core: usize,
    seconds: u64,
    directory: &Path,
) -> anyhow::Result<Outcome> {
    let script = directory.join("load.lua");
    fs::write(&script, lua(load)).with_context(|| format!("write {}", script.display()))?;
    let connections = load.connections.to_string();
    let args = ["-t1", "-c", &connections, "-d", &format!("{seconds}s"), "--timeout", "5s", "--latency", "-s"];
    let mut args: Vec<_> = args.iter().map(Into::into).collect();
    args.extend([script.into(), format!("http://{address}{}", load.path).into()]);
    let launch = Launch { program: "wrk".into(), args, core };
    let mut command = Command::from(launch.command());
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(Duration::from_secs(seconds) + GRACE, run).await.context("wrk did not end")?;
    let output = output.context("run wrk (tests/bench/install.sh installs it)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.strip_prefix("outcome ")).context("wrk printed no outcome")?;
    serde_json::from_str(line).with_context(|| format!("read wrk's outcome {line}"))
}

fn lua(load: &Load) -> String {
    let mut script = "wrk.headers['x-user-tag'] = 'canary-user'\n".to_owned();
    if load.lifetime == Lifetime::PerRequest {
        script.push_str("wrk.headers['Connection'] = 'close'\n");
    }
    if load.body > 0 {
        script.push_str(&format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {})\n", load.body));
    }
    script.push_str(
        r#"function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'outcome {"requests":%d,"duration":%d,"p50":%d,"p99":%d,"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect, e.read, e.write, e.timeout))
end
"#,
    );
    script
}
