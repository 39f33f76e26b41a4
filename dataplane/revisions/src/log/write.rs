//! Adds to the log.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use weir_config::DocumentSet;
use weir_core::diff::DiffGraph;
use weir_core::revision::RevisionId;

use super::tables::{BYTES_KEY, DOCUMENTS, GRAPHS, META, RECORDS, SEEN, SETS, encode};
use super::{Log, LogError};
use crate::record::{ContentHash, Record};

/// What a source had when its content was last accepted. A rollback holds until that is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The hash of the content as it was written.
    pub content_hash: ContentHash,
    /// The hash of its canonical content: a comment more is no change.
    pub version_id: RevisionId,
}

impl Log {
    /// Adds a revision with its documents, and what its source had if it came from one. All of it is on disk when
    /// this returns, or nothing. What the retention does not keep goes in the same step.
    ///
    /// # Errors
    /// [`LogError::Disk`] can pass: the same call may succeed later. Nothing was changed.
    pub fn append(
        &self,
        record: &Record,
        graph: &DiffGraph,
        documents: &DocumentSet,
        seen: Option<(&str, &Seen)>,
    ) -> Result<(), LogError> {
        let record_json = serde_json::to_vec(record).map_err(|error| self.damaged(&error))?;
        let graph_json = serde_json::to_vec(graph).map_err(|error| self.damaged(&error))?;
        let sequence = record.sequence.0;
        self.write(|write| {
            if let Some(last) = write.open_table(RECORDS)?.last()?.filter(|(last, _)| last.value() >= sequence) {
                // The same record was written by a call that failed after its commit.
                let is_same = last.0.value() == sequence && last.1.value() == record_json;
                let taken = || redb::Error::Corrupted(format!("sequence {sequence} is taken"));
                return is_same.then_some(()).ok_or_else(taken);
            }
            let mut bytes = self.insert_documents(write, record.version_id, documents)?;
            write.open_table(RECORDS)?.insert(sequence, record_json.as_slice())?;
            write.open_table(GRAPHS)?.insert(sequence, graph_json.as_slice())?;
            bytes += (record_json.len() + graph_json.len()) as u64;
            add_bytes(write, bytes)?;
            if let Some((source, seen)) = seen {
                insert_seen(write, source, seen)?;
            }
            self.retain(write)
        })
    }

    /// Notes what a source has, where that made no revision.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn note_seen(&self, source: &str, seen: &Seen) -> Result<(), LogError> {
        self.write(|write| insert_seen(write, source, seen))
    }

    fn write(&self, action: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<(), LogError> {
        self.with(|database| {
            let run = || -> Result<(), redb::Error> {
                let write = database.begin_write()?;
                action(&write)?;
                Ok(write.commit()?)
            };
            run().map_err(|error| self.error(error))
        })
    }

    /// Writes the documents that are not there yet; the bytes that took.
    fn insert_documents(
        &self,
        write: &WriteTransaction,
        version: RevisionId,
        documents: &DocumentSet,
    ) -> Result<u64, redb::Error> {
        let mut sets = write.open_table(SETS)?;
        if sets.get(version.0)?.is_some() {
            return Ok(0);
        }
        let mut table = write.open_table(DOCUMENTS)?;
        let mut set = Vec::new();
        let mut bytes = 0;
        for document in documents.iter() {
            let key = document.hash.0;
            set.extend_from_slice(&key);
            if table.get(key)?.is_none() {
                let encoded = encode(&document.name, &document.canonical);
                table.insert(key, encoded.as_slice())?;
                bytes += encoded.len() as u64;
            }
        }
        sets.insert(version.0, set.as_slice())?;
        Ok(bytes + set.len() as u64)
    }
}

fn insert_seen(write: &WriteTransaction, source: &str, seen: &Seen) -> Result<(), redb::Error> {
    let json = serde_json::to_vec(seen).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
    write.open_table(SEEN)?.insert(source, json.as_slice())?;
    Ok(())
}

fn add_bytes(write: &WriteTransaction, more: u64) -> Result<(), redb::Error> {
    let mut meta = write.open_table(META)?;
    let bytes = meta.get(BYTES_KEY)?.map_or(0, |value| value.value());
    meta.insert(BYTES_KEY, bytes + more)?;
    Ok(())
}
