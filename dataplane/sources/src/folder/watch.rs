//! The kernel's watches: which directories, and which names in them matter.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::task::{Hint, Signal};

/// What matters in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Interest {
    /// Everything: it is part of the folder.
    All,
    /// These names: links on the way to the folder or to a file.
    Names(BTreeSet<OsString>),
}

type Interests = BTreeMap<PathBuf, Interest>;

/// The watches of a folder. Every look at the folder sets them anew: one that was lost with its directory comes back,
/// and one that leads nowhere any more goes.
#[derive(Debug, Default)]
pub(super) struct Watches {
    watcher: Option<RecommendedWatcher>,
    shared: Arc<Mutex<Interests>>,
    wanted: BTreeSet<PathBuf>,
    /// Why a directory could not be watched in this look.
    failure: Option<String>,
}

impl Watches {
    /// Watches nothing.
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// Watches that report to `signals`. When the kernel gives none, [`Watches::failure`] says why.
    pub(super) fn reporting_to(signals: SyncSender<Signal>) -> Self {
        let shared = Arc::new(Mutex::new(Interests::new()));
        let interests = Arc::clone(&shared);
        let handler = move |event: notify::Result<Event>| {
            let hint = event.map_or(Some(Hint::Unfinished), |event| {
                let interests = interests.lock().unwrap_or_else(PoisonError::into_inner);
                matters(&event, &interests).then(|| hint(event.kind))
            });
            // A full queue already has what wakes the receiver; it looks at everything anyway.
            if let Some(hint) = hint {
                let _full_or_gone = signals.try_send(Signal::Look(hint));
            }
        };
        let (watcher, failure) = match notify::recommended_watcher(handler) {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self { watcher, shared, wanted: BTreeSet::new(), failure }
    }

    /// Begins a look at the folder.
    pub(super) fn begin(&mut self) {
        self.wanted.clear();
        if self.watcher.is_some() {
            self.failure = None;
        }
    }

    /// Everything in a directory matters. The path must be without links.
    pub(super) fn directory(&mut self, path: &Path) {
        self.want(path, |interest| *interest = Interest::All);
    }

    /// A name in a directory matters. The directory's path must be without links.
    pub(super) fn name(&mut self, directory: &Path, name: &OsStr) {
        self.want(directory, |interest| {
            if let Interest::Names(names) = interest {
                names.insert(name.to_owned());
            }
        });
    }

    fn want(&mut self, path: &Path, widen: impl FnOnce(&mut Interest)) {
        let Some(watcher) = &mut self.watcher else { return };
        // Interest first: an event may come before the next line.
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        widen(shared.entry(path.to_owned()).or_insert_with(|| Interest::Names(BTreeSet::new())));
        drop(shared);
        if self.wanted.insert(path.to_owned())
            && let Err(error) = watcher.watch(path, RecursiveMode::NonRecursive)
        {
            // A directory that is gone again is no failure of watching.
            if path.exists() {
                self.failure = Some(format!("{}: {error}", path.display()));
            }
        }
    }

    /// Ends a look: what it did not want is watched no more.
    pub(super) fn end(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let stale: Vec<_> = shared.keys().filter(|path| !self.wanted.contains(*path)).cloned().collect();
        stale.iter().for_each(|path| drop(shared.remove(path)));
        drop(shared);
        for path in stale {
            // Its directory may be gone, and the watch with it.
            let _already_gone = watcher.unwatch(&path);
        }
    }

    /// Why changes may go unseen until the next check.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

/// Whether an event can mean that the folder's content is another. Reading a file causes events too.
fn matters(event: &Event, interests: &Interests) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return false,
        _ if event.paths.is_empty() => return true,
        _ => {}
    }
    event.paths.iter().any(|path| {
        let about_name = match path.parent().and_then(|parent| interests.get(parent)) {
            Some(Interest::All) => true,
            Some(Interest::Names(names)) => path.file_name().is_some_and(|name| names.contains(name)),
            None => false,
        };
        about_name || interests.get(path) == Some(&Interest::All)
    })
}

/// What an event says about the writer.
fn hint(kind: EventKind) -> Hint {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Remove(_) => Hint::Whole,
        _ => Hint::Unfinished,
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, Flag};

    use super::*;

    #[test]
    fn only_what_can_change_content_matters() {
        let names = BTreeSet::from([OsString::from("rules")]);
        let interests =
            Interests::from([("/etc/rules".into(), Interest::All), ("/etc".into(), Interest::Names(names))]);
        let create = EventKind::Create(CreateKind::Any);
        let cases = [
            (create, Some("/etc/rules/a.yaml"), true),
            (create, Some("/etc/rules"), true),
            (create, Some("/etc/passwd"), false),
            (EventKind::Modify(ModifyKind::Data(DataChange::Any)), Some("/etc"), false),
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), Some("/etc/rules/a.yaml"), false),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), Some("/etc/rules/a.yaml"), false),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), Some("/etc/rules/a.yaml"), true),
            (EventKind::Other, None, true),
        ];
        for (kind, path, expected) in cases {
            let event = Event::new(kind).add_some_path(path.map(PathBuf::from)).set_flag(Flag::Rescan);
            assert_eq!(matters(&event, &interests), expected, "{kind:?} {path:?}");
        }
    }
}
