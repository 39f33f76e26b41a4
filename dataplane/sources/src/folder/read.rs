//! Reads all files of a folder, as they were at one moment; or only those that are told to have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use weir_config::SourceFile;

use super::Limits;
use super::error::ReadError;
use super::scan::{Entry, Listing, Stamp, is_document, is_hidden, list};
use super::watch::Watches;

/// The files of a folder at one moment.
#[derive(Debug)]
pub(super) struct Set {
    /// Sorted by path.
    files: Vec<Known>,
    /// Over all files, with their paths within the folder.
    pub(super) hash: [u8; 32],
    /// Bytes of all files.
    bytes: u64,
    /// Files that have nothing in them and had something in the set that was delivered last.
    emptied: BTreeSet<PathBuf>,
    /// As [`Listing::directories`].
    directories: BTreeMap<PathBuf, Vec<PathBuf>>,
}

/// A file that was read.
#[derive(Clone, Debug)]
struct Known {
    stamp: Stamp,
    hash: [u8; 32],
    file: Arc<SourceFile>,
}

/// Reads files and folders once, as `weir check` does. Folders are read as the folder source reads them; files
/// whatever their names.
///
/// # Errors
/// Everything that cannot be read.
pub fn read(paths: &[PathBuf], limits: &Limits) -> Result<Vec<Arc<SourceFile>>, Vec<ReadError>> {
    let mut files = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        match Set::read(path, limits, &mut Watches::none(), None) {
            Ok(set) => files.extend(set.files()),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(errors) }
}

impl Set {
    /// Reads all files of a folder. A file that changes meanwhile, or comes or goes, is an error: half a change is none.
    /// Files that say what they said before are the same.
    ///
    /// # Errors
    /// Everything that cannot be read.
    pub(super) fn read(
        root: &Path,
        limits: &Limits,
        watches: &mut Watches,
        before: Option<&Self>,
    ) -> Result<Self, Vec<ReadError>> {
        let listing = list(root, limits, watches)?;
        let mut files = Vec::with_capacity(listing.entries.len());
        let mut errors = Vec::new();
        let mut bytes = 0;
        let mut emptied = BTreeSet::new();
        for entry in &listing.entries {
            match read_file(entry, limits, bytes) {
                Ok(text) => {
                    bytes += text.len() as u64;
                    if text.is_empty() && before.is_some_and(|before| before.had_something_in(&entry.path)) {
                        emptied.insert(entry.path.clone());
                    }
                    let same =
                        before.and_then(|before| before.file(&entry.path)).filter(|same| *same.file.text == *text);
                    files.push(match same {
                        Some(same) => Known { stamp: entry.stamp, ..same.clone() },
                        None => Known::new(root, entry, text),
                    });
                }
                Err(error @ ReadError::TooLarge { .. }) => {
                    errors.push(error);
                    break;
                }
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let after = list(root, limits, &mut Watches::none())?;
        if let Some(path) = first_difference(&listing, &after) {
            return Err(vec![ReadError::Changing(path)]);
        }
        Ok(Self { hash: hash(&files), files, bytes, emptied, directories: listing.directories })
    }

    /// Takes in that some files were written, removed, or moved to their place. `None` when what that comes to cannot be
    /// said without looking at the whole folder: then it is to be read again.
    pub(super) fn reread(&mut self, root: &Path, limits: &Limits, changed: &BTreeSet<PathBuf>) -> Option<()> {
        for path in changed {
            let (directory, name) = (path.parent()?, path.file_name()?);
            let [listed] = self.directories.get(directory)?.as_slice() else { return None };
            let listed = listed.join(name);
            let at = self.files.binary_search_by(|known| (*known.file.path).cmp(&listed));
            match fs::symlink_metadata(&listed) {
                Ok(metadata) if !metadata.is_file() => return None,
                Ok(_) if is_hidden(name) || !is_document(path) => {}
                Ok(metadata) => {
                    let entry = Entry { path: listed, stamp: Stamp::of(&metadata) };
                    self.reread_file(root, limits, at, &entry)?;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => match at {
                    Ok(at) => {
                        self.bytes -= self.files.remove(at).file.text.len() as u64;
                        self.emptied.remove(&listed);
                    }
                    // A directory that is gone, or nothing that ever mattered.
                    Err(_) if self.directories.keys().any(|directory| directory.starts_with(path)) => return None,
                    Err(_) => {}
                },
                Err(_) => return None,
            }
        }
        self.hash = hash(&self.files);
        Some(())
    }

    fn reread_file(&mut self, root: &Path, limits: &Limits, at: Result<usize, usize>, entry: &Entry) -> Option<()> {
        let before = at.map_or(0, |at| self.files[at].file.text.len() as u64);
        let text = read_file(entry, limits, self.bytes - before).ok()?;
        if !text.is_empty() {
            self.emptied.remove(&entry.path);
        } else if self.had_something_in(&entry.path) {
            self.emptied.insert(entry.path.clone());
        }
        self.bytes = self.bytes - before + text.len() as u64;
        match at {
            Ok(at) if *self.files[at].file.text == *text => self.files[at].stamp = entry.stamp,
            Ok(at) => self.files[at] = Known::new(root, entry, text),
            Err(_) if self.files.len() >= limits.files => return None,
            Err(at) => self.files.insert(at, Known::new(root, entry, text)),
        }
        Some(())
    }

    /// Whether a file had something in it when the set was delivered last.
    fn had_something_in(&self, path: &Path) -> bool {
        self.emptied.contains(path) || self.file(path).is_some_and(|known| !known.file.text.is_empty())
    }

    /// Whether there are files that had something in them when the set was delivered last, and have nothing now.
    pub(super) fn has_emptied(&self) -> bool {
        !self.emptied.is_empty()
    }

    /// The set is delivered.
    pub(super) fn on_delivery(&mut self) {
        self.emptied.clear();
    }

    pub(super) fn files(&self) -> impl Iterator<Item = Arc<SourceFile>> {
        self.files.iter().map(|known| Arc::clone(&known.file))
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// The file with this path.
    fn file(&self, path: &Path) -> Option<&Known> {
        let at = self.files.binary_search_by(|known| (*known.file.path).cmp(path)).ok()?;
        Some(&self.files[at])
    }

    /// Whether a look at the folder shows these files and directories, as far as that can be seen without reading them.
    pub(super) fn is_seen_in(&self, listing: &Listing) -> bool {
        let is_same = |(known, entry): (&Known, &Entry)| *known.file.path == *entry.path && known.stamp == entry.stamp;
        self.files.len() == listing.entries.len()
            && self.files.iter().zip(&listing.entries).all(is_same)
            && self.directories == listing.directories
    }
}

impl Known {
    /// Lengths come before what they measure, so that no two different files have the same bytes.
    fn new(root: &Path, entry: &Entry, text: String) -> Self {
        let within = entry.path.strip_prefix(root).unwrap_or(&entry.path);
        // A single file's own name.
        let within =
            if within.as_os_str().is_empty() { entry.path.file_name().unwrap_or_default() } else { within.as_os_str() };
        let mut hash = Sha256::new();
        for part in [within.as_encoded_bytes(), text.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let file = Arc::new(SourceFile::new(entry.path.clone(), text));
        Self { stamp: entry.stamp, hash: hash.finalize().into(), file }
    }
}

fn hash(files: &[Known]) -> [u8; 32] {
    let mut hash = Sha256::new();
    files.iter().for_each(|known| hash.update(known.hash));
    hash.finalize().into()
}

fn read_file(entry: &Entry, limits: &Limits, total: u64) -> Result<String, ReadError> {
    let path = &entry.path;
    let unreadable = || ReadError::unreadable(path);
    // Without O_NONBLOCK opening a pipe would wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable())?;
    let metadata = file.metadata().map_err(unreadable())?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile(path.clone()));
    }
    let bytes = read_bounded(&file, metadata.len(), path, limits)?;
    if total + bytes.len() as u64 > limits.total_bytes {
        return Err(ReadError::TooLarge { path: path.clone(), limit: limits.total_bytes });
    }
    if Stamp::of(&file.metadata().map_err(unreadable())?) != entry.stamp {
        return Err(ReadError::Changing(path.clone()));
    }
    String::from_utf8(bytes)
        .map_err(|error| ReadError::NotText { path: path.clone(), at: error.utf8_error().valid_up_to() })
}

fn read_bounded(file: &File, size: u64, path: &Path, limits: &Limits) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(limits.file_bytes)).unwrap_or_default() + 1);
    file.take(limits.file_bytes + 1).read_to_end(&mut bytes).map_err(ReadError::unreadable(path))?;
    if bytes.len() as u64 > limits.file_bytes {
        return Err(ReadError::FileTooLarge { path: path.to_owned(), limit: limits.file_bytes });
    }
    Ok(bytes)
}

fn first_difference(before: &Listing, after: &Listing) -> Option<PathBuf> {
    let (before, after) = (&before.entries, &after.entries);
    let differs = before.iter().zip(after).find(|(before, after)| before != after).map(|(before, _)| before);
    let shorter = before.len().min(after.len());
    let longer = || before.get(shorter).or_else(|| after.get(shorter));
    differs.or_else(longer).map(|entry| entry.path.clone())
}
