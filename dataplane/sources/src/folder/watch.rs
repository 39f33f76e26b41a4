//! The kernel's watches: which directories, and which names in them matter.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::scan::{is_document, is_hidden};
use super::task::{Hint, Signal};

/// What matters in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Interest {
    /// Everything does: it is part of the folder.
    all: bool,
    /// These names do: they are on the way to the folder, links in it, or what links lead to.
    names: BTreeSet<OsString>,
}

type Interests = BTreeMap<PathBuf, Interest>;

/// Files told of at most, one by one.
const MOST_TOLD: usize = 64;

/// What has changed since somebody asked last, as far as events tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// At most these files of the folder, with paths without links.
    Files(BTreeSet<PathBuf>),
    /// Anything.
    Anything,
}

impl Default for Told {
    fn default() -> Self {
        Self::Files(BTreeSet::new())
    }
}

impl Told {
    pub(super) fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Files(files), Self::Files(more)) if files.len() + more.len() <= MOST_TOLD => files.extend(more),
            _ => *self = Self::Anything,
        }
    }
}

/// What has been told, by whoever told it.
#[derive(Clone, Debug, Default)]
pub(super) struct Hearsay(Arc<Mutex<Told>>);

impl Hearsay {
    pub(super) fn add(&self, told: Told) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(told);
    }

    /// What has been told since the last call.
    pub(super) fn take(&self) -> Told {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The watches of a folder. Every look at the whole folder sets them anew: one that was lost with its directory comes
/// back, and one that leads nowhere any more goes.
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

    /// Watches that report to `signals` and say to `hearsay` what it is about. When the kernel gives none,
    /// [`Watches::failure`] says why.
    pub(super) fn reporting_to(signals: SyncSender<Signal>, hearsay: Hearsay) -> Self {
        let shared = Arc::new(Mutex::new(Interests::new()));
        let interests = Arc::clone(&shared);
        let handler = move |event: notify::Result<Event>| {
            let (hint, told) = match event {
                Ok(event) => {
                    let interests = interests.lock().unwrap_or_else(PoisonError::into_inner);
                    (hint(event.kind), what_changed(&event, &interests))
                }
                Err(_) => (Hint::Unfinished, Some(Told::Anything)),
            };
            if let Some(told) = told {
                hearsay.add(told);
                // A full queue already has what wakes the receiver.
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
        self.want(path, |interest| interest.all = true);
    }

    /// A name in a directory matters. The directory's path must be without links.
    pub(super) fn name(&mut self, directory: &Path, name: &OsStr) {
        self.want(directory, |interest| {
            interest.names.insert(name.to_owned());
        });
    }

    fn want(&mut self, path: &Path, widen: impl FnOnce(&mut Interest)) {
        let Some(watcher) = &mut self.watcher else { return };
        // Interest first: an event may come before the next line.
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        widen(shared.entry(path.to_owned()).or_default());
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

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    File,
    FileOrFolder,
    Anything,
}

/// What an event can mean to have changed; `None` for nothing. Reading a file causes events too, and so does writing one
/// that is not read before it has its name.
fn what_changed(event: &Event, interests: &Interests) -> Option<Told> {
    let about = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => About::File,
        EventKind::Access(_) => return None,
        EventKind::Create(CreateKind::File) | EventKind::Remove(RemoveKind::File) => About::File,
        EventKind::Modify(ModifyKind::Data(_)) => About::File,
        EventKind::Modify(ModifyKind::Metadata(_) | ModifyKind::Name(_)) => About::FileOrFolder,
        _ => About::Anything,
    };
    if event.paths.is_empty() || event.need_rescan() {
        return Some(Told::Anything);
    }
    let told = event.paths.iter().filter_map(|path| {
        let interest = path.parent().and_then(|parent| interests.get(parent));
        let is_named = interest.zip(path.file_name()).is_some_and(|(interest, name)| interest.names.contains(name));
        let is_within = interest.is_some_and(|interest| interest.all);
        let itself = interests.get(path);
        let is_unread = match about {
            About::File => is_hidden(path.file_name().unwrap_or_default()) || !is_document(path),
            About::FileOrFolder => is_hidden(path.file_name().unwrap_or_default()),
            About::Anything => false,
        };
        match (is_within, is_named || itself.is_some()) {
            (true, false) if is_unread => None,
            (true, false) if about != About::Anything => Some(Told::Files(BTreeSet::from([path.clone()]))),
            (true, _) => Some(Told::Anything),
            (false, _) => (is_named || itself.is_some_and(|interest| interest.all)).then_some(Told::Anything),
        }
    });
    told.reduce(|mut all, one| {
        all.add(one);
        all
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
    use notify::event::{DataChange, Flag, RenameMode};

    use super::*;

    #[test]
    fn what_events_tell() {
        let of = |all, names: &[&str]| Interest { all, names: names.iter().map(OsString::from).collect() };
        let interests = Interests::from([
            ("/etc/rules".into(), of(true, &["link.yaml", "..data"])),
            ("/etc/rules/..2026".into(), of(false, &["link.yaml"])),
            ("/etc/rules/sub".into(), of(true, &[])),
            ("/etc".into(), of(false, &["rules"])),
        ]);
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let rename = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        let (file, folder) = (EventKind::Create(CreateKind::File), EventKind::Create(CreateKind::Folder));
        let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        // Each: the event, the paths it is about, and what that tells: `*` for anything, or files.
        let cases: [(EventKind, &[&str], Option<&[&str]>); 21] = [
            (close, &["/etc/rules/a.yaml"], Some(&["/etc/rules/a.yaml"])),
            (data, &["/etc/rules/sub/a.yaml"], Some(&["/etc/rules/sub/a.yaml"])),
            (file, &["/etc/rules/a.yaml"], Some(&["/etc/rules/a.yaml"])),
            (rename, &["/etc/rules/.a", "/etc/rules/a.yaml"], Some(&["/etc/rules/a.yaml"])),
            (rename, &["/etc/rules/a", "/etc/rules/b"], Some(&["/etc/rules/a", "/etc/rules/b"])),
            (file, &["/etc/rules/.a"], None),
            (close, &["/etc/rules/notes.txt"], None),
            (close, &["/etc/rules/..data"], Some(&["*"])),
            (rename, &["/tmp/a.yaml", "/etc/rules/a.yaml"], Some(&["/etc/rules/a.yaml"])),
            (EventKind::Remove(RemoveKind::File), &["/etc/rules/a.yaml"], Some(&["/etc/rules/a.yaml"])),
            (folder, &["/etc/rules/more"], Some(&["*"])),
            (EventKind::Remove(RemoveKind::Folder), &["/etc/rules/sub"], Some(&["*"])),
            (rename, &["/etc/rules/sub", "/etc/rules/bus"], Some(&["*"])),
            (rename, &["/etc/rules/..tmp", "/etc/rules/..data"], Some(&["*"])),
            (close, &["/etc/rules/link.yaml"], Some(&["*"])),
            (close, &["/etc/rules/..2026/link.yaml"], Some(&["*"])),
            (folder, &["/etc/rules"], Some(&["*"])),
            (folder, &["/etc/passwd"], None),
            (data, &["/etc"], None),
            (open, &["/etc/rules/a.yaml"], None),
            (read, &["/etc/rules/a.yaml"], None),
        ];
        let told = |expected: &[&str]| match expected {
            ["*"] => Told::Anything,
            files => Told::Files(files.iter().map(PathBuf::from).collect()),
        };
        for (kind, paths, expected) in cases {
            let event = Event { paths: paths.iter().map(PathBuf::from).collect(), ..Event::new(kind) };
            assert_eq!(what_changed(&event, &interests), expected.map(told), "{kind:?} {paths:?}");
            let lost = event.set_flag(Flag::Rescan);
            let is_read = matches!(kind, EventKind::Access(_)) && kind != close;
            assert_eq!(what_changed(&lost, &interests), (!is_read).then_some(Told::Anything), "{kind:?} {paths:?}");
        }
        assert_eq!(what_changed(&Event::new(EventKind::Other), &interests), Some(Told::Anything));
    }

    #[test]
    fn more_files_than_a_few_are_anything() {
        let file = |number: usize| Told::Files(BTreeSet::from([PathBuf::from(format!("/{number}"))]));
        let mut told = Told::default();
        (0..MOST_TOLD).for_each(|number| told.add(file(number)));
        assert!(matches!(&told, Told::Files(files) if files.len() == MOST_TOLD));
        told.add(file(MOST_TOLD));
        assert_eq!(told, Told::Anything);
        told.add(file(0));
        assert_eq!(told, Told::Anything);
    }
}
