//! Which pods of a namespace something is for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::shape::nullable;

/// As it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase", expecting = "an object with matchLabels")]
pub(crate) struct SelectorSpec {
    #[serde(deserialize_with = "nullable")]
    match_labels: BTreeMap<String, String>,
}

/// Labels that a pod must have.
#[derive(Debug)]
pub(crate) struct Selector(BTreeMap<String, String>);

impl Selector {
    pub(crate) fn new(written: &SelectorSpec) -> Self {
        Self(written.match_labels.clone())
    }

    /// Whether it is for every pod of its namespace.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is for pods with these labels.
    pub(crate) fn is_for(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}
