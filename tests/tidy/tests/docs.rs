//! Docs: what they say proves something is there.

use std::collections::BTreeSet;

/// The names in back quotes in the cells of columns that are called `test`.
fn named(page: &str) -> Vec<String> {
    let (mut column, mut names) = (None, Vec::new());
    for line in page.lines() {
        let Some(row) = line.strip_prefix('|').and_then(|row| row.trim_end().strip_suffix('|')) else {
            column = None;
            continue;
        };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        match column {
            None => column = Some(cells.iter().position(|cell| ["test", "tests"].contains(cell))),
            Some(Some(at)) => {
                names.extend(cells.get(at).unwrap_or(&"").split('`').skip(1).step_by(2).map(str::to_owned))
            }
            Some(None) => {}
        }
    }
    names
}

#[test]
fn tests_that_pages_name_are_there() {
    let functions: BTreeSet<String> = weir_tidy::rust_sources()
        .iter()
        .flat_map(|(_, text)| text.split("fn ").skip(1))
        .map(|rest| rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect())
        .collect();
    let files: Vec<String> = weir_tidy::files().iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let is_there = |name: &str| match name {
        _ if name.contains('/') || name.contains('.') => {
            files.iter().any(|file| file.ends_with(name) || file.starts_with(name))
        }
        _ => functions.contains(name) || files.iter().any(|file| file.ends_with(&format!("/{name}.rs"))),
    };
    let mut seen = 0;
    for path in files.iter().filter(|path| path.ends_with(".md")) {
        let page = std::fs::read_to_string(weir_tidy::root().join(path)).unwrap();
        for name in named(&page) {
            seen += 1;
            assert!(is_there(&name), "{path} names {name}, which is no test and no file");
        }
    }
    assert!(seen > 100, "only {seen} names are found");
}

#[test]
fn columns_of_tests_are_found() {
    let page = "| a | test |\n|---|---|\n| `x` | `one`, `two` |\ntext\n| b | c |\n|---|---|\n| `x` | `three` |\n";
    assert_eq!(named(page), ["one", "two"]);
}
