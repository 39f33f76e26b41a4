//! `weir versions [VERSION]`: the version log of a node.

use std::process::ExitCode;

use serde_json::Value;

use super::table::{Cell, Table};
use super::{print, print_json};
use crate::Output;
use crate::client::Node;

/// List the versions of the configuration that a node has applied, the newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weir versions                     the last 20
  weir versions 3                   version 3, and what it changed
  weir versions --output json | jq -r '.versions[0].version_id'")]
pub(crate) struct Args {
    /// Show one version with everything it changed: a number, or at least 8 digits of a version id
    #[arg(value_parser = super::version_name)]
    version: Option<String>,
    /// How many to list
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = match &args.version {
        Some(version) => format!("/api/v1/versions/{version}"),
        None => format!("/api/v1/versions?limit={}", args.limit),
    };
    let answer = args.node.json(http::Method::GET, &path, None)?;
    match (args.output, &args.version) {
        (Output::Json, _) => print_json(&answer)?,
        (Output::Text, Some(_)) => {
            let changes = super::diff::text(&answer);
            print(&format!("{}\n{changes}", table(std::slice::from_ref(&answer))))?;
        }
        (Output::Text, None) => {
            let versions = answer["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
            print(&table(versions))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Versions with a heading.
pub(crate) fn table(versions: &[Value]) -> String {
    let mut table = Table::default();
    let numbers = ["added", "removed", "changed"].map(Cell::right);
    table.row(
        [Cell::right("version"), "id".into(), "applied at".into()].into_iter().chain(numbers).chain(["cause".into()]),
    );
    for version in versions {
        let text = |field: &str| version[field].as_str().unwrap_or("?");
        let count = |field| Cell::Number(version["change_log"][field].as_array().map_or(0, Vec::len).to_string());
        let id = text("version_id");
        let in_force = if version["current"].as_bool() == Some(true) { "  (in force)" } else { "" };
        let row = [(&version["sequence"]).into(), id.get(..12).unwrap_or(id).into(), text("applied_at").into()];
        let counts = ["added", "removed", "changed"].map(count);
        table.row(row.into_iter().chain(counts).chain([format!("{}{in_force}", text("cause")).into()]));
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_are_rows_and_the_one_in_force_says_so() {
        let version = |sequence: u64, current: bool, cause: &str, added: usize| {
            json!({
                "sequence": sequence, "version_id": format!("{sequence:064x}"), "applied_at": "2026-01-02T03:04:05Z",
                "current": current, "cause": cause,
                "change_log": { "added": vec![json!({}); added], "removed": [], "changed": [{}] },
            })
        };
        let versions = [version(12, true, "change of the source", 3), version(9, false, "start", 0)];
        assert_eq!(
            table(&versions),
            "version  id            applied at            added  removed  changed  cause\n\
             \x20    12  000000000000  2026-01-02T03:04:05Z      3        0        1  change of the source  (in force)\n\
             \x20     9  000000000000  2026-01-02T03:04:05Z      0        0        1  start\n"
        );
        // What a later version of the node might leave out is no reason to panic.
        assert_eq!(table(&[json!({})]).lines().count(), 2);
        assert_eq!(table(&[]).lines().count(), 1);
    }
}
