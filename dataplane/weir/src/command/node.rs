//! `weir node`: the node proxy.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::node::Start;
use crate::settings::{DEFAULT_PATH, Settings};

/// Run the node proxy: load the eBPF programs, follow the rules, serve requests
///
/// The settings describe this process; what is routed where comes from the documents in the source's folder.
/// docs/settings.md lists every setting.
///
/// SIGTERM and Ctrl-C stop the node in order: new connections go past it, requests under way end, the programs are
/// removed.
///
/// With --take-over it replaces the node process that runs with the same state folder, for upgrades: the programs, the
/// version log, the API and new connections change hands without a gap; the other process finishes its requests and
/// ends. If this one fails to start, the other goes on as if nothing had happened. If none runs, it starts as usual.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, with the smallest settings for a K3s node in /etc/weir/node.yaml:
  source: {folder: /etc/weir/rules}
  interception: {bridge: cni0}

  weir node                         until SIGTERM or Ctrl-C
  weir node --take-over             the new binary, in place of the one that runs

Exit status: 0 after a stop in order, or when another process has taken over; 1 when it cannot start or go on; 2 when
the command line is wrong.")]
pub(crate) struct Args {
    /// The settings file (YAML)
    #[arg(long, env = "WEIR_SETTINGS", default_value = DEFAULT_PATH, value_name = "FILE")]
    settings: PathBuf,

    /// Take over from the node process that runs, if one runs
    #[arg(long)]
    take_over: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings)?;
    crate::logging::start(&settings.log)?;
    crate::open_files::raise_limit();
    crate::node::run(&settings, if args.take_over { Start::TakeOver } else { Start::Alone })?;
    Ok(ExitCode::SUCCESS)
}
