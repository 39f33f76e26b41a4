//! `weir lab`: a node with pods on this machine, to look at, to try, and as a self-test.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use weir_lab::RunningLab;

use super::print;
use crate::lab::{Running, tell};

/// Build a laboratory node with pods on this machine and show the main job
///
/// Network namespaces stand for pods, on a bridge as K3s's default network has it. The real eBPF programs are loaded,
/// the real node runs, and curl in the client's pod talks to virtual addresses. Everything is gone after Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Tell the story, check every step, tear down, and exit with a status
    #[arg(long)]
    check: bool,
    /// Follow a copy of this folder of rules instead of the lab's own
    #[arg(long, value_name = "FOLDER", conflicts_with = "check")]
    rules: Option<PathBuf>,
    /// Name of the lab, to tell several apart
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run a command in a pod of the running lab: weir lab exec client -- curl http://10.96.0.10/
    Exec {
        /// A pod, or `node`
        place: String,
        /// Which lab, when several run
        #[arg(long)]
        id: Option<String>,
        /// The command with its arguments
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// The server of the lab's pods
    #[command(hide = true)]
    Serve(weir_lab::server::ServerArgs),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Some(Action::Exec { place, id, command }) => exec(place, id.as_deref(), command),
        Some(Action::Serve(args)) => match weir_lab::server::run(args)? {},
        None => show(args),
    }
}

fn exec(place: &str, id: Option<&str>, command: &[String]) -> anyhow::Result<ExitCode> {
    let lab = RunningLab::find(id).context("start one with `weir lab` in another terminal")?;
    let (program, arguments) = command.split_first().context("no command was given")?;
    let mut command = lab.command(place, program)?;
    if let Some(admin) = lab.note("admin") {
        command.env("WEIR_ADMIN", admin);
    }
    // Takes the place of this process, so that signals and the exit status are the command's own.
    let error = command.args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}

fn show(args: &Args) -> anyhow::Result<ExitCode> {
    // Before anything is built, so that Ctrl-C at any time ends in order.
    let interrupted = crate::interrupt::Interrupt::listen()?;
    let running = Running::start(args.id.clone(), args.rules.as_deref())?;
    let passed = args.rules.is_some() || tell(&running, &interrupted)?;
    if !args.check && !interrupted.is_set() {
        print(&crate::lab::invitation(&running))?;
        interrupted.wait();
        print("\nstopping the node, removing the lab\n")?;
    }
    running.stop()?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
