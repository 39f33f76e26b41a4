//! `weir plugin`: which plugins a node runs, and what they cost.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::table::{Cell, Table};
use super::{print, print_json};
use crate::Output;
use crate::client::Node;

/// Plugins: which a running node has, what they do and what they cost
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weir plugin list
  weir plugin show canary-by-cookie
  weir plugin list --output json | jq '.[] | select(.traps > 0)'")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the plugins in force
    List(List),
    /// Show one of them
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Its name, with its namespace before a slash where that is not `default`
    name: String,
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List(List { node, output }) => {
            let plugins = plugins(node)?;
            match output {
                Output::Json => print_json(&plugins)?,
                Output::Text => print(&list(&plugins))?,
            }
        }
        Command::Show(Show { name, node, output }) => {
            let wanted = if name.contains('/') { name.clone() } else { format!("default/{name}") };
            let plugins = plugins(node)?;
            let found = plugins.iter().find(|plugin| plugin["name"] == *wanted);
            let plugin = found.ok_or_else(|| anyhow::anyhow!("there is no plugin {wanted} in force"))?;
            match output {
                Output::Json => print_json(plugin)?,
                Output::Text => print(&show(plugin))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn plugins(node: &Node) -> anyhow::Result<Vec<Value>> {
    let all = node.json(http::Method::GET, "/api/v1/plugins", None)?;
    Ok(all.as_array().cloned().unwrap_or_default())
}

/// Failures of all kinds.
fn failures(plugin: &Value) -> u64 {
    ["traps", "timeouts", "no_instance"].iter().filter_map(|field| plugin[*field].as_u64()).sum()
}

fn list(plugins: &[Value]) -> String {
    if plugins.is_empty() {
        return "no plugins in force\n".to_owned();
    }
    let mut table = Table::default();
    let numbers = ["calls", "p50 us", "p99 us", "failures", "instances", "memory KiB"].map(Cell::right);
    table.row([Cell::from("plugin"), Cell::from("services")].into_iter().chain(numbers));
    for plugin in plugins {
        let services: Vec<&str> =
            plugin["services"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let memory = plugin["memory_bytes"].as_u64().unwrap_or_default() >> 10;
        table.row([
            Cell::from(&plugin["name"]),
            services.join(" ").into(),
            Cell::from(&plugin["calls"]),
            Cell::from(&plugin["p50_us"]),
            Cell::from(&plugin["p99_us"]),
            Cell::right(&failures(plugin).to_string()),
            Cell::from(&plugin["instances"]),
            Cell::right(&memory.to_string()),
        ]);
    }
    table.to_string()
}

fn show(plugin: &Value) -> String {
    let mut table = Table::default();
    for (field, value) in plugin.as_object().into_iter().flatten().filter(|(field, _)| *field != "metrics") {
        let value = match value {
            Value::Array(values) => values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
            }
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        table.row([Cell::from(field.as_str()), value.into()]);
    }
    let mut text = table.to_string();
    let metrics = plugin["metrics"].as_object();
    if metrics.is_some_and(|metrics| !metrics.is_empty()) {
        let mut table = Table::default();
        table.row(["metric".into(), "kind".into(), Cell::right("value"), Cell::right("count")]);
        for (name, metric) in metrics.into_iter().flatten() {
            table.row([
                name.as_str().into(),
                (&metric["kind"]).into(),
                (&metric["value"]).into(),
                (&metric["count"]).into(),
            ]);
        }
        let _ = write!(text, "\n{table}");
    }
    text
}
