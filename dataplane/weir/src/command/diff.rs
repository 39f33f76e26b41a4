//! `weir diff A B`: what differs between two versions.

use std::process::ExitCode;

use serde_json::Value;
use weir_core::diff::ChangeLog;

use super::{print, print_json};
use crate::Output;
use crate::client::Node;

/// Show what differs between two versions
///
/// A line with - is an object (or the value of a field) that only the older version has, one with + what only the newer
/// has, one with ~ an object that both have with other content.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weir diff 3                       what has changed since version 3
  weir diff 3 5                     what the versions 4 and 5 changed")]
pub(crate) struct Args {
    /// The older: a number from `weir versions`, at least 8 digits of a version id, or `current`
    #[arg(value_parser = super::version_name)]
    from: String,
    /// The newer
    #[arg(default_value = "current", value_parser = super::version_name)]
    to: String,
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = format!("/api/v1/versions/{}/diff/{}", args.from, args.to);
    let answer = args.node.json(http::Method::GET, &path, None)?;
    match args.output {
        Output::Json => print_json(&answer)?,
        Output::Text => print(&text(&answer))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The change log of an answer, for people.
pub(crate) fn text(answer: &Value) -> String {
    match serde_json::from_value::<ChangeLog>(answer["change_log"].clone()) {
        Ok(log) => log.to_string(),
        Err(_) => "the node's answer has no change log that this weir understands: is the node of another version?\n"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_told_line_by_line() {
        let rule = |name: &str| json!({ "kind": "RouteRule", "namespace": "default", "name": name });
        let check = |added: Value, removed: Value, changed: Value, expected: &str| {
            let answer = json!({ "change_log": { "added": added, "removed": removed, "changed": changed } });
            assert_eq!(text(&answer), expected);
        };
        check(json!([]), json!([]), json!([]), "no difference\n");
        check(json!([rule("new")]), json!([]), json!([]), "+ RouteRule default/new\n");
        check(
            json!([rule("new")]),
            json!([rule("old")]),
            json!([{ "object": rule("both"), "fields": [
                { "path": "spec.priority", "from": 1, "to": 2 },
                { "path": "spec.timeouts.request", "to": "5s" },
            ] }]),
            "- RouteRule default/old\n\
             + RouteRule default/new\n\
             ~ RouteRule default/both\n\
             \x20 - spec.priority: 1\n\
             \x20 + spec.priority: 2\n\
             \x20 + spec.timeouts.request: \"5s\"\n",
        );
        assert!(text(&json!({ "change_log": 7 })).contains("another version"));
    }
}
