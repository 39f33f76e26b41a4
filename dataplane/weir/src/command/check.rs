//! `weir check PATH...`: everything that is wrong with documents, before a node reads them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use weir_config::{Diagnostic, Severity};

use super::{print, print_json};
use crate::Output;

/// Check files or folders of documents; all errors at once, exit status 1 if there are any
#[derive(Debug, clap::Args)]
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
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    version_id: String,
    documents: usize,
    errors: usize,
    warnings: usize,
    diagnostics: &'a [Diagnostic],
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let checked = super::explain::compile_paths(&args.paths)?;
    let count = |severity| checked.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let report = Report {
        version_id: checked.id.to_string(),
        documents: checked.documents,
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        diagnostics: &checked.diagnostics,
    };
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
    let Report { documents, errors, warnings, .. } = report;
    let _ = match errors {
        0 => writeln!(
            text,
            "{documents} documents, no errors, {warnings} warnings, version {}",
            &report.version_id[..12]
        ),
        _ => writeln!(text, "{documents} documents, {errors} errors, {warnings} warnings: a node would refuse this"),
    };
    text
}
