//! Opens the log, and begins a new one where that is the only way on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use redb::{Builder, Database, ReadableDatabase, TableError};
use tracing::{error, warn};

use super::tables::{DOCUMENTS, GRAPHS, META, RECORDS, SCHEMA, SCHEMA_KEY, SEEN, SETS};
use super::{Access, FILE, Log, LogError, Retention};

/// Bytes of the database's page cache. The log is read seldom; the node should stay small.
const CACHE_BYTES: usize = 1 << 20;

impl Log {
    /// Opens the log in a state directory, which is made if it is not there.
    ///
    /// A damaged log is moved aside (to `revisions.redb.damaged`) and a new one begun: a node without a history is
    /// better than none. That is logged as an error, because the last good revision is lost with it until the source
    /// has been read.
    ///
    /// # Errors
    /// See [`LogError`]; what is merely damaged is no error here.
    pub fn open(directory: &Path, retention: Retention) -> Result<Self, LogError> {
        let path = directory.join(FILE);
        fs::create_dir_all(directory).map_err(|source| LogError::Disk { path: directory.to_owned(), source })?;
        let log = Self { path, retention, database: RwLock::new(Access::Closed) };
        match log.open_and_verify() {
            Ok(()) => Ok(log),
            Err(LogError::Damaged { reason, .. }) => {
                log.move_aside(&reason)?;
                log.open_and_verify()?;
                Ok(log)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the database, and reads what the node cannot start without.
    fn open_and_verify(&self) -> Result<(), LogError> {
        self.with(|_| Ok(()))?;
        let verified = self.latest().and_then(|latest| match latest {
            Some(record) => self.documents(record.sequence).map(drop),
            None => Ok(()),
        });
        if verified.is_err() {
            self.close();
        }
        verified
    }

    fn move_aside(&self, reason: &str) -> Result<(), LogError> {
        let aside = PathBuf::from(format!("{}.damaged", self.path.display()));
        fs::rename(&self.path, &aside).map_err(|source| LogError::Disk { path: self.path.clone(), source })?;
        error!(
            log = %self.path.display(), moved_to = %aside.display(), reason,
            "the version log is damaged: it was moved aside and a new one begun. The history and the last good \
             revision are lost; nothing is in force until the source has been read"
        );
        Ok(())
    }

    /// Runs `action` with the database, which is opened if it is not open. Where the database itself fails it is
    /// closed, because it refuses everything from then on.
    pub(super) fn with<T>(&self, action: impl FnOnce(&Database) -> Result<T, LogError>) -> Result<T, LogError> {
        self.reopen()?;
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let result = match &*guard {
            Access::Open(database) => action(database),
            Access::Closed => Err(self.damaged(&"it was closed meanwhile")),
            Access::Lent => Err(LogError::Lent { path: self.path.clone() }),
        };
        drop(guard);
        if matches!(result, Err(LogError::Disk { .. })) {
            self.close();
        }
        result
    }

    fn access(&self) -> RwLockWriteGuard<'_, Access> {
        self.database.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut access = self.access();
        if matches!(*access, Access::Open(_)) {
            *access = Access::Closed;
        }
    }

    /// Closes the file and leaves it to another process. Everything is refused until [`Log::take_back`].
    pub(crate) fn lend(&self) {
        *self.access() = Access::Lent;
    }

    /// Uses the file again; it is opened by the next who needs it.
    pub(crate) fn take_back(&self) {
        *self.access() = Access::Closed;
    }

    /// # Errors
    /// When another process has the file.
    pub(crate) fn check_not_lent(&self) -> Result<(), LogError> {
        match *self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Access::Lent => Err(LogError::Lent { path: self.path.clone() }),
            Access::Open(_) | Access::Closed => Ok(()),
        }
    }

    /// Opens the database if it is closed.
    fn reopen(&self) -> Result<(), LogError> {
        if !matches!(*self.database.read().unwrap_or_else(PoisonError::into_inner), Access::Closed) {
            return Ok(());
        }
        let mut access = self.access();
        if !matches!(*access, Access::Closed) {
            return Ok(());
        }
        let mut builder = Builder::new();
        // Costs reading the file once; without it a damaged page is found when it is too late to move it aside.
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        builder.set_repair_callback(|_| warn!("the version log was not closed in order: it is being checked"));
        let database = builder.create(&self.path).map_err(|error| self.open_error(error))?;
        self.prepare(&database)?;
        *access = Access::Open(database);
        Ok(())
    }

    fn open_error(&self, error: redb::DatabaseError) -> LogError {
        match error {
            // What does not even begin like a database.
            redb::DatabaseError::Storage(redb::StorageError::Io(source))
                if matches!(source.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
            {
                self.damaged(&source)
            }
            error => self.error(error),
        }
    }

    /// Makes the tables of a new log; looks at the schema of one that exists.
    fn prepare(&self, database: &Database) -> Result<(), LogError> {
        let read = database.begin_read().map_err(|error| self.error(error))?;
        match read.open_table(META) {
            Ok(meta) => {
                let found = meta.get(SCHEMA_KEY).map_err(|error| self.error(error))?.map(|value| value.value());
                match found.and_then(|found| u32::try_from(found).ok()) {
                    Some(found) if found > SCHEMA => {
                        Err(LogError::Newer { path: self.path.clone(), found, known: SCHEMA })
                    }
                    Some(SCHEMA) => Ok(()),
                    Some(found) => Err(self.damaged(&format!("it has schema {found}, which is not read any more"))),
                    None => Err(self.damaged(&"it has no schema version")),
                }
            }
            Err(TableError::TableDoesNotExist(_)) => self.create_tables(database),
            Err(error) => Err(self.error(error)),
        }
    }

    fn create_tables(&self, database: &Database) -> Result<(), LogError> {
        let create = || -> Result<(), redb::Error> {
            let write = database.begin_write()?;
            write.open_table(META)?.insert(SCHEMA_KEY, u64::from(SCHEMA))?;
            write.open_table(RECORDS)?;
            write.open_table(GRAPHS)?;
            write.open_table(SETS)?;
            write.open_table(DOCUMENTS)?;
            write.open_table(SEEN)?;
            write.commit()?;
            Ok(())
        };
        create().map_err(|error| self.error(error))
    }
}
