//! `weir status`: what a running node is doing.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::{print, print_json};
use crate::Output;
use crate::client::Node;

/// Show what a running node is doing
#[derive(Debug, clap::Args)]
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
        format!("waiting for {}", status["waiting_for"])
    };
    let id = word(&status["version_id"]);
    let _ = writeln!(text, "node {} (weir {}): {ready}", word(&status["node"]), word(&status["version"]));
    let _ = writeln!(text, "revision {} (version {}) in force", status["sequence"], id.get(..12).unwrap_or(id));
    if let Some(diagnostics) = status["rejected"]["diagnostics"].as_array() {
        let _ = writeln!(text, "NOT in force, rejected at {}:", word(&status["rejected"]["at"]));
        for diagnostic in diagnostics {
            let place = format!("{}:{}", word(&diagnostic["file"]), diagnostic["line"]);
            let _ = writeln!(text, "  {place} {}: {}", word(&diagnostic["field"]), word(&diagnostic["message"]));
        }
    }
    routes(&mut text, status);
    mirrors(&mut text, status);
    let _ = writeln!(text, "\nconnections");
    for (name, count) in status["connections"].as_object().into_iter().flatten().filter(|(_, count)| **count != 0) {
        let _ = writeln!(text, "  {name:<24}{count:>12}");
    }
    let _ = writeln!(text, "\nkernel{:>30}{:>16}", "packets", "bytes");
    for row in rows(status, "kernel").iter().filter(|row| row["packets"] != 0) {
        let _ = writeln!(text, "  {:<24}{:>10}{:>16}", word(&row["reason"]), row["packets"], row["bytes"]);
    }
    let _ = writeln!(text, "\npods");
    for pod in rows(status, "pods") {
        let addresses: Vec<&str> = pod["addresses"].as_array().into_iter().flatten().map(word).collect();
        let mesh = if pod["enrolled"] == Value::Bool(true) { "in the mesh" } else { "outside" };
        let _ = writeln!(text, "  {:<36}{mesh:<14}{}", word(&pod["name"]), addresses.join(" "));
    }
    text
}

fn routes(text: &mut String, status: &Value) {
    let _ = writeln!(
        text,
        "\n{:<36}{:<36}{:>10}{:>8}{:>10}{:>10}",
        "rule", "destination", "requests", "errors", "p50 us", "p99 us"
    );
    for route in rows(status, "routes") {
        let rule = route["rule"].as_str().map_or("(no rule)", |rule| rule.trim_start_matches("RouteRule "));
        let _ = writeln!(
            text,
            "{rule:<36}{:<36}{:>10}{:>8}{:>10}{:>10}",
            word(&route["destination"]),
            route["requests"],
            route["errors"],
            route["p50_us"],
            route["p99_us"],
        );
    }
}

fn mirrors(text: &mut String, status: &Value) {
    let mirrors = rows(status, "mirrors");
    if mirrors.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{:<36}{:<36}{:>10}  dropped", "mirror of", "destination", "sent");
    for mirror in mirrors {
        let not_drops = ["sent", "in_flight", "bytes"];
        let fields = mirror.as_object().into_iter().flatten();
        let drops =
            fields.filter(|(name, count)| !not_drops.contains(&name.as_str()) && count.as_u64().is_some_and(|n| n > 0));
        let drops: Vec<String> = drops.map(|(name, count)| format!("{name} {count}")).collect();
        let rule = word(&mirror["rule"]).trim_start_matches("RouteRule ");
        let _ = writeln!(
            text,
            "{rule:<36}{:<36}{:>10}  {}",
            word(&mirror["destination"]),
            mirror["sent"],
            drops.join(", ")
        );
    }
}
