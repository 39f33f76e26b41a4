//! Reads the log.

use std::fmt;
use std::str::FromStr;

use redb::{ReadTransaction, ReadableDatabase};
use weir_core::diff::DiffGraph;
use weir_core::revision::Sequence;

use super::tables::{DOCUMENTS, GRAPHS, RECORDS, SEEN, SETS, decode, hashes};
use super::{KeptDocument, Log, LogError, Seen, id_of};
use crate::record::{Record, VersionRef};

/// A revision with the graph of what it changed.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    /// The revision.
    #[serde(flatten)]
    pub record: Record,
    /// What its change concerned.
    pub graph: DiffGraph,
}

/// How people name a revision: `current`, its sequence, or the beginning of its version id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The one in force.
    Current,
    /// By sequence.
    Sequence(Sequence),
    /// By the first digits of its version id, at least [`Selector::MIN_PREFIX`]: the newest with that content.
    Prefix(String),
}

impl Selector {
    /// Digits of a version id that name it at least; fewer could be a sequence, and would often be ambiguous.
    pub const MIN_PREFIX: usize = 8;
}

/// Why a text or selector names no revision.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The text is neither.
    #[error("\"{0}\" names no version: give a sequence number, at least 8 digits of a version id, or \"current\"")]
    Malformed(String),
    /// No such revision, or it is no longer kept.
    #[error("there is no version {0}: it never was, or is no longer kept")]
    NotFound(Selector),
    /// More than one content begins so.
    #[error("version id {prefix} is ambiguous: {}", .candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// What it could be.
        candidates: Vec<VersionRef>,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl FromStr for Selector {
    type Err = SelectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match text.parse() {
            _ if text == "current" => Ok(Self::Current),
            Ok(sequence) if text.len() < Self::MIN_PREFIX => Ok(Self::Sequence(Sequence(sequence))),
            _ if is_hex && (Self::MIN_PREFIX..=64).contains(&text.len()) => Ok(Self::Prefix(text.to_ascii_lowercase())),
            _ => Err(SelectError::Malformed(text.to_owned())),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => f.write_str("current"),
            Self::Sequence(sequence) => sequence.fmt(f),
            Self::Prefix(prefix) => f.write_str(prefix),
        }
    }
}

impl Log {
    /// The newest revision.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn latest(&self) -> Result<Option<Record>, LogError> {
        Ok(self.list(1, None)?.pop())
    }

    /// At most `limit` revisions, the newest first, of those before `before`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn list(&self, limit: usize, before: Option<Sequence>) -> Result<Vec<Record>, LogError> {
        let end = before.map_or(u64::MAX, |sequence| sequence.0);
        let jsons = self.read(|read| {
            let records = read.open_table(RECORDS)?;
            let newest = records.range(..end)?.rev().take(limit);
            newest.map(|entry| Ok(entry?.1.value().to_vec())).collect::<Result<Vec<_>, redb::Error>>()
        })?;
        jsons.iter().map(|json| self.parse(json)).collect()
    }

    /// The revision that a selector names.
    ///
    /// # Errors
    /// When it names none, or several.
    pub fn find(&self, selector: &Selector) -> Result<Record, SelectError> {
        let not_found = || SelectError::NotFound(selector.clone());
        match selector {
            Selector::Current => self.latest()?.ok_or_else(not_found),
            Selector::Sequence(sequence) => self.record(*sequence)?.ok_or_else(not_found),
            Selector::Prefix(prefix) => match self.find_prefix(prefix)? {
                Some(record) => Ok(record),
                // Eight digits and more can be a sequence too, if the log is that old.
                None => {
                    let sequence = prefix.parse().map(Sequence).map_err(|_| not_found())?;
                    self.record(sequence)?.ok_or_else(not_found)
                }
            },
        }
    }

    fn find_prefix(&self, prefix: &str) -> Result<Option<Record>, SelectError> {
        let mut found: Vec<Record> = Vec::new();
        for record in self.list(usize::MAX, None)? {
            let is_new = found.iter().all(|other| other.version_id != record.version_id);
            if is_new && record.version_id.to_string().starts_with(prefix) {
                found.push(record);
            }
        }
        if found.len() > 1 {
            let candidates = found.iter().map(Record::version).collect();
            return Err(SelectError::Ambiguous { prefix: prefix.to_owned(), candidates });
        }
        Ok(found.pop())
    }

    /// A revision by sequence; none if it is not kept.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn record(&self, sequence: Sequence) -> Result<Option<Record>, LogError> {
        let json = self.read(|read| Ok(read.open_table(RECORDS)?.get(sequence.0)?.map(|v| v.value().to_vec())))?;
        json.map(|json| self.parse(&json)).transpose()
    }

    /// The graph of what a revision changed; empty if it is not kept.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn graph(&self, sequence: Sequence) -> Result<DiffGraph, LogError> {
        let json = self.read(|read| Ok(read.open_table(GRAPHS)?.get(sequence.0)?.map(|v| v.value().to_vec())))?;
        json.map_or_else(|| Ok(DiffGraph::default()), |json| self.parse(&json))
    }

    /// The documents of a revision, checked against its version id.
    ///
    /// # Errors
    /// When the log cannot be read, or does not have them as they were.
    pub fn documents(&self, sequence: Sequence) -> Result<Vec<KeptDocument>, LogError> {
        let record = self.record(sequence)?.ok_or_else(|| self.damaged(&format!("revision {sequence} is missing")))?;
        let version = record.version_id;
        let encoded = self.read(|read| {
            let Some(set) = read.open_table(SETS)?.get(version.0)?.map(|value| value.value().to_vec()) else {
                return Ok(None);
            };
            let documents = read.open_table(DOCUMENTS)?;
            let bytes = |hash| Ok::<_, redb::Error>(documents.get(hash)?.map(|value| value.value().to_vec()));
            hashes(&set).map(bytes).collect::<Result<Option<Vec<_>>, _>>()
        })?;
        let decoded: Option<Vec<_>> = encoded.and_then(|encoded| encoded.iter().map(|bytes| decode(bytes)).collect());
        match decoded {
            Some(documents) if id_of(&documents) == version => Ok(documents),
            _ => Err(self.damaged(&format!("the documents of revision {sequence} are not what they were"))),
        }
    }

    /// What a source had when its content was last accepted.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn seen(&self, source: &str) -> Result<Option<Seen>, LogError> {
        let json = self.read(|read| Ok(read.open_table(SEEN)?.get(source)?.map(|value| value.value().to_vec())))?;
        json.map(|json| self.parse(&json)).transpose()
    }

    fn read<T>(&self, action: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, LogError> {
        self.with(|database| {
            let run = || action(&database.begin_read()?);
            run().map_err(|error| self.error(error))
        })
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, json: &[u8]) -> Result<T, LogError> {
        serde_json::from_slice(json).map_err(|error| self.damaged(&error))
    }
}
