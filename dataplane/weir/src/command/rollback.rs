//! `weir rollback VERSION`: an earlier configuration again, as a new revision.

use std::process::ExitCode;

use super::{print, print_json};
use crate::Output;
use crate::client::Node;

/// Go back to an earlier version; recorded as a new one
///
/// The version stays in force until the source's documents change, also over a restart of the node.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A number from `weir versions`, or at least 8 digits of a version id
    version: String,
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = format!("/api/v1/versions/{}/rollback", args.version);
    let answer = args.node.json(http::Method::POST, &path, None)?;
    match args.output {
        Output::Json => print_json(&answer)?,
        Output::Text => print(&super::versions::table(std::slice::from_ref(&answer)))?,
    }
    Ok(ExitCode::SUCCESS)
}
