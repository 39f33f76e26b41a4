//! What is known about a revision: what the version log keeps and the API shows.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use weir_config::{Document, DocumentSet};
use weir_core::diff::{ChangeLog, DiffGraph, Edge, Limits};
use weir_core::name::ObjectName;
use weir_core::revision::{RevisionId, Sequence};

/// A configuration that was in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the log: each applied configuration has the next one.
    pub sequence: Sequence,
    /// SHA-256 of its canonical content. Content that comes back has the same.
    pub version_id: RevisionId,
    /// The revision that was in force before; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<VersionRef>,
    /// When it came into force; RFC 3339 in UTC.
    #[serde(with = "rfc3339")]
    pub applied_at: SystemTime,
    /// Why it came into force.
    pub cause: Cause,
    /// How much it has.
    pub counts: Counts,
    /// How it differs from its parent.
    pub change_log: ChangeLog,
}

impl Record {
    /// How others refer to it.
    pub fn version(&self) -> VersionRef {
        VersionRef { sequence: self.sequence, version_id: self.version_id }
    }
}

/// Refers to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRef {
    /// Its place in the log.
    pub sequence: Sequence,
    /// The hash of its content.
    pub version_id: RevisionId,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.sequence, self.version_id.short())
    }
}

/// Why a revision came into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Cause {
    /// A source's content changed.
    Source {
        /// The source's name.
        name: String,
        /// Where it reads: the folder's path.
        location: PathBuf,
        /// SHA-256 of the content as it was written, in hexadecimal.
        content_hash: ContentHash,
    },
    /// Somebody wanted an earlier revision back.
    Rollback {
        /// That revision.
        to: VersionRef,
        /// Who, as the caller says.
        by: String,
    },
}

/// SHA-256 of a source's content as it was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        RevisionId(self.0).fmt(f)
    }
}

// The text form is that of a version id.
impl Serialize for ContentHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RevisionId(self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RevisionId::deserialize(deserializer).map(|id| Self(id.0))
    }
}

/// How much a revision has, and how much it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Documents.
    pub objects: usize,
    /// Documents of each kind.
    pub kinds: BTreeMap<String, usize>,
    /// Documents that its parent had not.
    pub added: usize,
    /// Documents that its parent had and it has not.
    pub removed: usize,
    /// Documents that are different in its parent.
    pub changed: usize,
}

impl Counts {
    /// Counts what a revision has and changed.
    pub fn of(documents: &DocumentSet, log: &ChangeLog) -> Self {
        let kinds = documents.kinds().map(|(kind, count)| (kind.to_owned(), count)).collect();
        let (added, removed, changed) = (log.added.len(), log.removed.len(), log.changed.len());
        Self { objects: documents.len(), kinds, added, removed, changed }
    }
}

/// The difference between two revisions, with what it concerns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// What differs.
    pub change_log: ChangeLog,
    /// What that concerns.
    pub graph: DiffGraph,
}

impl Diff {
    /// The difference of one set of documents against another.
    pub fn between(from: &DocumentSet, to: &DocumentSet) -> Self {
        let (older, newer) = from.differences(to);
        let change_log = ChangeLog::between(texts(&older), texts(&newer), &Limits::default());
        if change_log.is_empty() {
            return Self::default();
        }
        let references = |name: &ObjectName| [references(from, name), references(to, name)].concat();
        let referrers = |objects: &_| [from.referrers(objects), to.referrers(objects)].concat();
        let exists = |name: &_| from.document(name).is_some() || to.document(name).is_some();
        let graph = DiffGraph::of(&change_log, references, referrers, exists);
        Self { change_log, graph }
    }
}

fn texts<'a>(documents: &'a [&Arc<Document>]) -> impl Iterator<Item = (&'a ObjectName, &'a str)> {
    documents.iter().map(|document| (&document.name, &*document.canonical))
}

fn references(set: &DocumentSet, of: &ObjectName) -> Vec<Edge> {
    let edge = |(field, to)| Edge { from: of.clone(), to, field };
    set.references(of).into_iter().map(edge).collect()
}

/// Times as RFC 3339 text in UTC with milliseconds.
pub(crate) mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
    }
}
