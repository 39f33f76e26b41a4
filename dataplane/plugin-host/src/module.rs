//! Modules: compiled, checked against what the host offers, ready to be instantiated.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use wasmtime::{ExternType, InstancePre};

use crate::abi::AbiVersion;
use crate::cache::Cache;
use crate::engine::Engine;
use crate::exports::Exports;
use crate::state::State;

/// What a module's bytes come to (SHA-256).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, formatter)
    }
}

/// Why a module is none that the host can run.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// It is not valid WebAssembly, or uses something of it that is switched off.
    #[error("it cannot be compiled: {0}")]
    Invalid(String),
    /// It is no plugin, or for another version of the ABI.
    #[error(
        "it is made for no version of proxy-wasm that the host knows (0.1.0, 0.2.0, 0.2.1): it exports {}",
        if .0.is_empty() { "no proxy_abi_version_*" } else { .0 }
    )]
    Version(String),
    /// It needs what the host does not offer.
    #[error("it imports what the host does not offer: {0}")]
    Imports(String),
    /// What it exports is not what the host would call.
    #[error("its exports are not those of a plugin: {0}")]
    Exports(String),
}

/// A module. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    digest: Digest,
    version: AbiVersion,
    engine: Engine,
    ready: InstancePre<State>,
    origin: Origin,
}

/// Where a module's code comes from, and how long it took to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether it had been compiled before.
    pub is_cached: bool,
    /// How long it took, with checking it.
    pub took: Duration,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Module({})", self.inner.digest)
    }
}

impl Module {
    /// Compiles a module. That takes a tenth of a second for one of 150 KB, and seconds for those of Go: it is nothing
    /// for a worker's thread.
    ///
    /// # Errors
    /// When it is no module, or none that the host can run.
    pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Self, ModuleError> {
        Self::load(engine, bytes, Digest::of(bytes), None)
    }

    /// The same, unless a folder has what was compiled before; otherwise it does from then on.
    ///
    /// # Errors
    /// The same.
    pub fn compile_cached(engine: &Engine, bytes: &[u8], folder: &Path) -> Result<Self, ModuleError> {
        let cache = Cache::open(folder, engine);
        let cache = cache.inspect_err(|reason| tracing::warn!("compiled plugins are not kept: {reason}"));
        Self::load(engine, bytes, Digest::of(bytes), cache.ok().as_ref())
    }

    /// The same, unless a cache has what was compiled before.
    pub(crate) fn load(
        engine: &Engine,
        bytes: &[u8],
        digest: Digest,
        cache: Option<&Cache>,
    ) -> Result<Self, ModuleError> {
        let began = Instant::now();
        let cached = cache.and_then(|cache| cache.load(engine, digest));
        let is_cached = cached.is_some();
        let module = match cached {
            Some(module) => module,
            None => wasmtime::Module::new(&engine.inner, bytes)
                .map_err(|error| ModuleError::Invalid(format!("{error:#}")))?,
        };
        let exports = || module.exports().map(|export| export.name());
        let version = AbiVersion::of(exports()).ok_or_else(|| {
            let markers: Vec<_> = exports().filter(|name| name.starts_with("proxy_abi_")).collect();
            ModuleError::Version(markers.join(", "))
        })?;
        check_imports(&module)?;
        Exports::check(&module).map_err(ModuleError::Exports)?;
        let ready =
            engine.linker.instantiate_pre(&module).map_err(|error| ModuleError::Imports(format!("{error:#}")))?;
        let origin = Origin { is_cached, took: began.elapsed() };
        if let Some(cache) = cache.filter(|_| !is_cached) {
            cache.store(digest, &module);
        }
        Ok(Self { inner: Arc::new(Inner { digest, version, engine: engine.clone(), ready, origin }) })
    }

    /// What its bytes come to.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// The version of the ABI that it is made for.
    pub fn version(&self) -> AbiVersion {
        self.inner.version
    }

    /// Where its code comes from.
    pub fn origin(&self) -> Origin {
        self.inner.origin
    }

    /// Whether somebody else has it too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.inner) > 1
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn ready(&self) -> &InstancePre<State> {
        &self.inner.ready
    }
}

/// Names everything that the host does not offer, at once.
pub(crate) fn check_imports(module: &wasmtime::Module) -> Result<(), ModuleError> {
    let offered: BTreeSet<(&str, &str)> = crate::host::offered().collect();
    let mut unknown: Vec<String> = module
        .imports()
        .filter(|import| !offered.contains(&(import.module(), import.name())))
        .map(|import| {
            let kind = match import.ty() {
                ExternType::Func(_) => "function",
                ExternType::Memory(_) => "memory",
                ExternType::Table(_) => "table",
                ExternType::Global(_) => "global",
                ExternType::Tag(_) => "tag",
            };
            format!("the {kind} {}.{}", import.module(), import.name())
        })
        .collect();
    unknown.sort();
    unknown.dedup();
    if unknown.is_empty() { Ok(()) } else { Err(ModuleError::Imports(unknown.join(", "))) }
}
