//! Asking: curl in a pod, and the node about its reasons.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::command::quoted;
use crate::lab::running::Running;

/// A request in the lab takes milliseconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long the lab waits for something to come about.
const PATIENCE: Duration = Duration::from_secs(10);

/// What curl got.
pub(in crate::lab) struct Answer {
    pub(in crate::lab) status: u16,
    /// The server that answered, by its own words; empty when none did.
    pub(in crate::lab) server: String,
    pub(in crate::lab) body: Value,
}

/// curl in a pod, with these arguments.
pub(in crate::lab) fn curl(running: &Running, pod: &str, arguments: &[&str]) -> anyhow::Result<Answer> {
    let mut words = vec!["curl", "-sS", "--max-time", "5", "-w", "\n%{http_code}"];
    words.extend(arguments);
    let output = running.lab.run(pod, &words, REQUEST_LIMIT)?;
    let (text, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}: {}", shown(running, pod, arguments), complaint.trim());
    let (body, status) = text.rsplit_once('\n').context("curl printed no status")?;
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    let server = body["server"].as_str().unwrap_or_default().to_owned();
    Ok(Answer { status: status.trim().parse()?, server, body })
}

/// The command that a user would type for it.
pub(in crate::lab) fn shown(running: &Running, pod: &str, arguments: &[&str]) -> String {
    let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
    format!("{} {pod} -- curl -s {}", running.exec, words.join(" "))
}

/// That this server answered with 200.
pub(in crate::lab) fn expect(answer: &Answer, server: &str) -> anyhow::Result<String> {
    let told = if answer.server.is_empty() { answer.body.to_string() } else { answer.server.clone() };
    ensure!(answer.status == 200 && answer.server == server, "{} from {told}, not 200 from {server}", answer.status);
    Ok(format!("200 from {server}"))
}

/// Why the node sends a request where it does: the rule that wins, with its conditions.
pub(in crate::lab) fn why(running: &Running, url: &str, method: &str, headers: &[&str]) -> anyhow::Result<String> {
    let described = json!({ "url": url, "method": method, "headers": headers, "from": "client" });
    let explanation = running.node.json(http::Method::POST, "/api/v1/explain", Some(&described))?;
    let entries = explanation["entries"].as_array().cloned().unwrap_or_default();
    let revision = &explanation["sequence"];
    let winner = entries.iter().find(|entry| entry["wins"] == json!(true));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(match winner {
        Some(entry) => format!("{}: {} (revision {revision})", text(&entry["rule"]), text(&entry["conditions"])),
        None if entries.is_empty() => format!("{} (revision {revision})", text(&explanation["interception"])),
        None => format!("no rule matches, so it goes to the service it asked for (revision {revision})"),
    })
}

/// The rule that decides a request of the client's pod, if one does.
pub(in crate::lab) fn decided_by(
    running: &Running,
    url: &str,
    method: &str,
    headers: &[&str],
) -> anyhow::Result<Option<String>> {
    let described = json!({ "url": url, "method": method, "headers": headers, "from": "client" });
    let explanation = running.node.json(http::Method::POST, "/api/v1/explain", Some(&described))?;
    Ok(explanation["rule"].as_str().map(str::to_owned))
}

/// The version in force.
pub(in crate::lab) fn current(running: &Running) -> anyhow::Result<Value> {
    running.node.json(http::Method::GET, "/api/v1/version/current", None)
}

/// Waits until `found` gives something, and says how long that took.
pub(in crate::lab) fn wait_for<T>(
    what: &str,
    mut found: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(value) = found()? {
            return Ok((value, start.elapsed()));
        }
        if start.elapsed() > PATIENCE {
            bail!("{what} did not come about within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a revision other than `old`.
pub(in crate::lab) fn next_revision(running: &Running, old: &Value) -> anyhow::Result<(Value, Duration)> {
    wait_for("a new revision", || {
        let now = current(running)?;
        Ok((now["sequence"] != old["sequence"]).then_some(now))
    })
}
