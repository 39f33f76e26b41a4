//! The `weir` binary: one file per command under `command/`, the wiring of a node in `node.rs`.

mod client;
mod command;
mod identity;
mod interception;
mod interrupt;
mod lab;
mod logging;
mod memory;
mod metrics;
mod node;
mod open_files;
mod plugins;
mod priority;
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
  weir check rules/                 what is wrong with a folder of documents, before a node reads it
  weir explain http://web/ -H 'x-user-tag: canary-user'
                                    where the node would send a request, and why
  weir status                       what the node is doing

explain, status, plugin, versions, diff and rollback ask the node at 127.0.0.1:15021; --admin or WEIR_ADMIN names another
address. For programs, they and check print JSON with --output json.

Exit status: 0 when it was done; 1 when not, or when something wrong was found (check, lab --check): standard error or
the output says what; 2 when the command line is wrong. lab exec ends with the status of the command it runs.";

#[derive(Debug, Subcommand)]
enum Command {
    Node(command::node::Args),
    Lab(command::lab::Args),
    Check(command::check::Args),
    Explain(command::explain::Args),
    Status(command::status::Args),
    Plugin(command::plugin::Args),
    Policy(command::policy::Args),
    Ca(command::ca::Args),
    Versions(command::versions::Args),
    Diff(command::diff::Args),
    Rollback(command::rollback::Args),
    Watch(command::watch::Args),
    Completions(command::completions::Args),
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
        Command::Plugin(args) => command::plugin::run(&args),
        Command::Policy(args) => command::policy::run(&args),
        Command::Ca(args) => command::ca::run(&args),
        Command::Versions(args) => command::versions::run(&args),
        Command::Diff(args) => command::diff::run(&args),
        Command::Rollback(args) => command::rollback::run(&args),
        Command::Watch(args) => command::watch::run(&args),
        Command::Completions(args) => command::completions::run(&args, Cli::command()),
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
        let check = |command: &str, words: &[&str]| {
            let mut cli = super::Cli::command();
            let help = cli.find_subcommand_mut(command).unwrap().render_long_help().to_string();
            for word in words {
                assert!(help.contains(word), "{command}: no {word:?} in: {help}");
            }
            assert!(help.contains(&format!("weir {command}")) && help.contains("Example"), "{command}: {help}");
            // Lines that somebody broke must fit, or the terminal breaks them once more.
            let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > 120).collect();
            assert!(wide.is_empty(), "{command}: {wide:?}");
        };
        check("policy", &["weir policy explain", "weir policy suggest"]);
        check("watch", &["weir watch drops", "Exit status"]);
        check("node", &["bridge: cni0", "--take-over", "Exit status", "docs/settings.md"]);
        check("lab", &["Ctrl-C", "lab exec client", "Exit status"]);
        check("check", &["--strict", "Exit status"]);
        check("explain", &["--files", "--all", "Exit status"]);
        check("status", &["--admin"]);
        check("versions", &["newest first"]);
        check("diff", &["current"]);
        check("rollback", &["stays in force"]);
        check("completions", &["bash", "zsh", "fish"]);
    }

    #[test]
    fn the_first_help_says_where_to_start_and_what_a_status_means() {
        let help = super::Cli::command().render_long_help().to_string();
        for word in ["Start here", "weir lab", "WEIR_ADMIN", "Exit status", "--output json"] {
            assert!(help.contains(word), "no {word:?} in: {help}");
        }
    }
}
