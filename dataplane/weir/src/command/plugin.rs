//! `weir plugin`: what a node's plugins do and cost, and what their authors need.

mod bench;
mod build;
mod in_force;
mod inspect;
mod new;
mod test;
mod trial;

use std::process::ExitCode;

/// Plugins: which a running node has, what they do and what they cost; and making, testing and measuring them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weir plugin list
  weir plugin show canary-by-cookie
  weir plugin list --output json | jq '.[] | select(.traps > 0)'
  weir plugin new my-plugin && weir plugin build my-plugin && weir plugin test my-plugin/tests.yaml
  weir plugin inspect my-plugin/my-plugin.wasm
  weir plugin bench my-plugin/my-plugin.wasm")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the plugins in force
    List(in_force::List),
    /// Show one of them
    Show(in_force::Show),
    /// Begin a plugin: a folder that builds, with a test
    New(new::New),
    /// Build plugins from their source (Rust)
    Build(build::Build),
    /// Test a plugin without a node: requests in, what becomes of them out
    Test(test::Test),
    /// Show what a module is, what it imports and exports, and what it would need
    Inspect(inspect::Inspect),
    /// Measure what a module costs on this machine
    Bench(bench::Bench),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List(command) => command.run()?,
        Command::Show(command) => command.run()?,
        Command::New(command) => command.run()?,
        Command::Build(command) => command.run()?,
        Command::Test(command) => return command.run(),
        Command::Inspect(command) => command.run()?,
        Command::Bench(command) => command.run()?,
    }
    Ok(ExitCode::SUCCESS)
}
