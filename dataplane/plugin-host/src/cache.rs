//! Compiled modules on disk, so that a node that starts again need not compile what it has compiled before.
//!
//! What is loaded from here is run as native code without another look, so it must have been written by this program: the
//! folder and each file have to belong to the user that Weir runs as, and nobody else may write there. A file is found
//! by all that it depends on: the module's digest, and the version, target and settings of the engine. Its name also has
//! a checksum of its content, since a node's disk may fail.
//!
//! Nothing depends on the cache: whatever is wrong with it, the module is compiled.
#![allow(unsafe_code, reason = "what was compiled before is run as it is; why that is sound is said where it is done")]

use std::fs::File;
use std::hash::{Hash as _, Hasher};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use sha2::{Digest as _, Sha256};

use crate::engine::Engine;
use crate::module::Digest;

/// Bytes of all files together. The oldest go.
const BYTES: u64 = 512 << 20;

/// What names of files end with.
const SUFFIX: &str = ".cwasm";

/// A folder of compiled modules.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    /// The folder itself: it stays the one that was looked at, whatever becomes of its name.
    folder: OwnedFd,
    /// What all files here depend on beside their modules.
    settings: String,
}

impl Cache {
    /// The cache in a folder, which is made where there is none.
    pub(crate) fn open(path: &Path, engine: &Engine) -> Result<Self, String> {
        use std::os::unix::fs::DirBuilderExt as _;
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let folder = File::from(folder);
        check_owner(&folder, 0o022).map_err(|reason| format!("{}: {reason}", path.display()))?;
        let mut settings = Fingerprint(Sha256::new());
        engine.inner.precompile_compatibility_hash().hash(&mut settings);
        // The version of the library is part of what it hashes; the processor's features it checks when it loads.
        let settings = Digest(settings.0.finalize().into()).to_string()[..16].to_owned();
        Ok(Self { path: path.to_owned(), folder: folder.into(), settings })
    }

    /// A module that was compiled before, if it is here and as it was written.
    pub(crate) fn load(&self, engine: &Engine, digest: Digest) -> Option<wasmtime::Module> {
        let start = self.start(digest);
        let name = self.names().into_iter().find(|name| name.starts_with(&start))?;
        match self.load_file(engine, &name) {
            Ok(module) => Some(module),
            Err(reason) => {
                tracing::warn!(file = %self.path.join(&name).display(), "a compiled module is not used: {reason}");
                let _ = unlinkat(&self.folder, &name, AtFlags::empty());
                None
            }
        }
    }

    fn load_file(&self, engine: &Engine, name: &str) -> Result<wasmtime::Module, String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, name, flags, Mode::empty()).map_err(|error| error.to_string())?;
        let mut file = File::from(file);
        check_owner(&file, 0o077)?;
        let mut checksum = crc32fast::Hasher::new();
        let mut piece = vec![0; 256 << 10];
        loop {
            match file.read(&mut piece).map_err(|error| error.to_string())? {
                0 => break,
                count => checksum.update(&piece[..count]),
            }
        }
        if !name.ends_with(&ending(checksum.finalize())) {
            return Err("it is not what was written".to_owned());
        }
        // SAFETY: the file was written by `store`, or by someone who may do all that this process may: only our user can
        // write here. Files are never changed after they have their name, only unlinked, so what is mapped stays as it is.
        unsafe { wasmtime::Module::deserialize_open_file(&engine.inner, file) }.map_err(|error| format!("{error:#}"))
    }

    /// Keeps a module that was compiled.
    pub(crate) fn store(&self, digest: Digest, module: &wasmtime::Module) {
        let stored = module.serialize().map_err(|error| format!("{error:#}")).and_then(|bytes| {
            let name = self.start(digest) + &ending(crc32fast::hash(&bytes));
            self.write(&name, &bytes).map_err(|error| error.to_string())?;
            self.sweep(&name);
            Ok(())
        });
        if let Err(reason) = stored {
            tracing::warn!(folder = %self.path.display(), "a compiled module is not kept: {reason}");
        }
    }

    /// Under its name there is all of a file, or none.
    fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let begun = format!("{name}.{}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let written = openat(&self.folder, &begun, flags, Mode::RUSR | Mode::WUSR).map(File::from);
        let written = written.map_err(std::io::Error::from).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            Ok(renameat(&self.folder, &begun, &self.folder, name)?)
        });
        if written.is_err() {
            let _ = unlinkat(&self.folder, &begun, AtFlags::empty());
        }
        written
    }

    /// Removes what was never finished, and the oldest files where there is too much. `newest` stays.
    fn sweep(&self, newest: &str) {
        let size = |name: &String| {
            let found = std::fs::symlink_metadata(self.path.join(name)).ok()?;
            Some((found.modified().unwrap_or(SystemTime::UNIX_EPOCH), found.len(), name.clone()))
        };
        let (finished, begun): (Vec<_>, Vec<_>) = self.names().into_iter().partition(|name| name.ends_with(SUFFIX));
        let mut files: Vec<_> = finished.iter().filter_map(size).collect();
        files.sort();
        let mut all: u64 = files.iter().map(|(_, size, _)| size).sum();
        let too_old = files.into_iter().filter(|(_, _, name)| name != newest).take_while(|(_, size, _)| {
            let is_too_much = all > BYTES;
            all -= size;
            is_too_much
        });
        for name in begun.into_iter().chain(too_old.map(|(_, _, name)| name)) {
            let _ = unlinkat(&self.folder, name, AtFlags::empty());
        }
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    /// What the name of a module's file begins with.
    fn start(&self, digest: Digest) -> String {
        format!("{digest}-{}-", self.settings)
    }
}

fn ending(checksum: u32) -> String {
    format!("{checksum:08x}{SUFFIX}")
}

/// Whether it is ours, and nobody has a permission of these.
fn check_owner(file: &File, forbidden: u32) -> Result<(), String> {
    let found = file.metadata().map_err(|error| error.to_string())?;
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        return Err(format!("belongs to user {}, and not to {own}, that runs this", found.uid()));
    }
    if found.mode() & forbidden != 0 {
        return Err(format!("has the mode {:o}: others may change it", found.mode() & 0o7777));
    }
    Ok(())
}

/// The same number for the same engine, in every process.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
