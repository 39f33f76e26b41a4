//! `weir diff A B`: what differs between two versions.

use std::process::ExitCode;

use serde_json::Value;
use weir_core::diff::ChangeLog;

use super::{print, print_json};
use crate::Output;
use crate::client::Node;

/// Show what differs between two versions
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The older: a number from `weir versions`, at least 8 digits of a version id, or `current`
    from: String,
    /// The newer
    #[arg(default_value = "current")]
    to: String,
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = format!("/api/v1/versions/{}/diff/{}", args.from, args.to);
    let answer = args.node.json(http::Method::GET, &path, None)?;
    match args.output {
        Output::Json => print_json(&answer)?,
        Output::Text => print(&text(&answer))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The change log of an answer, for people.
pub(crate) fn text(answer: &Value) -> String {
    match serde_json::from_value::<ChangeLog>(answer["change_log"].clone()) {
        Ok(log) if log.is_empty() => "no difference\n".to_owned(),
        Ok(log) => format!("{log}\n"),
        Err(_) => "the node's answer has no change log that this version understands\n".to_owned(),
    }
}
