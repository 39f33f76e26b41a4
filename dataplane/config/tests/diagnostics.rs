//! What is said about configurations that are wrong: every `cases/NAME.yaml` (or folder `cases/NAME/` of files) is
//! parsed and compiled, and what is said about it must be the lines of `cases/NAME.expected`.
//!
//! `WEIR_BLESS=1 cargo test -p weir-config` writes these files anew; read the difference before committing it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_config::{ParseCache, SourceFile, compile, parse};
use weir_core::revision::Sequence;
use weir_core::stats::StatsTable;

fn files(case: &Path, root: &Path) -> Vec<SourceFile> {
    let mut paths = vec![case.to_owned()];
    if case.is_dir() {
        paths = std::fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
    }
    let read =
        |path: PathBuf| SourceFile::new(path.strip_prefix(root).unwrap(), std::fs::read_to_string(&path).unwrap());
    paths.into_iter().map(read).collect()
}

fn said(files: &[SourceFile]) -> String {
    let parsed = parse(files);
    let again = ParseCache::default().parse(&files.iter().cloned().map(Arc::new).collect::<Vec<_>>());
    assert_eq!(again.diagnostics, parsed.diagnostics, "a cache says the same");
    let mut diagnostics = parsed.diagnostics;
    // What is right is compiled also when something else is wrong: the node does not, but `weir check` could.
    diagnostics.extend(compile(&parsed.documents, Sequence(1), &mut StatsTable::default()).diagnostics);
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

#[test]
fn every_case_says_what_is_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(&root).unwrap() {
        let case = entry.unwrap().path();
        if case.extension().is_some_and(|extension| extension == "expected") {
            continue;
        }
        count += 1;
        let found = said(&files(&case, &root));
        let expected = case.with_extension("expected");
        if bless {
            std::fs::write(&expected, &found).unwrap();
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        if found != wanted {
            wrong.push(format!("{}:\n--- expected\n{wanted}--- found\n{found}", case.display()));
        }
    }
    assert!(count >= 10, "the cases are missing: {count} in {}", root.display());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_document_is_counted_right_or_wrong() {
    let count = |texts: &[&str], expected: usize| {
        let file = |(position, text): (usize, &&str)| Arc::new(SourceFile::new(format!("{position}.yaml"), *text));
        let files: Vec<_> = texts.iter().enumerate().map(file).collect();
        assert_eq!(parse(&files).found, expected, "{texts:?}");
        let mut cache = ParseCache::default();
        assert_eq!((cache.parse(&files).found, cache.parse(&files).found), (expected, expected), "{texts:?}");
    };
    let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
    let bad = "apiVersion: v1\nkind: Namespace\nmetadata: {name: NOT A NAME}\n";
    count(&[], 0);
    count(&["", "# nothing\n", "---\n---\n"], 0);
    count(&[good], 1);
    count(&[good, good], 2);
    count(&[&format!("{good}---\n{bad}"), "just text", "kind: Unknown"], 4);
    // What cannot be read on is one.
    count(&[&format!("{good}---\na: [\n"), bad], 3);
    count(&["a: 1\na: 2\n"], 1);
    let listed = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n- 7\n";
    count(&[listed, "apiVersion: v1\nkind: List\nitems: 7\n"], 3);
    // Also what comes after the last error that is told.
    count(&[&"kind: x\n---\n".repeat(2_000)], 2_000);
}
