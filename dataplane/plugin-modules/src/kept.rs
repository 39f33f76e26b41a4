//! Modules that came from elsewhere, on disk: each under what it comes to, and for images which module a manifest leads to.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use weir_core::plugin::{ModuleLocation, ModuleSource, hexadecimal};

use crate::{Digest, MODULE_BYTES, digest_of, read_file};

/// Bytes of all files. Those that were not used for longest go.
const BYTES: u64 = 512 << 20;

/// A folder of modules.
#[derive(Debug)]
pub(crate) struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// The folder, which is made where there is none.
    pub(crate) fn open(folder: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// A module, if it is here and is what it must be.
    pub(crate) fn find(&self, source: &ModuleSource) -> Option<Vec<u8>> {
        let digest = match &source.from {
            ModuleLocation::Image { digest, .. } => self.of_manifest(digest)?,
            _ => source.sha256?,
        };
        let path = self.path(&digest);
        let bytes = read_file(&path, MODULE_BYTES).ok()?;
        if digest_of(&bytes) != digest {
            tracing::warn!(file = %path.display(), "a module that was kept is not what was written, and is fetched anew");
            let _ = fs::remove_file(&path);
            return None;
        }
        // Used at this time; where that cannot be noted it goes earlier.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(bytes)
    }

    /// Keeps a module.
    pub(crate) fn keep(&self, source: &ModuleSource, bytes: &[u8]) {
        let digest = digest_of(bytes);
        let kept = self.write(&self.path(&digest), bytes).and_then(|()| match &source.from {
            ModuleLocation::Image { digest: manifest, .. } => {
                self.write(&self.manifest_path(manifest), hexadecimal(&digest).as_bytes())
            }
            _ => Ok(()),
        });
        if let Err(reason) = kept {
            tracing::warn!(folder = %self.folder.display(), "a module is not kept: {reason}");
        }
        self.sweep();
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{}.wasm", hexadecimal(digest)))
    }

    fn manifest_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{}.manifest", hexadecimal(digest)))
    }

    /// The module that a manifest leads to. Whoever could write another here could write another configuration as well.
    fn of_manifest(&self, manifest: &Digest) -> Option<Digest> {
        let text = fs::read_to_string(self.manifest_path(manifest)).ok()?;
        crate::oci::parse_digest(text.trim())
    }

    /// Under its name there is all of a file, or none.
    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let begun = path.with_extension(format!("begun-{}", std::process::id()));
        let written = fs::File::create(&begun).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&begun, path)
        });
        if written.is_err() {
            let _ = fs::remove_file(&begun);
        }
        written
    }

    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let known = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.ok()?.path();
            let found = fs::metadata(&path).ok()?;
            Some((found.modified().ok()?, found.len(), path))
        };
        let mut files: Vec<_> = entries.filter_map(known).collect();
        files.sort();
        let mut all: u64 = files.iter().map(|(_, size, _)| size).sum();
        // The newest stays, however large it is.
        let count = files.len().saturating_sub(1);
        for (_, size, path) in files.into_iter().take(count) {
            if all <= BYTES {
                return;
            }
            all -= size;
            let _ = fs::remove_file(path);
        }
    }
}
