//! `weir rollback VERSION`: an earlier configuration again, as a new revision.

use std::process::ExitCode;

use serde_json::Value;

use super::{print, print_json};
use crate::Output;
use crate::client::Node;

/// Go back to an earlier version; recorded as a new one
///
/// It stays in force until the source's documents change, also over a restart of the node. The documents themselves
/// are not touched: mend them before the next change, which applies all that they say.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  weir versions                     which there are
  weir diff current 3               what going back to 3 would change
  weir rollback 3")]
pub(crate) struct Args {
    /// A number from `weir versions`, or at least 8 digits of a version id
    #[arg(value_parser = super::version_name)]
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
        Output::Text => print(&text(&answer))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(answer: &Value) -> String {
    let table = super::versions::table(std::slice::from_ref(answer));
    format!("{table}\nin force until the documents of the source change; they still say what they said before\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_new_version_and_how_long_it_holds_are_told() {
        let answer = json!({
            "sequence": 4, "version_id": "0123456789abcdef", "applied_at": "2026-01-02T03:04:05Z", "current": true,
            "cause": "rollback to 1", "change_log": { "added": [], "removed": [], "changed": [{}] },
        });
        let text = text(&answer);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].trim_start().starts_with("4  0123456789ab  2026-01-02T03:04:05Z"), "{text}");
        assert!(lines[1].ends_with("rollback to 1  (in force)") && lines[3].contains("until the documents"), "{text}");
    }
}
