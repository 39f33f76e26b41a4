//! The `weir` binary: one file per command under `command/`, the wiring of a node in `node.rs`.

mod client;
mod command;
mod interception;
mod interrupt;
mod lab;
mod logging;
mod memory;
mod metrics;
mod node;
mod settings;
mod take_over;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Workers allocate and free all the time, nearly always on the same thread. Against the C library's allocator a body of
/// 64 KiB costs 40 % less and a small request some percent less, for a MiB of memory (`make bench`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A service mesh data plane for K3s edge clusters: one proxy per node, intercepted by eBPF.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Start here:
  weir lab                          a node with pods on this machine, to try everything
  weir check rules/                 what is wrong with a folder of rules, before a node reads it
  weir explain http://web/ -H 'x-user-tag: canary-user' --files rules/
                                    where a request would go, and why
  weir status                       what a running node is doing";

#[derive(Debug, Subcommand)]
enum Command {
    Node(command::node::Args),
    Lab(command::lab::Args),
    Check(command::check::Args),
    Explain(command::explain::Args),
    Status(command::status::Args),
    Versions(command::versions::Args),
    Diff(command::diff::Args),
    Rollback(command::rollback::Args),
    /// Print the completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Node(args) => command::node::run(&args),
        Command::Lab(args) => command::lab::run(&args),
        Command::Check(args) => command::check::run(&args),
        Command::Explain(args) => command::explain::run(&args),
        Command::Status(args) => command::status::run(&args),
        Command::Versions(args) => command::versions::run(&args),
        Command::Diff(args) => command::diff::run(&args),
        Command::Rollback(args) => command::rollback::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "weir", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        // The reader of our output may have gone away (`weir versions | head`): that is no error.
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "weir: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn help_teaches() {
        for (command, word) in [("node", "bridge: cni0"), ("lab", "Ctrl-C"), ("rollback", "stays in force")] {
            let mut cli = super::Cli::command();
            let help = cli.find_subcommand_mut(command).unwrap().render_long_help().to_string();
            assert!(help.contains(word), "{command}: {help}");
        }
    }
}
