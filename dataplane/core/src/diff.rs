//! What differs between two configurations: objects added, removed and changed, and which others that concerns.
//!
//! Documents come as canonical JSON, so equal text is equal content and only what differs is looked into. Nothing
//! here knows what a field means: kinds that do not exist yet are compared as well as those that do.

mod fields;
mod graph;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::name::ObjectName;

pub use fields::Limits;
pub use graph::{DiffGraph, Edge, Node, NodeChange};

/// The structured difference of one configuration against another. Every list is sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChangeLog {
    /// Objects that only the newer one has.
    pub added: Vec<ObjectName>,
    /// Objects that only the older one has.
    pub removed: Vec<ObjectName>,
    /// Objects that both have, with different content.
    pub changed: Vec<Changed>,
}

/// An object whose content differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// Which.
    pub object: ObjectName,
    /// The fields that differ, in order of their path. Never empty.
    pub fields: Vec<FieldChange>,
    /// How many fields more differ than are listed (see [`Limits::fields`]).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Where it is, for example `spec.route.destinations[host=service-canary].weight`. Elements of lists are named by
    /// what tells them apart (name, host, ...) or else by position; `[order]` stands for the order of such a list.
    pub path: String,
    /// The older value; none when the field is new.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub from: Option<Value>,
    /// The newer value; none when the field is gone.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub to: Option<Value>,
}

impl ChangeLog {
    /// Compares two sets of documents, each a name and its canonical JSON, in order of name. Documents that both have in
    /// common may be left out of both.
    pub fn between<'a>(
        from: impl IntoIterator<Item = (&'a ObjectName, &'a str)>,
        to: impl IntoIterator<Item = (&'a ObjectName, &'a str)>,
        limits: &Limits,
    ) -> Self {
        let mut older: BTreeMap<_, _> = from.into_iter().collect();
        let mut log = Self::default();
        for (object, newer) in to {
            match older.remove(object) {
                None => log.added.push(object.clone()),
                Some(older) if older == newer => {}
                Some(older) => log.changed.extend(Changed::between(object, older, newer, limits)),
            }
        }
        log.removed = older.into_keys().cloned().collect();
        log
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// How many objects differ.
    pub fn len(&self) -> usize {
        self.added.len() + self.removed.len() + self.changed.len()
    }
}

impl Changed {
    /// What differs within one object; none when only the writing does (spaces, the order of keys).
    fn between(object: &ObjectName, from: &str, to: &str, limits: &Limits) -> Option<Self> {
        let mut fields = fields::compare(&value(from), &value(to));
        let more = fields.len().saturating_sub(limits.fields.max(1));
        fields.truncate(limits.fields.max(1));
        fields.iter_mut().for_each(|field| limits.shorten(field));
        (!fields.is_empty()).then(|| Self { object: object.clone(), fields, more })
    }
}

/// The value of a document. Text that is not JSON cannot come from a compiled set; it is compared as text.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Tells a field that is `null` from one that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests;
