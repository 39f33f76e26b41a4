//! Brings the modules of plugins to the node: from files, by HTTPS, and from registries and layouts of OCI.
//!
//! Everything that comes from elsewhere is named by what it comes to (SHA-256), so that it is fetched once and kept: a
//! node that is offline has what it had. Nothing here is waited for longer than the caller says; what takes longer goes on
//! by itself, and whoever asks again later gets it.

mod fetch;
mod kept;
mod oci;
mod remote;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use weir_core::plugin::{ModuleLocation, ModuleSource, hexadecimal};

use fetch::{Fetching, Progress};
use kept::Kept;
pub use remote::{Registry, Remote};

/// Bytes of a module. Those of Go have 3 to 10 MiB.
pub const MODULE_BYTES: u64 = 64 << 20;

/// A SHA-256.
pub type Digest = [u8; 32];

/// Why there is no module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The field below `module` that says what cannot be had; empty for `module` itself.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
    /// When it is worth another try, where it may be there later.
    pub again: Option<Duration>,
}

impl Missing {
    fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into(), again: None }
    }
}

/// What brings modules. One for the whole process.
#[derive(Debug)]
pub struct Modules {
    /// What paths that are not absolute are below.
    folder: PathBuf,
    kept: Option<Arc<Kept>>,
    remote: Arc<Remote>,
    /// What is on its way, by where it comes from.
    fetching: HashMap<String, Fetching>,
}

impl Modules {
    /// With files below a folder; what comes from elsewhere is kept in another.
    pub fn new(folder: &Path, kept: Option<&Path>, remote: Remote) -> Self {
        let kept = kept.and_then(|path| {
            let without =
                |reason: &std::io::Error| tracing::warn!(folder = %path.display(), "modules are not kept: {reason}");
            Kept::open(path).inspect_err(without).ok().map(Arc::new)
        });
        Self { folder: folder.to_owned(), kept, remote: Arc::new(remote), fetching: HashMap::new() }
    }

    /// The bytes of a module. One that comes from elsewhere is waited for until then.
    ///
    /// # Errors
    /// When it is not there, is not what it must be, or is still on its way.
    pub fn read(&mut self, source: &ModuleSource, until: Instant) -> Result<Vec<u8>, Missing> {
        match &source.from {
            ModuleLocation::File(path) => {
                let bytes =
                    read_file(&self.folder.join(path), MODULE_BYTES).map_err(|why| Missing::new("file", why))?;
                checked(bytes, source.sha256)
            }
            ModuleLocation::Layout { folder, digest } => {
                let folder = self.folder.join(folder);
                let read = |digest: &Digest, limit| read_file(&oci::blob_path(&folder, digest), limit);
                let found = oci::module(digest, |digest, _, limit| read(digest, limit).map_err(Into::into));
                checked(found.map_err(|why| Missing::new("layout", why.to_string()))?, source.sha256)
            }
            ModuleLocation::Url(_) | ModuleLocation::Image { .. } => self.fetched(source, until),
        }
    }

    fn fetched(&mut self, source: &ModuleSource, until: Instant) -> Result<Vec<u8>, Missing> {
        let field = if matches!(source.from, ModuleLocation::Url(_)) { "url" } else { "image" };
        if let Some(bytes) = self.kept.as_ref().and_then(|kept| kept.find(source)) {
            return checked(bytes, source.sha256);
        }
        let (remote, kept, wanted) = (Arc::clone(&self.remote), self.kept.clone(), source.clone());
        let fetch = move || {
            let bytes = remote.fetch(&wanted)?;
            // What is not what it must be is not kept either.
            if wanted.sha256.is_none_or(|digest| digest == digest_of(&bytes))
                && let Some(kept) = &kept
            {
                kept.keep(&wanted, &bytes);
            }
            Ok(bytes)
        };
        let key = source.from.to_string();
        let fetching = self.fetching.entry(key.clone()).or_default();
        match fetching.wait(fetch, until.saturating_duration_since(Instant::now())) {
            Progress::Done(bytes) => {
                self.fetching.remove(&key);
                checked(bytes, source.sha256)
            }
            Progress::Failed(why, again) => {
                Err(Missing { again: Some(again), ..Missing::new(field, format!("{}: {why}", source.from)) })
            }
            Progress::UnderWay(since) => {
                let message = format!("{} is being fetched, for {:.0} s so far", source.from, since.as_secs_f64());
                Err(Missing { again: Some(Duration::ZERO), ..Missing::new(field, message) })
            }
        }
    }
}

/// What bytes come to.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

fn checked(bytes: Vec<u8>, expected: Option<Digest>) -> Result<Vec<u8>, Missing> {
    let is = digest_of(&bytes);
    match expected.filter(|expected| *expected != is) {
        None => Ok(bytes),
        Some(expected) => {
            let message = format!("is {}, but the module's is {}", hexadecimal(&expected), hexadecimal(&is));
            Err(Missing::new("sha256", message))
        }
    }
}

/// A file of at most so many bytes.
fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let opened = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    opened.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(format!("{}: has more than {limit} bytes", path.display()));
    }
    Ok(bytes)
}
