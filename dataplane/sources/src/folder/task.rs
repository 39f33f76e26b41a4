//! The thread that looks at the folder. Reading files can wait for disks and networks, so it is a thread of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch as channel;
use tracing::{debug, info, warn};
use weir_config::{Diagnostic, Severity, SourceFile};

use super::error::ReadError;
use super::mounts;
use super::read::{Set, read_set};
use super::scan::{Listing, list};
use super::watch::Watches;
use super::{Change, Events, Settings, State, Status};

/// Signals waiting at most. They all mean the same.
const QUEUE: usize = 16;

/// Every so many checks everything is read, in case a file system keeps a file's times when its content changes.
const CHECKS_PER_READ: u32 = 12;

/// A change of one file is over within this: created, written, moved to its place. What takes longer is the work of
/// somebody who may not be done.
const BURST: Duration = Duration::from_millis(5);

/// Reads that fail in one look before the failure is reported: what is being replaced is whole a moment later.
const ATTEMPTS: u32 = 3;

/// What wakes the thread. The end of the channel ends the thread.
#[derive(Debug)]
pub(super) enum Signal {
    /// Something may have changed.
    Look(Hint),
    /// Nobody wants the folder any more.
    Stop,
}

/// What an event says about the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// A file is whole: the writer may be done.
    Whole,
    /// The writer is at work, or nothing is known of it.
    Unfinished,
}

/// The handle of the thread.
#[derive(Debug)]
pub(super) struct Control {
    signals: SyncSender<Signal>,
}

impl Control {
    pub(super) fn look(&self) {
        // A full queue has a signal to look already.
        let _full = self.signals.try_send(Signal::Look(Hint::Unfinished));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // When the queue is full the thread is busy; it sees that the receivers of its channels are gone.
        let _full = self.signals.try_send(Signal::Stop);
    }
}

/// Starts the thread.
pub(super) fn start(
    path: PathBuf,
    settings: Settings,
    changes: channel::Sender<Option<Arc<Change>>>,
    status: channel::Sender<Status>,
) -> std::io::Result<Control> {
    let (signals, receiver) = sync_channel(QUEUE);
    let control = Control { signals: signals.clone() };
    let run = move || {
        let watches = match settings.events {
            Events::Kernel => Watches::reporting_to(signals),
            Events::CheckOnly => Watches::none(),
        };
        let task =
            Task { path, settings, signals: receiver, watches, changes, status, last: None, listing: None, checks: 0 };
        task.run();
    };
    std::thread::Builder::new().name("weir-folder".to_owned()).spawn(run)?;
    Ok(control)
}

/// What was delivered last.
struct Last {
    hash: [u8; 32],
    /// Sizes, to recognize a file that has just been emptied.
    sizes: BTreeMap<PathBuf, usize>,
}

struct Task {
    path: PathBuf,
    settings: Settings,
    signals: Receiver<Signal>,
    watches: Watches,
    changes: channel::Sender<Option<Arc<Change>>>,
    status: channel::Sender<Status>,
    last: Option<Last>,
    /// What the last look listed; `None` when it failed.
    listing: Option<Listing>,
    checks: u32,
}

/// How a look at the folder began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Start,
    Event(Hint),
    /// No event told: nothing says either when the writer is done.
    Check,
}

/// The folder is not wanted any more.
struct Stopped;

impl Task {
    fn run(mut self) {
        let mut cause = Some(Cause::Start);
        loop {
            if let Some(cause) = cause
                && self.look(cause).is_err()
            {
                return;
            }
            cause = match self.signals.recv_timeout(self.settings.check) {
                Ok(Signal::Look(hint)) => Some(Cause::Event(hint)),
                Err(RecvTimeoutError::Timeout) if self.differs() => Some(Cause::Check),
                Err(RecvTimeoutError::Timeout) => None,
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.changes.is_closed() {
                return;
            }
        }
    }

    /// Whether a check sees something that the last look did not.
    fn differs(&mut self) -> bool {
        self.checks += 1;
        let listing = list(&self.path, &self.settings.limits, &mut Watches::none()).ok();
        self.checks.is_multiple_of(CHECKS_PER_READ) || listing.is_none() || listing != self.listing
    }

    /// Waits until the folder is quiet, reads it, and delivers what it has.
    fn look(&mut self, cause: Cause) -> Result<(), Stopped> {
        let (detected, detected_at) = (Instant::now(), SystemTime::now());
        let deadline = detected + self.settings.longest;
        let mut failures = 0;
        let mut before = None;
        match cause {
            Cause::Start => {}
            Cause::Event(hint) => self.quiet(hint, detected, deadline)?,
            Cause::Check => self.quiet(Hint::Unfinished, detected, deadline)?,
        }
        loop {
            let read = self.read();
            let late = Instant::now() >= deadline;
            match read {
                Ok(set) if late || self.is_settled(cause, &set, before, detected)? => {
                    self.deliver(set, detected, detected_at);
                    return Ok(());
                }
                Ok(set) => before = Some(set.hash),
                Err(errors) => {
                    failures += 1;
                    if late || failures >= ATTEMPTS || self.is_missing(&errors) {
                        self.report(&errors);
                        return Ok(());
                    }
                }
            }
            self.quiet(Hint::Unfinished, detected, deadline)?;
        }
    }

    fn read(&mut self) -> Result<Set, Vec<ReadError>> {
        self.watches.begin();
        let set = read_set(&self.path, &self.settings.limits, &mut self.watches);
        self.watches.end();
        set
    }

    /// Whether what was read can be taken for what the writer meant.
    fn is_settled(
        &mut self,
        cause: Cause,
        set: &Set,
        before: Option<[u8; 32]>,
        detected: Instant,
    ) -> Result<bool, Stopped> {
        if self.last.as_ref().is_some_and(|last| last.hash == set.hash) {
            return Ok(true);
        }
        if cause == Cause::Check && before != Some(set.hash) {
            return Ok(false);
        }
        // A file that has just been emptied is probably about to be written (`>` in a shell); it gets a little longer.
        if detected.elapsed() < self.settings.longest / 2 && self.emptied(&set.files) {
            return Ok(false);
        }
        match self.signals.try_recv() {
            Ok(Signal::Stop) => Err(Stopped),
            // Told while reading: read again.
            Ok(Signal::Look(_)) => Ok(false),
            Err(_) => Ok(true),
        }
    }

    fn emptied(&self, files: &[SourceFile]) -> bool {
        let Some(last) = &self.last else { return false };
        files.iter().any(|file| file.text.is_empty() && last.sizes.get(&file.path).is_some_and(|size| *size > 0))
    }

    /// Waits until nothing has been told for long enough, at most until the deadline.
    fn quiet(&self, hint: Hint, detected: Instant, deadline: Instant) -> Result<(), Stopped> {
        let after = |hint| {
            let now = Instant::now();
            let is_short = hint == Hint::Whole && now.duration_since(detected) < BURST;
            now + if is_short { self.settings.whole.min(self.settings.debounce) } else { self.settings.debounce }
        };
        let mut until = after(hint);
        loop {
            let wait = until.min(deadline).saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match self.signals.recv_timeout(wait) {
                Ok(Signal::Look(_)) if Instant::now() >= deadline => return Ok(()),
                Ok(Signal::Look(hint)) => until = after(hint),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return Err(Stopped),
            }
        }
    }

    fn deliver(&mut self, set: Set, detected: Instant, detected_at: SystemTime) {
        let mut warnings = mounts::warnings(&set.listing);
        warnings.extend(self.watches.failure().map(|failure| self.unwatched(failure)));
        self.tell(State::Current, Vec::new(), warnings);
        self.listing = Some(set.listing);
        if self.last.as_ref().is_some_and(|last| last.hash == set.hash) {
            debug!(folder = %self.path.display(), "the folder's content is what it was");
            return;
        }
        info!(folder = %self.path.display(), files = set.files.len(), "the folder's content has changed");
        let sizes = set.files.iter().map(|file| (file.path.clone(), file.text.len())).collect();
        self.last = Some(Last { hash: set.hash, sizes });
        let change = Change { files: set.files, content_hash: set.hash, detected_at, detected };
        self.changes.send_replace(Some(Arc::new(change)));
    }

    fn report(&mut self, errors: &[ReadError]) {
        self.listing = None;
        let state = if self.is_missing(errors) { State::Missing } else { State::Failed };
        let warnings = self.watches.failure().map(|failure| self.unwatched(failure)).into_iter().collect();
        self.tell(state, errors.iter().map(ReadError::diagnostic).collect(), warnings);
    }

    fn is_missing(&self, errors: &[ReadError]) -> bool {
        errors.iter().any(|error| matches!(error, ReadError::Missing(path) if *path == self.path))
    }

    fn unwatched(&self, failure: &str) -> Diagnostic {
        let message = format!(
            "the kernel gives no events ({failure}); changes are found every {:?}. Check fs.inotify.max_user_watches \
             and max_user_instances",
            self.settings.check
        );
        let file = Some(self.path.clone());
        Diagnostic { severity: Severity::Warning, file, ..Diagnostic::error(message) }
    }

    /// Publishes the status, and logs what is new in it.
    fn tell(&self, state: State, problems: Vec<Diagnostic>, warnings: Vec<Diagnostic>) {
        let status = Status { state, problems: problems.into(), warnings: warnings.into() };
        self.status.send_if_modified(|current| {
            if *current == status {
                return false;
            }
            for problem in status.problems.iter().filter(|problem| !current.problems.contains(problem)) {
                warn!(folder = %self.path.display(), "the folder cannot be read, what is in force stays: {problem}");
            }
            for warning in status.warnings.iter().filter(|warning| !current.warnings.contains(warning)) {
                warn!(folder = %self.path.display(), "{warning}");
            }
            *current = status.clone();
            true
        });
    }
}
