//! The canonical text of a document: what its revision's id is made from and what the version log keeps.

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
                scalar(&Value::String(key.clone()), to);
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
        other => scalar(other, to),
    }
}

fn scalar(value: &Value, to: &mut String) {
    to.push_str(&value.to_string());
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
    fn sorted_and_without_what_means_nothing() {
        let value = serde_json::json!({"b": [{}, 1, null], "a": {"d": null, "c": "\"\u{e4}"}, "e": {"f": {}}, "g": []});
        assert_eq!(text(&value), "{\"a\":{\"c\":\"\\\"ä\"},\"b\":[{},1,null]}");
    }
}
