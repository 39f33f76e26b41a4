//! `weir explain URL`: where a described request goes, and why.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use weir_config::{Diagnostic, DocumentSet};
use weir_core::explain::{Described, EntryOutcome, Explanation};
use weir_core::revision::Sequence;
use weir_core::snapshot::Snapshot;
use weir_core::stats::StatsTable;

use super::{counted, print, print_json};
use crate::Output;
use crate::client::Node;

/// Explain a request without sending it: which rule matches, why the others lost, where it goes, what is mirrored
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weir explain http://vehicle-recognition/ -H 'x-user-tag: canary-user'
  weir explain http://10.96.0.10/upload -X POST --from client --files rules/ cluster.yaml

With --files the Services must be among the documents, as the node that follows them needs them, too.

Exit status: 0 when it was explained, wherever the request goes; 1 when nothing is known of the service, when the files
have errors, or when no node answers; 2 when the command line is wrong.")]
pub(crate) struct Args {
    /// http://HOST[:PORT]/PATH[?QUERY]; the host is a service's name (name, name.namespace) or address
    url: String,
    /// A header of the request, as for curl; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The method
    #[arg(short = 'X', long, default_value = "GET")]
    method: String,
    /// Who sends it: a pod (name or namespace/name) or an address
    #[arg(long, value_name = "POD")]
    from: Option<String>,
    /// Explain from these files or folders, as `weir check` takes them, instead of asking a running node
    #[arg(long, value_name = "PATH", num_args = 1..)]
    files: Vec<PathBuf>,
    /// Show every rule that concerns the service, not the ten that tell most
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    node: Node,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let described = Described {
        url: args.url.clone(),
        method: args.method.clone(),
        headers: args.headers.clone(),
        from: args.from.clone(),
    };
    let explanation = if args.files.is_empty() {
        let answer = args.node.json(http::Method::POST, "/api/v1/explain", Some(&serde_json::to_value(&described)?))?;
        serde_json::from_value(answer).context("the node's answer is not an explanation: is it of another version?")?
    } else {
        let (snapshot, found) = compile_paths(&args.files)?.without_errors()?;
        described.explain(&snapshot).with_context(|| format!("in {}", counted(found, "document")))?
    };
    match args.output {
        Output::Json => print_json(&explanation)?,
        Output::Text => print(&text(&explanation, if args.all { usize::MAX } else { ENTRIES_SHOWN }))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What files compile to.
pub(crate) struct CompiledPaths {
    /// Those that are right by themselves.
    pub(crate) documents: DocumentSet,
    /// How many there are, right or wrong.
    pub(crate) found: usize,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl CompiledPaths {
    /// What they compile to, and how many documents there are.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub(crate) fn without_errors(self) -> anyhow::Result<(Snapshot, usize)> {
        let errors = self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
        let errors: Vec<String> = errors.map(ToString::to_string).collect();
        let snapshot = self.snapshot.with_context(|| format!("the files have errors:\n{}", errors.join("\n")))?;
        Ok((snapshot, self.found))
    }
}

/// Parses and compiles files and folders as a node would.
pub(crate) fn compile_paths(paths: &[PathBuf]) -> anyhow::Result<CompiledPaths> {
    let files = weir_sources::read(paths, &weir_sources::Limits::default()).map_err(|errors| {
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(told.join("\n"))
    })?;
    anyhow::ensure!(!files.is_empty(), "no .yaml, .yml or .json file there");
    let parsed = weir_config::parse(&files);
    let compiled = weir_config::compile(&parsed.documents, Sequence(0), &mut StatsTable::default());
    let mut diagnostics = parsed.diagnostics;
    diagnostics.extend(compiled.diagnostics);
    let snapshot = compiled.snapshot.filter(|_| !diagnostics.iter().any(Diagnostic::is_error));
    Ok(CompiledPaths { documents: parsed.documents, found: parsed.found, snapshot, diagnostics })
}

/// Route entries that are shown of a service unless all are asked for.
const ENTRIES_SHOWN: usize = 10;

/// An explanation for people, with at most so many of the service's route entries.
fn text(explanation: &Explanation, entries: usize) -> String {
    let mut text = String::new();
    let revision = match explanation.sequence {
        Sequence(0) => "from files".to_owned(),
        sequence => format!("revision {sequence}"),
    };
    let _ = writeln!(text, "{}  ({revision}, version {})", explanation.service, explanation.version_id.short());
    let _ = writeln!(text, "  {}", explanation.interception);
    for plugin in &explanation.plugins {
        let _ = writeln!(text, "  the plugin {plugin} sees it, and may decide otherwise than what follows");
    }
    let _ = writeln!(text, "rules, in order of precedence");
    entries_text(&mut text, &explanation.entries, entries);
    match (&explanation.rule, &explanation.answer) {
        (Some(rule), Some(answer)) => writeln!(text, "answered, by {rule}, with {answer}"),
        (None, Some(answer)) => writeln!(text, "answered with {answer}"),
        (Some(rule), None) => writeln!(text, "goes to, by {rule}: {}", explanation.chosen_by),
        (None, None) => writeln!(text, "goes to the service itself: no rule matches"),
    }
    .unwrap_or_default();
    for filter in &explanation.filters {
        let _ = writeln!(text, "  {filter}");
    }
    for destination in &explanation.destinations {
        let mark = if destination.chosen { "->" } else { "  " };
        let place = destination.answers.clone().unwrap_or_else(|| destination.endpoints.join(", "));
        let share = percent(destination.share_percent);
        let _ = writeln!(text, "  {mark} {} ({share} %): {place}", destination.destination);
        if let Some(picked) = &destination.picked {
            let _ = writeln!(text, "       picked: {picked}");
        }
        for filter in &destination.filters {
            let _ = writeln!(text, "       {filter}");
        }
    }
    for mirror in &explanation.mirrors {
        let _ = writeln!(text, "mirror to {}: {}", mirror.destination, mirror.reason);
    }
    if let Some(timeout) = explanation.timeout_ms {
        let _ = writeln!(text, "timeout {timeout} ms");
    }
    if let Some(timeout) = explanation.per_try_timeout_ms {
        let _ = writeln!(text, "timeout per try {timeout} ms");
    }
    if let Some(session) = &explanation.session {
        let _ = writeln!(text, "{session}");
    }
    if let Some(retry) = &explanation.retry {
        let _ = writeln!(text, "{retry}");
    }
    text
}

/// At most four places, and none that says nothing: `100`, `33.3333`, `0.01`.
fn percent(share: f64) -> String {
    let text = format!("{share:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The entries that tell most: the one that wins, then those that match and lose, then the others by precedence.
fn entries_text(text: &mut String, entries: &[EntryOutcome], limit: usize) {
    if entries.is_empty() {
        let _ = writeln!(text, "  none");
    }
    let mut telling: Vec<usize> = (0..entries.len()).collect();
    // Stable, so that precedence decides among equals.
    telling.sort_by_key(|&index| (!entries[index].wins, !entries[index].matches));
    let (shown, left) = telling.split_at(limit.min(telling.len()));
    let mut shown = shown.to_vec();
    shown.sort_unstable();
    shown.iter().for_each(|&index| entry_text(text, &entries[index]));
    if left.is_empty() {
        return;
    }
    let losing = left.iter().filter(|&&index| entries[index].matches).count();
    let counts = [(losing, "lose"), (left.len() - losing, "do not match")];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let _ = writeln!(text, "  ... and {} more (--all): {}", left.len(), counts.collect::<Vec<_>>().join(", "));
}

fn entry_text(text: &mut String, entry: &EntryOutcome) {
    let outcome = match (entry.wins, entry.matches) {
        (true, _) => "WINS ",
        (false, true) => "loses",
        (false, false) => "no   ",
    };
    let _ = writeln!(text, "  {outcome} {} match {}: {}", entry.rule, entry.position, entry.conditions);
    let _ = writeln!(text, "        {}", entry.reason);
}

#[cfg(test)]
mod tests;
