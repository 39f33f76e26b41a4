//! The thread that looks at the folder. Reading files can wait for disks and networks, so it is a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch as channel;
use tracing::{debug, info, warn};
use weir_config::{Diagnostic, Severity};

use super::error::ReadError;
use super::mounts;
use super::read::Set;
use super::scan::list;
use super::watch::{Hearsay, Told, Watches};
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
    hearsay: Hearsay,
}

impl Control {
    pub(super) fn look(&self) {
        self.hearsay.add(Told::Anything);
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
    let hearsay = Hearsay::default();
    let control = Control { signals: signals.clone(), hearsay: hearsay.clone() };
    let run = move || {
        let watches = match settings.events {
            Events::Kernel => Watches::reporting_to(signals, hearsay.clone()),
            Events::CheckOnly => Watches::none(),
        };
        let task = Task {
            path,
            settings,
            signals: receiver,
            hearsay,
            watches,
            changes,
            status,
            set: None,
            is_whole: false,
            delivered: None,
            warnings: Vec::new(),
            checks: 0,
        };
        task.run();
    };
    std::thread::Builder::new().name("weir-folder".to_owned()).spawn(run)?;
    Ok(control)
}

struct Task {
    path: PathBuf,
    settings: Settings,
    signals: Receiver<Signal>,
    hearsay: Hearsay,
    watches: Watches,
    changes: channel::Sender<Option<Arc<Change>>>,
    status: channel::Sender<Status>,
    /// What was read last.
    set: Option<Set>,
    /// Whether that is what the last look saw; not when that failed.
    is_whole: bool,
    /// The hash of what was delivered last.
    delivered: Option<[u8; 32]>,
    /// What the last look at the whole folder found to warn of.
    warnings: Vec<Diagnostic>,
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
        if self.checks.is_multiple_of(CHECKS_PER_READ) || !self.is_whole {
            return true;
        }
        let listing = list(&self.path, &self.settings.limits, &mut Watches::none());
        !listing.is_ok_and(|listing| self.set.as_ref().is_some_and(|set| set.is_seen_in(&listing)))
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
        let mut changed = match cause {
            Cause::Event(_) => Told::default(),
            Cause::Start | Cause::Check => Told::Anything,
        };
        loop {
            changed.add(self.hearsay.take());
            let read = self.read(&mut changed);
            let late = Instant::now() >= deadline;
            match read {
                Ok(hash) if late || self.is_settled(cause, hash, before, detected)? => {
                    self.deliver(detected, detected_at);
                    return Ok(());
                }
                Ok(hash) => before = Some(hash),
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

    /// Reads what has changed, or everything; the hash of all there is now.
    fn read(&mut self, changed: &mut Told) -> Result<[u8; 32], Vec<ReadError>> {
        if let (Told::Files(files), Some(set), true) = (&*changed, &mut self.set, self.is_whole)
            && set.reread(&self.path, &self.settings.limits, files).is_some()
        {
            return Ok(set.hash);
        }
        // Whatever goes wrong from here on, there is more to be read than what was told.
        *changed = Told::Anything;
        self.is_whole = false;
        self.watches.begin();
        let set = Set::read(&self.path, &self.settings.limits, &mut self.watches, self.set.as_ref());
        self.watches.end();
        let set = set?;
        self.warnings = mounts::warnings(&set);
        self.is_whole = true;
        let hash = set.hash;
        self.set = Some(set);
        Ok(hash)
    }

    /// Whether what was read can be taken for what the writer meant.
    fn is_settled(
        &mut self,
        cause: Cause,
        hash: [u8; 32],
        before: Option<[u8; 32]>,
        detected: Instant,
    ) -> Result<bool, Stopped> {
        if self.delivered == Some(hash) {
            return Ok(true);
        }
        if cause == Cause::Check && before != Some(hash) {
            return Ok(false);
        }
        // A file that has just been emptied is probably about to be written (`>` in a shell); it gets a little longer.
        let has_emptied = self.set.as_ref().is_some_and(Set::has_emptied);
        if detected.elapsed() < self.settings.longest / 2 && has_emptied {
            return Ok(false);
        }
        match self.signals.try_recv() {
            Ok(Signal::Stop) => Err(Stopped),
            // Told while reading: read again.
            Ok(Signal::Look(_)) => Ok(false),
            Err(_) => Ok(true),
        }
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

    fn deliver(&mut self, detected: Instant, detected_at: SystemTime) {
        let mut warnings = self.warnings.clone();
        warnings.extend(self.watches.failure().map(|failure| self.unwatched(failure)));
        self.tell(State::Current, Vec::new(), warnings);
        let Some(set) = &mut self.set else { return };
        set.on_delivery();
        if self.delivered == Some(set.hash) {
            debug!(folder = %self.path.display(), "the folder's content is what it was");
            return;
        }
        info!(folder = %self.path.display(), files = set.len(), "the folder's content has changed");
        self.delivered = Some(set.hash);
        let change = Change { files: set.files().collect(), content_hash: set.hash, detected_at, detected };
        self.changes.send_replace(Some(Arc::new(change)));
    }

    fn report(&mut self, errors: &[ReadError]) {
        self.is_whole = false;
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
