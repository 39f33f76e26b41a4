//! Which files a folder has, and what must be watched to notice that they change.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::ReadError;
use super::trail::trail;
use super::{Limits, watch::Watches};

/// What changes when a file's content does. The time of the inode's change is in it because no program can set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path: the folder's as it was given, and its own within.
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

/// The files of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Sorted by path.
    pub(super) entries: Vec<Entry>,
    /// The directories: the path without links, as events have it, and those by which it was found, which begin as the
    /// folder's was given.
    pub(super) directories: BTreeMap<PathBuf, Vec<PathBuf>>,
}

/// Lists a folder. Watches are set on every directory before it is listed, so that nothing can change unseen between.
///
/// # Errors
/// Everything that is wrong with any part of it.
pub(super) fn list(root: &Path, limits: &Limits, watches: &mut Watches) -> Result<Listing, Vec<ReadError>> {
    let mut scan = Scan { limits, watches, listing: Listing::default(), errors: Vec::new() };
    scan.watch_trail(root);
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => scan.directory(root, &mut Vec::new()),
        Ok(metadata) => {
            scan.listing.entries.push(Entry { path: root.to_owned(), stamp: Stamp::of(&metadata) });
        }
        Err(error) => scan.errors.push(ReadError::unreadable(root)(error)),
    }
    let Scan { mut listing, errors, .. } = scan;
    listing.entries.sort_by(|a, b| a.path.cmp(&b.path));
    if errors.is_empty() { Ok(listing) } else { Err(errors) }
}

struct Scan<'a> {
    limits: &'a Limits,
    watches: &'a mut Watches,
    listing: Listing,
    errors: Vec<ReadError>,
}

/// Errors gathered at most: more would be the same one again.
const MAX_ERRORS: usize = 100;

impl Scan<'_> {
    /// `above` are the real paths of the directories that lead here.
    fn directory(&mut self, path: &Path, above: &mut Vec<PathBuf>) {
        if above.len() >= self.limits.depth {
            return self.errors.push(ReadError::TooDeep { path: path.to_owned(), limit: self.limits.depth });
        }
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) => return self.errors.push(ReadError::unreadable(path)(error)),
        };
        // A link back to a folder above would never end.
        if above.contains(&real) {
            return;
        }
        self.watches.directory(&real);
        self.listing.directories.entry(real.clone()).or_default().push(path.to_owned());
        let names = fs::read_dir(path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()
        });
        let mut names = match names {
            Ok(names) => names,
            Err(error) => return self.errors.push(ReadError::unreadable(path)(error)),
        };
        names.retain(|name| !is_hidden(name));
        names.sort();
        above.push(real);
        for name in names {
            if self.errors.len() >= MAX_ERRORS {
                break;
            }
            self.entry(&path.join(name), above);
        }
        above.pop();
    }

    fn entry(&mut self, path: &Path, above: &mut Vec<PathBuf>) {
        let link = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            // Gone since the directory was listed: whoever removed it caused another look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.errors.push(ReadError::unreadable(path)(error)),
        };
        let metadata = if link.is_symlink() {
            self.watch_trail(path);
            match fs::metadata(path) {
                Ok(metadata) => metadata,
                Err(_) if !is_document(path) => return,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return self.errors.push(ReadError::Dangling(path.to_owned()));
                }
                Err(error) => return self.errors.push(ReadError::unreadable(path)(error)),
            }
        } else {
            link
        };
        if metadata.is_dir() {
            return self.directory(path, above);
        }
        if !is_document(path) {
            return;
        }
        if self.listing.entries.len() >= self.limits.files {
            let limit = self.limits.files;
            if !self.errors.iter().any(|error| matches!(error, ReadError::TooManyFiles { .. })) {
                self.errors.push(ReadError::TooManyFiles { path: path.to_owned(), limit });
            }
            return;
        }
        self.listing.entries.push(Entry { path: path.to_owned(), stamp: Stamp::of(&metadata) });
    }

    /// Watches every link on the way to a path, and the name it ends in. What cannot be followed is reported by
    /// whoever opens it.
    fn watch_trail(&mut self, path: &Path) {
        for place in trail(path).unwrap_or_default() {
            self.watches.name(&place.directory, &place.name);
        }
    }
}

pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

pub(super) fn is_document(path: &Path) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"))
}
