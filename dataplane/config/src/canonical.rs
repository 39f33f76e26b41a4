//! The canonical text of a document: what its revision's id is made from and what the version log keeps.

use std::fmt::Write as _;

use serde_json::Value;

/// JSON without spaces, with the keys of objects sorted. Fields that are null or empty are left out: for every kind
/// they mean the same as none.
pub(crate) fn text(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, to: &mut String) {
    match value {
        Value::Object(object) => {
            // Sorted here, because whether the map itself is sorted depends on a feature that any crate can turn on.
            let mut fields: Vec<_> = object.iter().filter(|(_, value)| !is_empty(value)).collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            to.push('{');
            for (position, (key, value)) in fields.into_iter().enumerate() {
                if position > 0 {
                    to.push(',');
                }
                string(key, to);
                to.push(':');
                write(value, to);
            }
            to.push('}');
        }
        Value::Array(list) => {
            to.push('[');
            for (position, value) in list.iter().enumerate() {
                if position > 0 {
                    to.push(',');
                }
                write(value, to);
            }
            to.push(']');
        }
        Value::String(text) => string(text, to),
        Value::Null => to.push_str("null"),
        Value::Bool(value) => to.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => {
            // Writing to a String does not fail.
            let _ = write!(to, "{number}");
        }
    }
}

/// As `serde_json` writes it; nearly every text has nothing that must be escaped.
fn string(text: &str, to: &mut String) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        to.push('"');
        to.push_str(text);
        to.push('"');
    } else {
        let _ = write!(to, "{}", Value::from(text));
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.values().all(is_empty),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_json_has_it() {
        let every: String = (0..=0x2ff).filter_map(char::from_u32).collect();
        let each = every.chars().map(String::from).chain(["".to_owned(), every.clone(), "a\\\"b".to_owned()]);
        for text in each {
            let mut written = String::new();
            string(&text, &mut written);
            assert_eq!(written, serde_json::to_string(&text).unwrap());
        }
    }

    #[test]
    fn sorted_and_without_what_means_nothing() {
        let value = serde_json::json!({"b": [{}, 1, null], "a": {"d": null, "c": "\"\u{e4}"}, "e": {"f": {}}, "g": []});
        assert_eq!(text(&value), "{\"a\":{\"c\":\"\\\"ä\"},\"b\":[{},1,null]}");
    }
}
