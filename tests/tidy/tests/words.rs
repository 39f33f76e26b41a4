//! Words: modules are named for what they are, and the project speaks of itself alone.

#[test]
fn no_module_is_a_drawer() {
    let drawers = ["utils", "util", "helpers", "helper", "manager", "misc", "common"];
    for path in weir_tidy::files() {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        assert!(!(is_rust && drawers.contains(&stem)), "{}: name it for what is in it", path.display());
    }
}

#[test]
fn every_crate_denies_unsafe_or_says_why_not() {
    for (path, text) in weir_tidy::rust_sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let uses = code.clone().any(|line| line.contains("unsafe {") || line.contains("unsafe impl"));
        let outside = path.starts_with("ebpf");
        let explained = text.contains("unsafe_code") || outside || path.starts_with("tests/tidy");
        assert!(!uses || explained || parent_explains(&path), "{}: unsafe without a reason", path.display());
    }
}

/// Whether the module that declares this one, or the crate, says why it is unsafe.
fn parent_explains(path: &std::path::Path) -> bool {
    let root = weir_tidy::root();
    path.ancestors().skip(1).take_while(|folder| folder.components().count() > 1).any(|folder| {
        let candidates = [folder.with_extension("rs"), folder.join("mod.rs"), folder.join("lib.rs")];
        candidates
            .iter()
            .any(|file| std::fs::read_to_string(root.join(file)).is_ok_and(|text| text.contains("unsafe_code")))
    })
}
