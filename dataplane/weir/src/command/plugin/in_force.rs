//! `weir plugin list` and `show`: which plugins a node runs, and what they cost.

use std::fmt::Write as _;

use serde_json::Value;

use crate::Output;
use crate::client::Node;
use crate::command::table::{Cell, Table};
use crate::command::{print, print_json};

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Its name, with its namespace before a slash where that is not `default`
    name: String,
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl List {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let plugins = plugins(&self.node)?;
        match self.output {
            Output::Json => print_json(&plugins),
            Output::Text => print(&list(&plugins)),
        }
    }
}

impl Show {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let Self { name, node, output } = self;
        let wanted = if name.contains('/') { name.clone() } else { format!("default/{name}") };
        let plugins = plugins(node)?;
        let found = plugins.iter().find(|plugin| plugin["name"] == *wanted);
        let plugin = found.ok_or_else(|| anyhow::anyhow!("there is no plugin {wanted} in force"))?;
        match output {
            Output::Json => print_json(plugin),
            Output::Text => print(&show(plugin)),
        }
    }
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
    let texts = ["plugin", "sees", "state"].map(Cell::from);
    table.row(texts.into_iter().chain(numbers));
    for plugin in plugins {
        let sees = ["services", "gateways", "rules"].into_iter().flat_map(|field| plugin[field].as_array());
        let sees: Vec<&str> = sees.flatten().filter_map(Value::as_str).collect();
        let memory = plugin["memory_bytes"].as_u64().unwrap_or_default() >> 10;
        table.row([
            Cell::from(&plugin["name"]),
            sees.join(" ").into(),
            Cell::from(&plugin["state"]),
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
    for (field, value) in
        plugin.as_object().into_iter().flatten().filter(|(field, _)| !matches!(&***field, "metrics" | "shadow"))
    {
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
    text.push_str(&shadow(&plugin["shadow"]));
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

/// What became of what is tried out beside it.
fn shadow(shadow: &Value) -> String {
    if shadow.is_null() {
        return String::new();
    }
    let compared = &shadow["comparison"];
    let count = |field: &str| compared[field].as_u64().unwrap_or_default();
    let mut text = format!(
        "\nshadow {} ({}): {} requests the same, {} different\n",
        shadow["module"].as_str().unwrap_or("-"),
        shadow["state"].as_str().unwrap_or("-"),
        count("same"),
        count("different")
    );
    for one in compared["last"].as_array().into_iter().flatten() {
        let field = |name: &str| one[name].as_str().unwrap_or_default();
        let _ = writeln!(text, "  {} {}: {}", field("at"), field("request"), field("what"));
    }
    text
}
