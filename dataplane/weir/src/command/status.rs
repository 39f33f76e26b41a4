//! `weir status`: what a running node is doing.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;
use weir_config::Diagnostic;

use super::table::{Cell, Table};
use super::{counted, print, print_json};
use crate::Output;
use crate::client::Node;

/// Show what a running node is doing: what is in force, where requests went, what the kernel did, which pods there are
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weir status
  weir status --admin unix:/run/weir/admin.sock
  weir status --output json | jq .rejected")]
pub(crate) struct Args {
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let status = args.node.json(http::Method::GET, "/api/v1/status", None)?;
    match args.output {
        Output::Json => print_json(&status)?,
        Output::Text => print(&text(&status))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Warnings that are listed; `--output json` has all.
const WARNINGS: usize = 10;

/// What is wrong with the sources, with what they have, and with what is in force.
fn troubles(text: &mut String, status: &Value) {
    for source in rows(status, "sources") {
        let what = format!("source {} ({})", word(&source["name"]), word(&source["location"]));
        if !rows(source, "problems").is_empty() {
            let _ = writeln!(text, "{what} CANNOT be read, what is in force stays:");
            diagnostics(text, rows(source, "problems"));
        }
        if !rows(source, "warnings").is_empty() {
            let _ = writeln!(text, "{what}, warnings:");
            diagnostics(text, rows(source, "warnings"));
        }
    }
    if let Some(wrong) = status["rejected"]["diagnostics"].as_array() {
        let _ = writeln!(text, "NOT in force, rejected at {}:", word(&status["rejected"]["at"]));
        diagnostics(text, wrong);
    }
    let warnings = rows(status, "warnings");
    if !warnings.is_empty() {
        let _ = writeln!(text, "in force with {}:", counted(warnings.len(), "warning"));
        diagnostics(text, &warnings[..warnings.len().min(WARNINGS)]);
        if warnings.len() > WARNINGS {
            let _ = writeln!(text, "  and {} more", warnings.len() - WARNINGS);
        }
    }
}

fn diagnostics(text: &mut String, diagnostics: &[Value]) {
    for diagnostic in diagnostics {
        let _ = match serde_json::from_value::<Diagnostic>(diagnostic.clone()) {
            Ok(diagnostic) => writeln!(text, "  {diagnostic}"),
            // Of a version that says it in another way.
            Err(_) => writeln!(text, "  {diagnostic}"),
        };
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn rows<'a>(status: &'a Value, field: &str) -> &'a [Value] {
    status[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(status: &Value) -> String {
    let mut text = String::new();
    let ready = if status["ready"] == Value::Bool(true) {
        "ready".to_owned()
    } else {
        let what: Vec<&str> = rows(status, "waiting_for").iter().map(word).collect();
        format!("waiting for {}", what.join(", "))
    };
    let id = word(&status["version_id"]);
    let _ = writeln!(text, "node {} (weir {}): {ready}", word(&status["node"]), word(&status["version"]));
    let _ = match status["sequence"].as_u64().unwrap_or_default() {
        0 => writeln!(text, "no revision in force yet"),
        sequence => writeln!(text, "revision {sequence} (version {}) in force", id.get(..12).unwrap_or(id)),
    };
    troubles(&mut text, status);
    gateways(&mut text, status);
    certificates(&mut text, status);
    identities(&mut text, status);
    plaintext(&mut text, status);
    routes(&mut text, status);
    mirrors(&mut text, status);
    workloads(&mut text, status);
    let mut connections = Table::default();
    connections.row(["connections".into(), Cell::right("count")]);
    for (name, count) in status["connections"].as_object().into_iter().flatten().filter(|(_, count)| **count != 0) {
        connections.row([name.as_str().into(), count.into()]);
    }
    let mut kernel = Table::default();
    kernel.row(["kernel".into(), Cell::right("packets"), Cell::right("bytes")]);
    for row in rows(status, "kernel").iter().filter(|row| row["packets"] != 0) {
        kernel.row([&row["reason"], &row["packets"], &row["bytes"]].map(Cell::from));
    }
    let mut pods = Table::default();
    pods.row(["pod", "mesh", "addresses"].map(Cell::from));
    for pod in rows(status, "pods") {
        let addresses: Vec<&str> = pod["addresses"].as_array().into_iter().flatten().map(word).collect();
        let mesh = if pod["enrolled"] == Value::Bool(true) { "enrolled" } else { "outside" };
        pods.row([word(&pod["name"]).into(), mesh.into(), addresses.join(" ").into()]);
    }
    for table in [connections, kernel, pods] {
        let _ = write!(text, "\n{table}");
    }
    text
}

/// Where gateways listen.
fn gateways(text: &mut String, status: &Value) {
    let gateways = rows(status, "gateways");
    if gateways.is_empty() {
        return;
    }
    let mut table = Table::default();
    table.row(["gateway".into(), "listeners".into()]);
    for gateway in gateways {
        let listeners: Vec<&str> = rows(gateway, "listeners").iter().map(word).collect();
        let listeners = listeners.join(", ");
        let listeners = match gateway["failure"].as_str() {
            Some(failure) => format!("NOT served: {failure} ({listeners})"),
            None => listeners,
        };
        table.row([word(&gateway["address"]).into(), listeners.into()]);
    }
    let _ = write!(text, "\n{table}");
}

/// What gateways show their clients.
fn certificates(text: &mut String, status: &Value) {
    let certificates = rows(status, "certificates");
    if certificates.is_empty() {
        return;
    }
    let mut table = Table::default();
    table.row(["certificate".into(), "valid until".into(), "trouble".into()]);
    for certificate in certificates {
        let until = certificate["not_after"].as_str().unwrap_or("NOT there");
        let trouble = certificate["failure"].as_str().unwrap_or("none");
        table.row([word(&certificate["name"]), until, trouble].map(Cell::from));
    }
    let _ = write!(text, "\n{table}");
}

/// What the node's workloads show to other nodes.
fn identities(text: &mut String, status: &Value) {
    let identities = &status["identities"];
    if identities.is_null() {
        return;
    }
    if let Some(failure) = identities["failure"].as_str() {
        let _ = writeln!(text, "\nidentities CANNOT be read, those that there are stay: {failure}");
    }
    let mut table = Table::default();
    table.row(["identity", "valid until", "renewed at", "trouble"].map(Cell::from));
    for one in rows(identities, "certificates") {
        let until = one["not_after"].as_str().unwrap_or("NOT there");
        let trouble = one["failure"].as_str().unwrap_or("none");
        table.row([word(&one["principal"]), until, word(&one["renewal"]), trouble].map(Cell::from));
    }
    let _ = write!(text, "\n{table}");
}

/// Who sends in the clear from other nodes.
fn plaintext(text: &mut String, status: &Value) {
    let plaintext = rows(status, "plaintext");
    if plaintext.is_empty() {
        return;
    }
    let mut table = Table::default();
    table.row(["in the clear, from".into(), "to".into(), Cell::right("told"), "last".into(), "let in".into()]);
    for one in plaintext {
        let let_in = if one["let_in"] == Value::Bool(true) { "yes" } else { "no" };
        let (from, to, last) = (word(&one["source"]), word(&one["destination"]), word(&one["last"]));
        table.row([from.into(), to.into(), (&one["told"]).into(), last.into(), let_in.into()]);
    }
    let _ = write!(text, "\n{table}");
}

/// The name of a rule without its kind.
fn rule(value: &Value) -> Cell {
    value.as_str().map_or("(no rule)", |rule| rule.trim_start_matches("RouteRule ")).into()
}

fn routes(text: &mut String, status: &Value) {
    let mut table = Table::default();
    // Errors that clients did not see, because their requests were tried again.
    let has_retries = rows(status, "routes").iter().any(|route| route["failed_tries"].as_u64().is_some_and(|n| n > 0));
    let columns: Vec<(&str, &str)> = [
        ("requests", "requests"),
        ("errors", "errors"),
        ("failed tries", "failed_tries"),
        ("p50 µs", "p50_us"),
        ("p99 µs", "p99_us"),
    ]
    .into_iter()
    .filter(|(_, field)| has_retries || *field != "failed_tries")
    .collect();
    let titles = columns.iter().map(|(title, _)| Cell::right(title));
    table.row(["rule", "destination"].map(Cell::from).into_iter().chain(titles));
    for route in rows(status, "routes") {
        let numbers = columns.iter().map(|(_, field)| Cell::from(&route[*field]));
        table.row([rule(&route["rule"]), word(&route["destination"]).into()].into_iter().chain(numbers));
    }
    let _ = write!(text, "\n{table}");
}

fn mirrors(text: &mut String, status: &Value) {
    let mirrors = rows(status, "mirrors");
    if mirrors.is_empty() {
        return;
    }
    let mut table = Table::default();
    table.row(["mirror of".into(), "destination".into(), Cell::right("sent"), "dropped".into()]);
    for mirror in mirrors {
        let not_drops = ["sent", "in_flight", "bytes"];
        let fields = mirror.as_object().into_iter().flatten();
        let drops =
            fields.filter(|(name, count)| !not_drops.contains(&name.as_str()) && count.as_u64().is_some_and(|n| n > 0));
        let drops: Vec<String> = drops.map(|(name, count)| format!("{name} {count}")).collect();
        let drops = if drops.is_empty() { "none".to_owned() } else { drops.join(", ") };
        table.row([rule(&mirror["rule"]), word(&mirror["destination"]).into(), (&mirror["sent"]).into(), drops.into()]);
    }
    let _ = write!(text, "\n{table}");
}

/// Who asks, and what it costs.
fn workloads(text: &mut String, status: &Value) {
    let workloads = rows(status, "workloads");
    if workloads.is_empty() {
        return;
    }
    let mut table = Table::default();
    let titles = ["connections", "requests", "errors", "cpu ms"].map(Cell::right);
    table.row(std::iter::once("workload".into()).chain(titles).chain(["refused".into()]));
    for workload in workloads {
        let refused = workload["refused"].as_object().into_iter().flatten();
        let refused: Vec<String> = refused.map(|(what, count)| format!("{what} {count}")).collect();
        let refused = if refused.is_empty() { "none".to_owned() } else { refused.join(", ") };
        let cpu = Value::from(workload["cpu_ms"].as_f64().unwrap_or_default().round() as u64);
        let numbers = [&workload["connections"], &workload["requests"], &workload["errors"], &cpu].map(Cell::from);
        let name = word(&workload["workload"]).into();
        table.row(std::iter::once(name).chain(numbers).chain([refused.into()]));
    }
    let _ = write!(text, "\n{table}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::text;

    fn diagnostic(message: &str) -> serde_json::Value {
        json!({"severity": "warning", "file": "rules.yaml", "line": 3, "column": 5, "field": "spec.route", "message": message})
    }

    #[test]
    fn everything_that_needs_eyes_is_said() {
        let warnings: Vec<_> = (0..12).map(|n| diagnostic(&format!("warning {n}"))).collect();
        let status = json!({
            "node": "edge-1", "version": "0.1.0", "ready": true, "sequence": 7, "version_id": "0123456789abcdef",
            "sources": [{"name": "rules", "location": "/etc/weir", "problems": [diagnostic("a broken link")],
                         "warnings": [diagnostic("an unknown kind")]}],
            "rejected": {"at": "2026-01-02T03:04:05Z", "diagnostics": [diagnostic("no such field")]},
            "warnings": warnings,
        });
        let text = text(&status);
        for expected in [
            "node edge-1 (weir 0.1.0): ready\n",
            "revision 7 (version 0123456789ab) in force\n",
            "source rules (/etc/weir) CANNOT be read, what is in force stays:\n",
            "a broken link",
            "source rules (/etc/weir), warnings:\n",
            "an unknown kind",
            "NOT in force, rejected at 2026-01-02T03:04:05Z:\n",
            "no such field",
            "in force with 12 warnings:\n",
            "warning 9",
            "  and 2 more\n",
        ] {
            assert!(text.contains(expected), "{expected} in:\n{text}");
        }
        assert!(!text.contains("warning 10"), "{text}");
    }

    #[test]
    fn what_is_not_in_force_is_said_first() {
        let status = json!({"node": "edge-1", "version": "0.1.0", "ready": false, "sequence": 0, "version_id": null,
                            "waiting_for": ["configuration", "eBPF"], "warnings": [diagnostic("one")]});
        let text = text(&status);
        assert!(
            text.starts_with("node edge-1 (weir 0.1.0): waiting for configuration, eBPF\nno revision in force yet\n"),
            "{text}"
        );
        assert!(text.contains("in force with 1 warning:\n"), "{text}");
    }
}
