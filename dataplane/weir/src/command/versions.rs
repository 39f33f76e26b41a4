//! `weir versions [VERSION]`: the version log of a node.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::{print, print_json};
use crate::Output;
use crate::client::Node;

/// List the versions of the configuration that a node has applied, the newest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show one version with everything it changed: a number, or at least 8 digits of a version id
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
        (Output::Text, Some(_)) => print(&(line(&answer) + &super::diff::text(&answer)))?,
        (Output::Text, None) => {
            let versions = answer["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
            print(&versions.iter().map(line).collect::<String>())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One version on one line.
pub(crate) fn line(version: &Value) -> String {
    let text = |field: &str| version[field].as_str().unwrap_or("?").to_owned();
    let count = |field: &str| version["change_log"][field].as_array().map_or(0, Vec::len);
    let id = text("version_id");
    let mut line = String::new();
    let _ = writeln!(
        line,
        "{:>6}  {}  {}  +{} -{} ~{}  {}{}",
        version["sequence"],
        id.get(..12).unwrap_or(&id),
        text("applied_at"),
        count("added"),
        count("removed"),
        count("changed"),
        text("cause"),
        if version["current"].as_bool() == Some(true) { "  (in force)" } else { "" },
    );
    line
}
