//! `weir check PATH...`: everything that is wrong with documents, before a node reads them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use weir_config::{Diagnostic, Severity};
use weir_revisions::Unready;

use super::explain::CompiledPaths;
use super::{counted, print, print_json};
use crate::Output;
use crate::plugins::Plugins;

/// Check files or folders of documents, without a node; tells everything that is wrong at once
///
/// The documents are RouteRules and what they refer to: Services, EndpointSlices, Pods, Namespaces, as `kubectl get -o
/// yaml` prints them. docs/route-rule.md tells every field of a rule. Plugins whose modules are files are loaded, started and
/// configured.
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
    /// What the files of plugins are below [default: the first PATH, or the folder that it is in]
    #[arg(long, value_name = "FOLDER")]
    plugins: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Report<'a> {
    version_id: String,
    documents: usize,
    errors: usize,
    warnings: usize,
    /// Modules of plugins that nodes fetch from elsewhere, which were not looked at.
    modules_elsewhere: usize,
    diagnostics: &'a [Diagnostic],
}

/// Documents that were checked.
struct Checked {
    compiled: CompiledPaths,
    modules_elsewhere: usize,
}

impl Checked {
    fn of(paths: &[PathBuf], plugins: Option<&Path>) -> anyhow::Result<Self> {
        let mut compiled = super::explain::compile_paths(paths)?;
        let mut modules_elsewhere = 0;
        if let Some(snapshot) = compiled.snapshot.as_ref().filter(|snapshot| snapshot.has_plugins()) {
            let first = &*paths[0];
            let beside = if first.is_dir() { first } else { first.parent().unwrap_or(first) };
            let (unready, elsewhere) = Plugins::below(plugins.unwrap_or(beside)).check(snapshot);
            let said = |one: Unready| {
                let is_guess = plugins.is_none() && one.field.last() == Some(&"file");
                let hint = if is_guess { "; --plugins names the folder that it is below" } else { "" };
                compiled.documents.error(&one.object, one.field, format!("{}{hint}", one.message))
            };
            compiled.diagnostics.extend(unready.into_iter().map(said));
            modules_elsewhere = elsewhere;
        }
        Ok(Self { compiled, modules_elsewhere })
    }
}

impl<'a> Report<'a> {
    fn of(checked: &'a Checked) -> Self {
        let CompiledPaths { documents, found, diagnostics, .. } = &checked.compiled;
        let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
        Self {
            version_id: documents.id().to_string(),
            documents: *found,
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            modules_elsewhere: checked.modules_elsewhere,
            diagnostics,
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let checked = Checked::of(&args.paths, args.plugins.as_deref())?;
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
    if report.modules_elsewhere > 0 {
        let modules = counted(report.modules_elsewhere, "module");
        let _ = writeln!(text, "{modules} of plugins not looked at: nodes fetch them from elsewhere");
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
            let report = Report { version_id, documents, errors, warnings, modules_elsewhere: 0, diagnostics: &[] };
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
        let checked = Checked::of(&[folder.path().to_owned()], None).unwrap();
        let report = Report::of(&checked);
        assert_eq!((report.documents, report.errors, report.warnings), (3, 2, 0));
        let text = text(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("a.yaml:5:") && lines[0].contains("apiVersion"), "{text}");
        assert!(lines[1].contains("b.yaml:") && lines[1].contains("not valid YAML"), "{text}");
        assert_eq!(lines[2], "3 documents, 2 errors, no warnings: a node would refuse this");
    }

    #[test]
    fn modules_that_are_here_are_tried() {
        const LEAST: &str = r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
            (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 0))
            (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.eqz (local.get 1))))"#;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("least.wasm"), wat::parse_str(LEAST).unwrap()).unwrap();
        let elsewhere = format!("{{url: 'https://a.example/a.wasm', sha256: {}}}", "0".repeat(64));
        for (module, configuration, expected) in [
            ("{file: least.wasm}", "", "2 documents, no errors, no warnings"),
            ("{file: least.wasm}", "configuration: more", "plugin.yaml:5:"),
            ("{file: none.wasm}", "", "directory (os error 2); --plugins names the folder"),
            (&elsewhere, "", "1 module of plugins not looked at"),
        ] {
            let head = "apiVersion: weir.dev/v1\nkind: Plugin\nmetadata: {name: a}\nspec:\n";
            let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}\n";
            let text = format!("{head}  {configuration}\n  module: {module}\n---\n{service}");
            let path = folder.path().join("plugin.yaml");
            std::fs::write(&path, text).unwrap();
            let checked = Checked::of(&[path], None).unwrap();
            let text = super::text(&Report::of(&checked));
            assert!(text.contains(expected), "{module} {configuration}: {text}");
        }
    }
}
