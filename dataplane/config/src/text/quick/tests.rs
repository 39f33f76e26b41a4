use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::index::index;
use crate::limits;
use crate::place::Segment;

/// Where documents begin, as `line:column`.
fn check(text: &str, expected: &[&str]) {
    let found = starts(text).into_iter().map(|at| format!("{}:{}", at.line, at.column));
    assert_eq!(found.collect::<Vec<_>>(), expected, "{text:?}");
}

#[test]
fn documents_begin_at_their_first_field() {
    check("", &[]);
    check("# nothing\n\n", &[]);
    check("a: 1", &["1:1"]);
    check("---\n# first\n  a: 1\n", &["3:3"]);
    check("--- {a: 1}\n---\n---\t[b]\n", &["1:5", "0:0", "3:5"]);
    check("a: 1\n...\n# between\n---\nb: 1\n...\n", &["1:1", "5:1"]);
    check("a: |\n  --- x\n---b: 1\n", &["1:1"]);
}

#[test]
fn what_could_do_harm_is_not_read_quickly() {
    for text in ["a: &x b", "a: 1\r\n", "%YAML 1.2\n---\na: 1", "a: {<<: {b: 1}}", "a: \u{85}b: 1"] {
        assert!(!is_tame(text), "{text:?}");
    }
    assert!(is_tame(&" ".repeat(BYTES)) && !is_tame(&" ".repeat(BYTES + 1)));
    assert!(is_tame(&"[{".repeat(OPENED / 2)) && !is_tame(&"[".repeat(OPENED + 1)));
}

#[test]
fn what_is_not_right_is_left_to_the_thorough_way() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let wrong = ["a: 1\na: 2", "{[a]: 1}", "a: !secret b", "a: [", "a: 1\n---\nb: *c", &deep(limits::DEPTH + 1)];
    for text in wrong {
        assert!(read(&text.into()).is_none(), "{text:?}");
    }
    assert!(read(&deep(limits::DEPTH).into()).is_some());
}

/// The worst that is still called tame, each as often as it fits. The bound is many times what it takes.
#[test]
fn what_is_tame_is_read_at_once() {
    for unit in ["- ", "? ", "a: ", "!", "*a ", "a\n", "'", "\"", "---\n", "a:\n ", "- [a]\n", "!!str ", "| ", "# "] {
        let text = unit.repeat(BYTES / unit.len());
        let start = Instant::now();
        let _right_or_wrong = read(&text.as_str().into());
        assert!(start.elapsed() < Duration::from_secs(5), "{unit:?} took {:?}", start.elapsed());
    }
    let nested = format!("{}{}", "[".repeat(OPENED), "a, ".repeat((BYTES - OPENED) / 3));
    let start = Instant::now();
    assert!(read(&nested.into()).is_none());
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
}

/// Compares the two ways; whether the quick one was taken.
fn is_same(text: &str) -> Result<bool, TestCaseError> {
    let Some(quick) = read(&text.into()) else { return Ok(false) };
    let indexed = index(text);
    if indexed.fatal.is_some() || !indexed.duplicates.is_empty() {
        // The readers do not agree on what YAML is; the one that makes the values decides.
        return Ok(false);
    }
    let mut problems = Vec::new();
    let thorough = super::super::yaml(text, indexed, &mut problems);
    prop_assert_eq!(problems, vec![]);
    prop_assert_eq!(quick.len(), thorough.len());
    for ((value, places), (same, known)) in quick.into_iter().zip(thorough) {
        prop_assert_eq!(&value, &same);
        if !value.is_null() {
            compare(&value, &mut Vec::new(), (&places, &known))?;
        }
    }
    Ok(true)
}

/// Compares the place of every field.
fn compare<'v>(
    value: &'v Value,
    path: &mut Vec<Segment<'v>>,
    (one, other): (&Locations, &Locations),
) -> Result<(), TestCaseError> {
    prop_assert_eq!(one.find(path), other.find(path), "{:?}", path);
    let elements = value.as_array().into_iter().flatten().enumerate().map(|(n, value)| (Segment::Index(n), value));
    let fields = value.as_object().into_iter().flatten().map(|(key, value)| (Segment::Key(key), value));
    for (segment, value) in elements.chain(fields) {
        path.push(segment);
        compare(value, path, (one, other))?;
        path.pop();
    }
    Ok(())
}

#[test]
fn the_files_of_the_other_tests_come_to_the_same() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let world = std::fs::read_to_string(format!("{folder}/world.yaml")).unwrap();
    let mut quick = usize::from(is_same(&world).unwrap());
    for entry in std::fs::read_dir(format!("{folder}/cases")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            quick += usize::from(is_same(&std::fs::read_to_string(&path).unwrap()).unwrap());
        }
    }
    assert!(quick >= 5, "only {quick} are read quickly");
}

/// Lines that documents are made of, and some that are odd.
fn line() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "kind: RouteRule",
        "spec:",
        "  match:",
        "    - headers: {x: y}",
        "    - a: 1",
        "  route: ä",
        "b: [1, {c: d}]",
        "---",
        "--- # x",
        "--- {e: f}",
        "...",
        "",
        "# x",
        "  # x",
        "g: |",
        "| # x",
        "  h",
        "i: 'j",
        "  k'",
        "\"l\": 1",
        "- m",
        "---n: 1",
        "\t",
        "? o",
        ": p",
        "1: q",
        "~: r",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Places that are looked up late are those that the thorough way finds, and the values are the same.
    #[test]
    fn both_ways_come_to_the_same(lines in prop::collection::vec(line(), 0..10)) {
        is_same(&lines.join("\n"))?;
    }
}
