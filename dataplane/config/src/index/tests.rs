use super::*;
use crate::place::Segment::{Index, Key};

/// Where the field at a path of the document at a position is, as `line:column`.
fn check(text: &str, document: usize, path: &[Segment<'_>], expected: &str) {
    let indexed = index(text);
    assert_eq!(indexed.fatal, None, "{text}");
    let found = indexed.documents[document].find(path);
    let found = found.map_or_else(String::new, |at| format!("{}:{}", at.line, at.column));
    assert_eq!(found, expected, "{path:?} in {text}");
}

#[test]
fn fields_are_found_where_they_are_written() {
    let text = "# first\na: 1\nb:\n  - c: 2\n  - [x, {d: 3}]\n---\n'a b': &x {e: *x2, f: ä, g: 4}\n";
    let text = text.replace("*x2", "z");
    check(&text, 0, &[], "2:1");
    check(&text, 0, &[Key("a")], "2:1");
    check(&text, 0, &[Key("b"), Index(0)], "4:5");
    check(&text, 0, &[Key("b"), Index(0), Key("c")], "4:5");
    check(&text, 0, &[Key("b"), Index(1), Index(1), Key("d")], "5:10");
    check(&text, 0, &[Key("b"), Index(2)], "3:1");
    check(&text, 1, &[Key("a b"), Key("g")], "7:24");
    check("{\"a\": [1,\n 2]}", 0, &[Key("a"), Index(1)], "2:2");
}

fn refused(text: &str) -> String {
    let indexed = index(text);
    indexed.fatal.map(|problem| problem.message).unwrap_or_default()
}

#[test]
fn what_would_be_dangerous_is_refused() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(refused(&nested(limits::DEPTH)), "");
    assert_eq!(refused(&nested(limits::DEPTH + 1)), "nested deeper than 64 levels");
    // An alias is as deep as what it names.
    let within = |depth: usize| format!("- &a {}\n- {}*a{}", nested(40), "[".repeat(depth), "]".repeat(depth));
    assert_eq!(refused(&within(23)), "");
    assert_eq!(refused(&within(24)), "nested deeper than 64 levels");
    let many = |count: usize| format!("a: &a [{}]\nb: [{}]", "x, ".repeat(99), "*a, ".repeat(count));
    assert_eq!(refused(&many(100)), "");
    assert_eq!(refused(&many(101)), "aliases add more than 10000 values to this file");
    // Not a refusal of anything else: what is written may be large.
    assert_eq!(refused(&format!("[{}]", "x, ".repeat(50_000))), "");
    assert_eq!(refused("a: &a [*a]"), "an alias within what it names");
    assert_eq!(refused("&a [b, *a]"), "an alias within what it names");
    assert_eq!(refused("{[a]: b}"), "the key of a field must be text");
}

#[test]
fn only_complete_documents_count() {
    assert_eq!(index("").documents.len(), 0);
    assert_eq!(index("# nothing\n").documents.len(), 0);
    assert_eq!(index("a: 1\n---\nb: 2\n").documents.len(), 2);
    let broken = index("a: 1\n---\nb: [\n");
    assert!(broken.fatal.is_some());
    assert_eq!(broken.documents.len(), 1);
}
