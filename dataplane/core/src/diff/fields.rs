//! The fields in which two values differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;

use super::FieldChange;

/// How much of a difference is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fields listed for one object, at least 1; the others are counted.
    pub fields: usize,
    /// Bytes of JSON of one value; a longer one is replaced by a text that says how long it is.
    pub value_bytes: usize,
}

impl Default for Limits {
    /// What a person reads at a glance, and what keeps a record of the version log small.
    fn default() -> Self {
        Self { fields: 64, value_bytes: 2048 }
    }
}

impl Limits {
    /// Everything, whatever its size.
    pub const NONE: Self = Self { fields: usize::MAX, value_bytes: usize::MAX };

    pub(super) fn shorten(&self, field: &mut FieldChange) {
        for value in [&mut field.from, &mut field.to].into_iter().flatten() {
            // A scalar that is not text is always short; everything else is measured as it is written.
            let length =
                if value.is_string() || value.is_array() || value.is_object() { value.to_string().len() } else { 0 };
            if length > self.value_bytes {
                *value = Value::String(format!("({length} bytes, not kept)"));
            }
        }
    }
}

/// What tells the elements of a list apart, tried in this order: ports have names, destinations hosts (and ports, when
/// one host is named twice), endpoints addresses.
const KEYS: [&[&str]; 6] = [&["name"], &["host"], &["host", "port"], &["addresses"], &["ip"], &["port"]];

/// The fields in which two values differ, in order of their path; empty exactly when the values are equal.
pub(super) fn compare(from: &Value, to: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    descend(&mut String::new(), Some(from), Some(to), &mut found);
    found
}

fn descend(path: &mut String, from: Option<&Value>, to: Option<&Value>, found: &mut Vec<FieldChange>) {
    match (from, to) {
        (Some(from), Some(to)) if from == to => {}
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            for key in from.keys().chain(to.keys()).collect::<BTreeSet<_>>() {
                within(path, |path| push_key(path, key), |path| descend(path, from.get(key), to.get(key), found));
            }
        }
        (Some(Value::Array(from)), Some(Value::Array(to))) => lists(path, from, to, found),
        (from, to) => found.push(FieldChange { path: path.clone(), from: from.cloned(), to: to.cloned() }),
    }
}

/// Runs `then` with the path extended by `extend`.
fn within(path: &mut String, extend: impl FnOnce(&mut String), then: impl FnOnce(&mut String)) {
    let length = path.len();
    extend(path);
    then(path);
    path.truncate(length);
}

/// Keys that could be mistaken for a path (annotations: `weir.dev/x`) are quoted.
fn push_key(path: &mut String, key: &str) {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !plain {
        let _infallible = write!(path, "[{}]", Value::from(key));
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

fn lists(path: &mut String, from: &[Value], to: &[Value], found: &mut Vec<FieldChange>) {
    let keyed = KEYS.iter().find_map(|key| Some((keys_of(from, key)?, keys_of(to, key)?)));
    if let Some((older, newer)) = keyed {
        return keyed_lists(path, (&older, from), (&newer, to), found);
    }
    // A list of scalars (methods, addresses) reads best as a whole; positions would show every one behind an
    // insertion as changed.
    if from.iter().chain(to).all(|value| !value.is_object() && !value.is_array()) {
        found.push(FieldChange { path: path.clone(), from: Some(from.into()), to: Some(to.into()) });
        return;
    }
    for position in 0..from.len().max(to.len()) {
        let extend = |path: &mut String| {
            let _infallible = write!(path, "[{position}]");
        };
        within(path, extend, |path| descend(path, from.get(position), to.get(position), found));
    }
}

fn keyed_lists(
    path: &mut String,
    (older, from): (&[String], &[Value]),
    (newer, to): (&[String], &[Value]),
    found: &mut Vec<FieldChange>,
) {
    let index = |keys: &[String]| keys.iter().cloned().zip(0..).collect::<BTreeMap<String, usize>>();
    let (in_from, in_to) = (index(older), index(newer));
    // What stays, in the old order, then what is new, as it is listed below: any other order is a change of its own,
    // because the order of destinations or rules may decide.
    let expected = older.iter().filter(|key| in_to.contains_key(*key));
    let expected = expected.chain(in_to.keys().filter(|key| !in_from.contains_key(*key)));
    if !expected.eq(newer.iter()) {
        let (from, to) = (Some(Value::from(older)), Some(Value::from(newer)));
        found.push(FieldChange { path: format!("{path}[order]"), from, to });
    }
    for key in in_from.keys().chain(in_to.keys()).collect::<BTreeSet<_>>() {
        let extend = |path: &mut String| {
            let _infallible = write!(path, "[{key}]");
        };
        let element = |index: &BTreeMap<String, usize>, list: &[Value]| index.get(key).map(|at| list[*at].clone());
        let (from, to) = (element(&in_from, from), element(&in_to, to));
        within(path, extend, |path| descend(path, from.as_ref(), to.as_ref(), found));
    }
}

/// What each element is called under `key` (`name=http`); none unless every element has one and no two the same.
fn keys_of(list: &[Value], key: &[&str]) -> Option<Vec<String>> {
    let one = |element: &Value| {
        let part = |field: &&str| Some(format!("{field}={}", scalar(element.get(field)?)?));
        Some(key.iter().map(part).collect::<Option<Vec<_>>>()?.join(","))
    };
    let keys = list.iter().map(one).collect::<Option<Vec<_>>>()?;
    (keys.iter().collect::<BTreeSet<_>>().len() == keys.len()).then_some(keys)
}

/// A value that can stand in a path: text, a number, or a list of exactly one text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if is_plain(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(list) => match list.as_slice() {
            [Value::String(text)] if is_plain(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && !text.contains(['[', ']', ',', '=', '"'])
}
