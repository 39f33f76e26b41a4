//! `weir policy`: what policies say.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use weir_core::explain::{Access, Attempt};

use super::explain::compile_paths;
use super::table::Table;
use super::{counted, print, print_json};
use crate::Output;
use crate::client::Node;

/// Ask what policies say about who may reach which pod
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weir policy explain client vehicle-recognition-v1 8080
  weir policy suggest > observed.yaml
  weir policy explain plain/client v1 8080 --path /admin -X POST --files rules/ cluster.yaml")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Explain(ExplainArgs),
    Suggest(SuggestArgs),
}

/// Write the policies that would allow what no policy allows and was tried since the node started
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weir policy suggest > observed.yaml
  weir policy suggest --output json

A namespace with the label weir.dev/authorization: audit lets everything in; after a while this is what it needs.
What is told of is a sample of at most some a second (`weir watch drops`): what happens seldom beside much else may be
missing. Read what it writes before it is applied: it allows everything that was tried.

Exit status: 0 when the node answers; 1 when none does.")]
struct SuggestArgs {
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Explain whether a pod may reach another, or ask it for something, and which rule says so
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 when it was explained, whatever the answer; 1 when a pod is not known, when the files have errors, or
when no node answers; 2 when the command line is wrong.")]
struct ExplainArgs {
    /// Who connects: a pod (name or namespace/name) or an address
    from: String,
    /// To whom: the same
    to: String,
    /// The port of the pod, not of a service
    port: u16,
    /// The path of a request; without it, it is explained what can be told of the connection
    #[arg(long)]
    path: Option<String>,
    /// Its method
    #[arg(short = 'X', long, default_value = "GET")]
    method: String,
    /// A header of the request, as for curl; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Explain from these files or folders, as `weir check` takes them, instead of asking a running node
    #[arg(long, value_name = "PATH", num_args = 1..)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Explain(args) => explain(args),
        Command::Suggest(args) => suggest(args),
    }
}

fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let attempt = Attempt {
        from: args.from.clone(),
        to: args.to.clone(),
        port: args.port,
        path: args.path.clone(),
        method: Some(args.method.clone()),
        headers: args.headers.clone(),
    };
    let access: Access = if args.files.is_empty() {
        let question = serde_json::to_value(&attempt)?;
        let answer = args.node.json(http::Method::POST, "/api/v1/policy/explain", Some(&question))?;
        serde_json::from_value(answer).context("the node's answer is no explanation: is it of another version?")?
    } else {
        let (snapshot, found) = compile_paths(&args.files)?.without_errors()?;
        attempt.explain(&snapshot).with_context(|| format!("in {}", counted(found, "document")))?
    };
    match args.output {
        Output::Json => print_json(&access)?,
        Output::Text => print(&text(&access))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn suggest(args: &SuggestArgs) -> anyhow::Result<ExitCode> {
    let answer = args.node.json(http::Method::GET, "/api/v1/policy/suggest", None)?;
    if args.output == Output::Json {
        print_json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let number = |field: &str| answer[field].as_u64().unwrap_or_default() as usize;
    // Comments, so that all of it can be written to a file.
    print(&format!("# made from {} that no policy allows\n", counted(number("seen"), "connection")))?;
    if number("gone") > 0 {
        print(&format!("# without {}, whose pods have gone\n", number("gone")))?;
    }
    if number("unkept") > 0 {
        print(&format!("# without {} that were too many\n", number("unkept")))?;
    }
    print(answer["yaml"].as_str().unwrap_or_default())?;
    Ok(ExitCode::SUCCESS)
}

fn text(access: &Access) -> String {
    let Access { source, outcome, reason, decided_by, policies } = access;
    let mut text = format!("{outcome}, by the {decided_by}: {reason}\n  the source is {source}\n");
    if policies.is_empty() {
        return text;
    }
    let mut table = Table::default();
    table.row(["policy", "action", "rules that match"].map(Into::into));
    for policy in policies {
        let matching = policy.rules.iter().enumerate().filter(|(_, matches)| *matches != "no");
        let matching: Vec<String> = matching
            .map(
                |(number, matches)| if matches == "yes" { number.to_string() } else { format!("{number} ({matches})") },
            )
            .collect();
        let matching = match (matching.is_empty(), policy.rules.len()) {
            (false, _) => matching.join(", "),
            (true, 0) => "none: it has no rule".to_owned(),
            (true, rules) => format!("none of {rules}"),
        };
        table.row([policy.policy.as_str().into(), policy.action.as_str().into(), matching.as_str().into()]);
    }
    text += &table.to_string();
    text
}
