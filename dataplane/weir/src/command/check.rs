//! `weir check PATH...`: everything that is wrong with documents, before a node reads them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use weir_config::{Diagnostic, Severity};

use super::explain::CompiledPaths;
use super::{counted, print, print_json};
use crate::Output;

/// Check files or folders of documents, without a node; tells everything that is wrong at once
///
/// The documents are RouteRules and what they refer to: Services, EndpointSlices, Pods, Namespaces, as `kubectl get -o
/// yaml` prints them. docs/route-rule.md tells every field of a rule.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weir check /etc/weir/rules
  weir check --strict rules/ cluster.yaml      a name that nothing bears is an error, too
  weir check --output json rules/ | jq -r '.diagnostics[] | \"\\(.file):\\(.line) \\(.message)\"'

Exit status: 0 when a node would take the documents; 1 when there are errors (with --strict: or warnings), or when a
path cannot be read; 2 when the command line is wrong.")]
pub(crate) struct Args {
    /// Files, or folders with their subfolders (.yaml, .yml, .json)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Treat warnings (for example a destination that does not exist) as errors
    #[arg(long)]
    strict: bool,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Report<'a> {
    version_id: String,
    documents: usize,
    errors: usize,
    warnings: usize,
    diagnostics: &'a [Diagnostic],
}

impl<'a> Report<'a> {
    fn of(checked: &'a CompiledPaths) -> Self {
        let count = |severity| checked.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
        Self {
            version_id: checked.id.to_string(),
            documents: checked.documents,
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            diagnostics: &checked.diagnostics,
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let checked = super::explain::compile_paths(&args.paths)?;
    let report = Report::of(&checked);
    match args.output {
        Output::Json => print_json(&report)?,
        Output::Text => print(&text(&report))?,
    }
    let failed = report.errors > 0 || (args.strict && report.warnings > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(report: &Report<'_>) -> String {
    let mut text = String::new();
    for diagnostic in report.diagnostics {
        let _ = writeln!(text, "{diagnostic}");
    }
    let documents = counted(report.documents, "document");
    let warnings = match report.warnings {
        0 => "no warnings".to_owned(),
        count => counted(count, "warning"),
    };
    let _ = match report.errors {
        0 => writeln!(text, "{documents}, no errors, {warnings}: version {}", &report.version_id[..12]),
        errors => writeln!(text, "{documents}, {}, {warnings}: a node would refuse this", counted(errors, "error")),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_in_words() {
        let check = |(documents, errors, warnings): (usize, usize, usize), expected: &str| {
            let version_id = "0123456789abcdef".to_owned();
            let report = Report { version_id, documents, errors, warnings, diagnostics: &[] };
            assert_eq!(text(&report), format!("{expected}\n"));
        };
        check((1, 0, 0), "1 document, no errors, no warnings: version 0123456789ab");
        check((2, 0, 1), "2 documents, no errors, 1 warning: version 0123456789ab");
        check((2, 1, 2), "2 documents, 1 error, 2 warnings: a node would refuse this");
        check((1, 2, 0), "1 document, 2 errors, no warnings: a node would refuse this");
    }

    #[test]
    fn what_is_wrong_comes_before_the_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: RouteRule\n");
        write("b.yaml", "a: [\n");
        let checked = super::super::explain::compile_paths(&[folder.path().to_owned()]).unwrap();
        let report = Report::of(&checked);
        assert_eq!((report.documents, report.errors, report.warnings), (3, 2, 0));
        let text = text(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("a.yaml:5:") && lines[0].contains("apiVersion"), "{text}");
        assert!(lines[1].contains("b.yaml:") && lines[1].contains("not valid YAML"), "{text}");
        assert_eq!(lines[2], "3 documents, 2 errors, no warnings: a node would refuse this");
    }
}
