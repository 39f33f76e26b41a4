//! `weir plugin inspect`: what a module is, and what it would need.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use weir_plugin_host::{Digest, Inspection};

use crate::Output;
use crate::command::{print, print_json};

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// The module
    file: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Inspect {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let bytes = std::fs::read(&self.file).with_context(|| self.file.display().to_string())?;
        let inspection = Inspection::of(&bytes).with_context(|| self.file.display().to_string())?;
        let digest = Digest::of(&bytes).to_string();
        match self.output {
            Output::Json => print_json(&serde_json::json!({
                "sha256": digest,
                "bytes": bytes.len(),
                "abi": inspection.version.map(|version| version.to_string()),
                "memory_bytes": inspection.memory,
                "callbacks": inspection.callbacks,
                "other_exports": inspection.other_exports,
                "functions": inspection.functions,
                "wasi": inspection.wasi,
                "unknown": inspection.unknown,
                "runs": inspection.refusal.is_none(),
                "refusal": inspection.refusal,
            })),
            Output::Text => print(&text(&inspection, &digest, bytes.len())),
        }
    }
}

fn text(inspection: &Inspection, digest: &str, size: usize) -> String {
    let Inspection { version, memory, callbacks, other_exports, functions, wasi, unknown, refusal } = inspection;
    let mut text = String::new();
    let version = version.map_or_else(|| "none that the host knows".to_owned(), |version| version.to_string());
    let _ = writeln!(text, "abi        proxy-wasm {version}");
    let _ = writeln!(text, "size       {} KiB", size >> 10);
    let _ = writeln!(text, "sha256     {digest}");
    let _ = writeln!(text, "memory     {} KiB at its start", memory >> 10);
    let mut list = |title: &str, names: &[String]| {
        let title = format!("{title:<11}");
        let _ = writeln!(text, "{title}{}", if names.is_empty() { "none".to_owned() } else { names.join(" ") });
    };
    list("callbacks", callbacks);
    list("calls", functions);
    list("wasi", wasi);
    list("exports", other_exports);
    if !unknown.is_empty() {
        list("unknown", unknown);
    }
    match refusal {
        Some(refusal) => {
            let _ = writeln!(text, "\nIt cannot run: {refusal}.");
        }
        None => {
            let functions = functions.join(", ");
            let _ = writeln!(text, "\nIt can run. A document that lets it do this and nothing else has:");
            let _ = writeln!(text, "  capabilities: {{functions: [{functions}]}}");
        }
    }
    text
}
