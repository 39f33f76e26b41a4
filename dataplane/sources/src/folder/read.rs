//! Reads all files of a folder, as they were at one moment.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use weir_config::SourceFile;

use super::Limits;
use super::error::ReadError;
use super::scan::{Entry, Listing, Stamp, list};
use super::watch::Watches;

/// The files of a folder at one moment.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) files: Vec<SourceFile>,
    pub(super) hash: [u8; 32],
    pub(super) listing: Listing,
}

/// Reads files and folders once, as `weir check` does. Folders are read as the folder source reads them; files
/// whatever their names.
///
/// # Errors
/// Everything that cannot be read.
pub fn read(paths: &[PathBuf], limits: &Limits) -> Result<Vec<SourceFile>, Vec<ReadError>> {
    let mut files = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        match read_set(path, limits, &mut Watches::none()) {
            Ok(set) => files.extend(set.files),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(errors) }
}

/// Reads all files of a folder. A file that changes meanwhile, or comes or goes, is an error: half a change is none.
///
/// # Errors
/// Everything that cannot be read.
pub(super) fn read_set(root: &Path, limits: &Limits, watches: &mut Watches) -> Result<Set, Vec<ReadError>> {
    let listing = list(root, limits, watches)?;
    let mut files = Vec::with_capacity(listing.entries.len());
    let mut errors = Vec::new();
    let mut total = 0;
    for entry in &listing.entries {
        match read_file(entry, limits, total) {
            Ok(text) => {
                total += text.len() as u64;
                files.push(SourceFile { path: entry.path.clone(), text });
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
    Ok(Set { hash: hash(&listing, &files), files, listing })
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
    let bytes = read_bounded(&file, path, limits)?;
    if total + bytes.len() as u64 > limits.total_bytes {
        return Err(ReadError::TooLarge { path: path.clone(), limit: limits.total_bytes });
    }
    if Stamp::of(&file.metadata().map_err(unreadable())?) != entry.stamp {
        return Err(ReadError::Changing(path.clone()));
    }
    String::from_utf8(bytes)
        .map_err(|error| ReadError::NotText { path: path.clone(), at: error.utf8_error().valid_up_to() })
}

fn read_bounded(file: &File, path: &Path, limits: &Limits) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
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

/// Lengths come before what they measure, so that no two different sets have the same bytes.
fn hash(listing: &Listing, files: &[SourceFile]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (entry, file) in listing.entries.iter().zip(files) {
        for part in [entry.relative.as_os_str().as_encoded_bytes(), file.text.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}
