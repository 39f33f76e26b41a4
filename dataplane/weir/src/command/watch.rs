//! `weir watch`: what happens on a node, as it happens.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::{print, this_program};
use crate::Output;
use crate::client::Node;

/// Watch what a node keeps out, as it happens
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weir watch drops
  weir watch drops --once --output json | jq .rule

Ends with Ctrl-C. What happens too often is told of now and then; all of it is counted (weir_kernel_packets_total,
weir_policy_denied_total).

Exit status: 0 with --once; 1 when no node answers; 2 when the command line is wrong.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Drops(DropsArgs),
}

/// Watch connections and requests that policies deny, and packets that are dropped for other reasons
#[derive(Debug, clap::Args)]
struct DropsArgs {
    /// Print what is known so far, and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    node: Node,
    /// With `json`, a line for each
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Command::Drops(args) = &args.command;
    let mut path = "/api/v1/drops".to_owned();
    loop {
        let page = args.node.json(http::Method::GET, &path, None)?;
        let drops = page["drops"].as_array().map(Vec::as_slice).unwrap_or_default();
        match args.output {
            Output::Json => drops.iter().try_for_each(|drop| print(&format!("{drop}\n")))?,
            Output::Text => {
                if let Some(missed @ 1..) = page["missed"].as_u64() {
                    print(&format!("({missed} more came too fast to be shown)\n"))?;
                }
                drops.iter().try_for_each(|drop| print(&text(drop)))?;
            }
        }
        if args.once {
            if drops.is_empty() && args.output == Output::Text {
                print(&format!("nothing was kept out; `{} watch drops` waits for it\n", this_program()))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        path = format!("/api/v1/drops?after={}", page["last"].as_u64().unwrap_or_default());
    }
}

/// A line about one.
fn text(drop: &Value) -> String {
    let field = |name: &str| drop[name].as_str();
    let end = |address: &str, pod: &str| {
        let address = field(address).unwrap_or("?");
        field(pod).map_or_else(|| address.to_owned(), |pod| format!("{pod} ({address})"))
    };
    let mut line = format!(
        "{} {:15} {} -> {}",
        field("at").unwrap_or("?"),
        field("reason").unwrap_or("?"),
        end("source", "source_pod"),
        end("destination", "destination_pod"),
    );
    if let Some(request) = field("request") {
        let _ = write!(line, " {request}");
    }
    if let Some(rule) = field("rule") {
        let _ = write!(line, ": {rule}");
    }
    let ends = [field("source_pod"), field("destination_pod")];
    if let Some(link) = field("link_pod").filter(|link| !ends.contains(&Some(*link))) {
        let _ = write!(line, " (at the link of {link})");
    }
    if let Some(suppressed @ 1..) = drop["suppressed"].as_u64() {
        let _ = write!(line, " ({suppressed} more like it before)");
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_line_tells_who_and_why() {
        let drop = json!({"at": "1970-01-01T00:00:00.000Z", "reason": "denied_policy", "source": "10.0.0.1:5", "source_pod": "a/web",
            "destination": "10.0.0.2:80", "rule": "no policy of namespace b allows it", "suppressed": 2});
        assert_eq!(
            super::text(&drop),
            "1970-01-01T00:00:00.000Z denied_policy   a/web (10.0.0.1:5) -> 10.0.0.2:80: no policy of namespace b allows it \
             (2 more like it before)\n"
        );
    }
}
