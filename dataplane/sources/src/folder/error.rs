//! Why a folder cannot be read.

use std::io;
use std::path::{Path, PathBuf};

use weir_config::Diagnostic;

/// Why a folder, or a file in it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is nothing at the path.
    #[error("{0}: there is no such file or folder")]
    Missing(PathBuf),
    /// The system refuses.
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A link whose target is not there.
    #[error("{0}: is a link to something that is not there")]
    Dangling(PathBuf),
    /// A pipe, a socket, a device, or a folder called like a file.
    #[error("{0}: is not a regular file")]
    NotAFile(PathBuf),
    /// The file is no UTF-8.
    #[error("{path}: is not UTF-8 text (first wrong byte at {at})")]
    NotText {
        /// The file.
        path: PathBuf,
        /// Position of the first byte that is wrong, from 0.
        at: usize,
    },
    /// A file beyond [`Limits::file_bytes`](super::Limits).
    #[error("{path}: is larger than {limit} bytes; split it, or check what wrote it")]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        limit: u64,
    },
    /// More files than [`Limits::files`](super::Limits).
    #[error("{path}: is one more than the {limit} files that are read from one folder")]
    TooManyFiles {
        /// The first file beyond the bound.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// More bytes than [`Limits::total_bytes`](super::Limits).
    #[error("{path}: with this file the folder has more than {limit} bytes, the most that is read")]
    TooLarge {
        /// The first file beyond the bound.
        path: PathBuf,
        /// The bound.
        limit: u64,
    },
    /// Folders nested beyond [`Limits::depth`](super::Limits).
    #[error("{path}: is more than {limit} folders deep; check for a link that leads back")]
    TooDeep {
        /// The folder.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// Something was written at the same time.
    #[error("{0}: changed while it was being read")]
    Changing(PathBuf),
}

impl ReadError {
    /// What it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing(path) | Self::Dangling(path) | Self::NotAFile(path) | Self::Changing(path) => path,
            Self::Unreadable { path, .. }
            | Self::NotText { path, .. }
            | Self::FileTooLarge { path, .. }
            | Self::TooManyFiles { path, .. }
            | Self::TooLarge { path, .. }
            | Self::TooDeep { path, .. } => path,
        }
    }

    pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing(path.to_owned()),
            _ => Self::Unreadable { path: path.to_owned(), source },
        }
    }

    /// The same for a report among other diagnostics.
    pub fn diagnostic(&self) -> Diagnostic {
        let text = self.to_string();
        let prefix = format!("{}: ", self.path().display());
        let message = text.strip_prefix(&prefix).unwrap_or(&text);
        Diagnostic { file: Some(self.path().to_owned()), ..Diagnostic::error(message) }
    }
}
