//! The folder source: YAML and JSON files in a directory and its subdirectories.
//!
//! Directories are watched, not files: an editor's save, a `git pull` and the symlink swap of a ConfigMap volume all
//! replace files. What events do not tell (network file systems, overflowed queues) a slow check finds. Names that
//! begin with a dot are not read; links to what lies behind them are followed.

mod error;
mod mounts;
mod read;
mod scan;
mod task;
mod trail;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch as channel;
use weir_config::{Diagnostic, SourceFile};

pub use error::ReadError;
pub use read::read;

use task::Control;

/// How a folder is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Quiet time after the last event before the folder is read. A change of several files is one change when its
    /// parts are no further apart.
    pub debounce: Duration,
    /// The same where a change began a moment ago and its last event says that a file is whole: closed after writing,
    /// moved to its place, removed. Most changes are of one file, and end so.
    pub whole: Duration,
    /// From the first event: how long events are gathered at most when they do not cease.
    pub longest: Duration,
    /// Time between two looks at what no event told. The looks compare sizes and times; every twelfth reads everything.
    pub check: Duration,
    /// Whether the kernel's events are used.
    pub events: Events,
    /// Bounds on what is read.
    pub limits: Limits,
}

impl Default for Settings {
    /// A change of one file is known after 10 ms, one that takes its time 100 ms after its last event, and after a
    /// second however busy the folder is.
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(100),
            whole: Duration::from_millis(10),
            longest: Duration::from_secs(1),
            check: Duration::from_secs(5),
            events: Events::Kernel,
            limits: Limits::default(),
        }
    }
}

/// What tells of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// inotify, and the slow check besides.
    Kernel,
    /// The check alone: for file systems that are changed by other machines.
    CheckOnly,
}

/// Bounds on what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Number of files.
    pub files: usize,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// How deep directories may nest.
    pub depth: usize,
}

impl Default for Limits {
    /// Far above any sensible configuration, far below what would make the node run out of memory.
    fn default() -> Self {
        Self { file_bytes: 4 << 20, files: 20_000, total_bytes: 256 << 20, depth: 32 }
    }
}

/// A set of files that differs from the one before.
#[derive(Debug)]
pub struct Change {
    /// All files, sorted by path. Their paths begin with the folder's as it was given. A file that is what it was in the
    /// set before is the same.
    pub files: Vec<Arc<SourceFile>>,
    /// SHA-256 over the files' paths (relative to the folder) and contents.
    pub content_hash: [u8; 32],
    /// When the first sign of the change was seen.
    pub detected_at: SystemTime,
    /// The same on the monotonic clock.
    pub detected: Instant,
}

/// How a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether the folder can be read.
    pub state: State,
    /// Why not, each with the file that it is about.
    pub problems: Arc<[Diagnostic]>,
    /// What will not work as expected although the folder can be read.
    pub warnings: Arc<[Diagnostic]>,
}

/// Whether a source can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not read yet.
    Starting,
    /// There is no such folder; it is waited for.
    Missing,
    /// It is there, but cannot be read as a whole. The last set that was delivered stays in force.
    Failed,
    /// What was delivered last is what is there.
    Current,
}

/// A watched folder. Watching ends when it is dropped.
#[derive(Debug)]
pub struct Folder {
    changes: channel::Receiver<Option<Arc<Change>>>,
    status: channel::Receiver<Status>,
    control: Control,
}

impl Folder {
    /// Begins to watch a folder (or a single file). It need not be there yet. The first set is delivered as soon as
    /// it can be read.
    ///
    /// # Errors
    /// When no thread can be started. A kernel that gives no more watches is not an error: the check finds changes
    /// then, and [`Status::warnings`] says so.
    pub fn watch(path: impl Into<PathBuf>, settings: Settings) -> std::io::Result<Self> {
        let (changes_in, changes) = channel::channel(None);
        let starting = Status { state: State::Starting, problems: [].into(), warnings: [].into() };
        let (status_in, status) = channel::channel(starting);
        let control = task::start(path.into(), settings, changes_in, status_in)?;
        Ok(Self { changes, status, control })
    }

    /// Waits for the next set of files. A set that nobody took before there was a newer one is skipped. `None` when
    /// watching has ended.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<Change>> {
        self.changes.changed().await.ok()?;
        self.changes.borrow_and_update().clone()
    }

    /// How the folder is, now and from now on.
    pub fn status(&self) -> channel::Receiver<Status> {
        self.status.clone()
    }

    /// Looks at the folder now, as if an event had come (`SIGHUP`).
    pub fn look(&self) {
        self.control.look();
    }
}
