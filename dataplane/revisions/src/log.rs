//! The version log: every configuration that was in force, on disk.
//!
//! Documents are kept once however many revisions have them. A revision is written in one transaction that is on disk
//! when [`Log::append`] returns; a process killed in between leaves the log as it was. The log knows nothing of what
//! documents mean.

mod open;
mod read;
mod retention;
mod tables;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use redb::Database;
use weir_core::name::ObjectName;
use weir_core::revision::{DocumentHash, RevisionId};

pub use read::{Kept, SelectError, Selector};
pub use write::Seen;

/// The name of the log's file in the state directory.
pub const FILE: &str = "revisions.redb";

/// How much is kept. The revision in force is kept whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Revisions, at least 1.
    pub revisions: usize,
    /// Bytes of documents and records. The file is larger: pages, and free ones that wait to be used again.
    pub bytes: u64,
}

impl Default for Retention {
    /// Half a year of a change every two days, on a small disk.
    fn default() -> Self {
        Self { revisions: 100, bytes: 64 << 20 }
    }
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process has it.
    #[error(
        "{path} is in use by another process: only one node can use a state directory (`weir node --take-over` \
             replaces the node that runs)"
    )]
    InUse {
        /// The log's file.
        path: PathBuf,
    },
    /// This process gave it to another, which takes over.
    #[error("{path} is with the process that takes over from this one; ask again in a moment")]
    Lent {
        /// The log's file.
        path: PathBuf,
    },
    /// A later version of Weir wrote it.
    #[error(
        "{path} was written by a newer version of Weir (schema {found}, known is {known}): use that version, or \
             move the file away to begin a new log"
    )]
    Newer {
        /// The log's file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// The latest that is understood.
        known: u32,
    },
    /// What it says makes no sense.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The log's file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The system refuses: the disk is full, or not writable.
    #[error("{path}: {source}; check that the disk has space and can be written")]
    Disk {
        /// The log's file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The version log. Shared by reference: reading does not wait for writing.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    retention: Retention,
    database: RwLock<Access>,
}

/// The database, if it may be used.
#[derive(Debug)]
enum Access {
    Open(Database),
    /// After a failure: the database refuses everything then, and is opened anew by the next who needs it.
    Closed,
    /// Another process has it.
    Lent,
}

/// A document as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptDocument {
    /// Kind, namespace and name.
    pub name: ObjectName,
    /// Its canonical content.
    pub canonical: String,
}

impl Log {
    /// The log's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn damaged(&self, reason: &dyn std::fmt::Display) -> LogError {
        LogError::Damaged { path: self.path.clone(), reason: reason.to_string() }
    }

    /// Sorts the database's errors: those of the disk pass, the others do not.
    fn error(&self, error: impl Into<redb::Error>) -> LogError {
        match error.into() {
            redb::Error::Io(source) => LogError::Disk { path: self.path.clone(), source },
            redb::Error::PreviousIo => {
                let source = io::Error::other("an earlier write failed");
                LogError::Disk { path: self.path.clone(), source }
            }
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                LogError::InUse { path: self.path.clone() }
            }
            other => self.damaged(&other),
        }
    }
}

/// The id of documents as the log has them.
fn id_of(documents: &[KeptDocument]) -> RevisionId {
    RevisionId::of(documents.iter().map(|document| DocumentHash::of(&document.name, &document.canonical)))
}
