//! `weir lab`: a node with pods on this machine, to look at, to try, and as a self-test.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use weir_lab::RunningLab;

use super::print;
use crate::lab::{Running, Story, tell};

/// Build a laboratory node with pods on this machine, show the main job, and stay up to try things
///
/// Network namespaces stand for pods, on a bridge as K3s's default network has it. The real eBPF programs are loaded,
/// the real node runs, and curl in the client's pod talks to virtual addresses. It needs root. Everything is gone after
/// Ctrl-C; what a killed lab has left, the next one removes.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  weir lab                          tell the story and stay up; in another terminal:
  weir lab exec client -- curl -s http://10.96.0.10/ -H 'x-user-tag: canary-user'
  weir lab exec node -- weir status
  weir lab --check                  the story as a self-test
  weir lab --rules my-rules/        a request for every rule of a folder, and where it went

Exit status: 0 when every step went as it must; 1 when one did not, or the lab cannot be built; 2 when the command line
is wrong; 130 when --check was interrupted."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Tell the story, check every step, tear down, and exit with a status
    #[arg(long)]
    check: bool,
    /// Follow a copy of this folder of documents instead of the lab's own rules
    ///
    /// The lab's services are vehicle-recognition (port 80) and service-canary (port 8080) in the namespace `default`, and
    /// plain (port 80) in the namespace `plain`. With --check the lab's own story must hold under these rules.
    #[arg(long, value_name = "FOLDER")]
    rules: Option<PathBuf>,
    /// Name of the lab, to tell several apart: 1 to 12 lower-case letters and digits; else a random one
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run a command in a pod of the running lab: weir lab exec client -- curl http://10.96.0.10/
    ///
    /// Only the network (and the cgroup) is the pod's; files are this machine's. In it WEIR_ADMIN names the lab's node,
    /// so that `weir status` and the like work. The exit status is the command's.
    Exec {
        /// A pod (client, vehicle-recognition-v1, vehicle-recognition-v2, plain, outside), or `node`
        place: String,
        /// Which lab, when several run
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// The command with its arguments
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// The server of the lab's pods
    #[command(hide = true)]
    Serve(weir_lab::server::ServerArgs),
}

/// As shells have it: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Some(Action::Exec { place, id, command }) => exec(place, id.as_deref(), command),
        Some(Action::Serve(args)) => match weir_lab::server::run(args)? {},
        None => show(args),
    }
}

fn exec(place: &str, id: Option<&str>, command: &[String]) -> anyhow::Result<ExitCode> {
    let lab = RunningLab::find(id)?;
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
    let story = match (&args.rules, args.check) {
        (Some(_), false) => crate::lab::survey(&running, &interrupted)?,
        _ => tell(&running, &interrupted)?,
    };
    if !args.check && !interrupted.is_set() {
        print(&crate::lab::invitation(&running))?;
        interrupted.wait();
        print("\nstopping the node, removing the lab\n")?;
    }
    running.stop()?;
    Ok(match story {
        Story::Failed => ExitCode::FAILURE,
        // Not all of it was told, so that nobody knows; elsewhere Ctrl-C is how a lab ends.
        Story::Interrupted if args.check => ExitCode::from(INTERRUPTED),
        Story::Passed | Story::Interrupted => ExitCode::SUCCESS,
    })
}
