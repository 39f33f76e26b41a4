//! Files of documents: parsing and compiling any text ends, and what was accepted survives the version log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_config::{SourceFile, compile, from_canonical, parse};
use weir_core::revision::Sequence;
use weir_core::stats::StatsTable;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = parse(&[SourceFile { path: "fuzz.yaml".into(), text: text.into() }]);
    let compiled = compile(&parsed.documents, Sequence(1), &mut StatsTable::default());
    if parsed.diagnostics.iter().any(|diagnostic| diagnostic.is_error()) {
        return;
    }
    // What the version log keeps must be read back as the same content.
    let kept = parsed.documents.iter().map(|document| (document.name.clone(), &*document.canonical, document.origin.clone()));
    let again = from_canonical(kept).expect("canonical documents are valid");
    assert_eq!(again.id(), parsed.documents.id());
    drop(compiled);
});
