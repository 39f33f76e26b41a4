//! Files with keys and certificates: bounded, and seen to change.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a file. A chain of the longest keys has a tenth of it.
const FILE_BYTES: u64 = 256 * 1_024;

/// By what a change of a file is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file; all the same of those that are not there.
    pub(crate) fn of(path: &Path) -> Self {
        std::fs::metadata(path).map_or_else(
            |_| Self::default(),
            |data| Self {
                device: data.dev(),
                inode: data.ino(),
                bytes: data.len(),
                changed: (data.ctime(), data.ctime_nsec()),
            },
        )
    }
}

/// The bytes of a file.
pub(crate) fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(io::Error::other(format!("has more than {FILE_BYTES} bytes")));
    }
    Ok(bytes)
}
