use serde_json::json;

use super::*;

/// The values of a file, or what is wrong with it.
fn check(path: &str, text: &str, expected: Result<Vec<Value>, &str>) {
    let (values, problems) = read(Path::new(path), &text.into());
    let values: Vec<Value> = values.into_iter().map(|(value, _)| value).collect();
    match expected {
        Ok(expected) => assert_eq!((values, problems), (expected, Vec::new()), "{text}"),
        Err(expected) => {
            let said: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
            assert_eq!(said, [expected], "{text}");
        }
    }
}

#[test]
fn yaml_of_every_style() {
    check("a.yaml", "", Ok(vec![]));
    check("a.yaml", "# nothing\n---\n---\n", Ok(vec![]));
    check("a.yaml", "\u{feff}a: 1", Ok(vec![json!({"a": 1})]));
    check("a.yaml", "a: 1\r\nb: c\r\n", Ok(vec![json!({"a": 1, "b": "c"})]));
    check("a.yaml", "a: |\n  x\n  y\nb: \"\\u00e4\"\nc: ~\n", Ok(vec![json!({"a": "x\ny\n", "b": "ä", "c": null})]));
    check("a.yaml", "a: 1\n---\nb: 2\n...\n", Ok(vec![json!({"a": 1}), json!({"b": 2})]));
    check("a.yaml", "a: [.nan, 1.5, yes, true, 0x10]", Ok(vec![json!({"a": ["NaN", 1.5, "yes", true, 16]})]));
    check(
        "a.yaml",
        "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}",
        Ok(vec![json!({"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}})]),
    );
    check(
        "a.yaml",
        "a: [&x {b: 1}, &y {b: 2, c: 2}, {<<: [*x, *y]}]",
        Ok(vec![json!({"a": [{"b": 1}, {"b": 2, "c": 2}, {"b": 1, "c": 2}]})]),
    );
    check("a.yaml", "a: 1\na: 2", Err("this key is there twice"));
    check("a.yaml", "a: !secret b", Err("not valid YAML: a: the tag `!secret` means nothing here at line 1 column 4"));
}

#[test]
fn json_is_read_as_json() {
    check("a.json", "{\"a\": \"\\ud83d\\ude00\",\n\t\"b\": 1}", Ok(vec![json!({"a": "😀", "b": 1})]));
    check("a.json", "{\"a\": 1, \"a\": 2}", Err("this key is there twice"));
    check("a.json", "a: 1", Err("not valid JSON: expected value at line 1 column 1"));
}

#[test]
fn places_in_json_survive_what_yaml_does_not_know() {
    assert_eq!(as_yaml("\t\"\\ud83d\\\\ud8\\n\""), " \"\\u003d\\\\ud8\\n\"");
    for text in ["\\", "a\\", "\\u", "\\ud", "\\ä", "\t\t"] {
        assert_eq!(as_yaml(text).chars().count(), text.chars().count(), "{text}");
    }
}

#[test]
fn a_file_is_bounded() {
    let text = " ".repeat(limits::FILE_BYTES + 1);
    check("a.yaml", &text, Err("the file has 4194305 bytes; at most 4194304 are read"));
}
