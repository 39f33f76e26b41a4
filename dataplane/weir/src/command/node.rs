//! `weir node`: the node proxy.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::settings::{DEFAULT_PATH, Settings};

/// Run the node proxy: load the eBPF programs, follow the rules, serve requests
///
/// The settings describe this process; what is routed where comes from the documents in the source's folder. A
/// smallest file, for a K3s node:
///
///   source: {folder: /etc/weir/rules}
///   interception: {bridge: cni0}
///
/// SIGTERM and Ctrl-C stop the node in order: new connections go past it, requests under way end, the programs are
/// removed. docs/settings.md lists every setting.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The settings file (YAML)
    #[arg(long, env = "WEIR_SETTINGS", default_value = DEFAULT_PATH, value_name = "FILE")]
    settings: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings)?;
    crate::logging::start(&settings.log)?;
    crate::node::run(&settings)?;
    Ok(ExitCode::SUCCESS)
}
