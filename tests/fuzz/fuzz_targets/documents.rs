//! Files of documents: parsing and compiling any text ends, what was accepted survives the version log, and the quick
//! way to read a text comes to the same as the thorough one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_config::{Diagnostic, Parsed, SourceFile, compile, from_canonical, parse};
use weir_core::revision::Sequence;
use weir_core::stats::StatsTable;

fn read(text: String) -> Parsed {
    parse(&[SourceFile::new("fuzz.yaml", text)])
}

/// The parser has a text without any lines (`|`) begin after what follows it and is nothing: here, the comment.
fn placed(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    for diagnostic in diagnostics.iter_mut().filter(|one| one.message.starts_with("a document is an object")) {
        (diagnostic.line, diagnostic.column) = (None, None);
    }
    diagnostics
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = read(format!("{text}\n"));
    // An ampersand could be an anchor, also within a comment: such a text is always read thoroughly.
    let thorough = read(format!("{text}\n# &\n"));
    // On the edges of YAML readers disagree; what only one of them refuses is no difference of ours.
    let is_yaml = |diagnostic: &Diagnostic| !diagnostic.message.starts_with("not valid YAML");
    if thorough.diagnostics.iter().all(is_yaml) && parsed.diagnostics.iter().all(is_yaml) {
        assert_eq!(placed(parsed.diagnostics.clone()), placed(thorough.diagnostics));
        assert_eq!(parsed.documents.id(), thorough.documents.id());
    }
    let compiled = compile(&parsed.documents, Sequence(1), &mut StatsTable::default());
    assert_eq!(compiled.snapshot.is_none(), compiled.diagnostics.iter().any(Diagnostic::is_error));
    if parsed.has_errors() {
        return;
    }
    // What the version log keeps must be read back as the same content.
    let kept =
        parsed.documents.iter().map(|document| (document.name.clone(), &*document.canonical, document.origin.clone()));
    let again = from_canonical(kept).expect("canonical documents are valid").documents;
    assert_eq!(again.id(), parsed.documents.id());
});
