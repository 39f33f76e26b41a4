//! From what the configuration says of a plugin to a plugin that runs: its file is read, its module compiled, and an
//! instance started once to see whether it wants to.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use weir_core::plugin;

use crate::cache::Cache;
use crate::engine::Engine;
use crate::environment::Nowhere;
use crate::module::{Digest, Module};
use crate::plugin::{Options, Plugin};
use crate::shared::Scopes;
use crate::vm::Vm;

/// Bytes of a module. Those of Go have 3 to 10 MiB.
const MODULE_BYTES: u64 = 64 << 20;

/// Why a plugin cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The field of its document that is to blame, as a path of keys.
    pub field: &'static [&'static str],
    /// What is wrong.
    pub message: String,
}

const MODULE: &[&str] = &["spec", "module"];
const FILE: &[&str] = &["spec", "module", "file"];
const SHA256: &[&str] = &["spec", "module", "sha256"];
const CONFIGURATION: &[&str] = &["spec", "configuration"];

/// Loads plugins. One for the whole process.
#[derive(Debug)]
pub struct Loader {
    /// What paths that are not absolute are below.
    folder: PathBuf,
    /// Where compiled modules are kept.
    compiled: Option<PathBuf>,
    /// Made with the first plugin: most nodes have none, and it takes address space and a thread.
    host: Option<(Engine, Option<Cache>)>,
    /// Those that are used, so that a module that several plugins have is compiled once.
    modules: HashMap<Digest, Module>,
    scopes: Scopes,
}

impl Loader {
    /// A loader of the plugins of a folder, which keeps what it has compiled in another.
    pub fn new(folder: &Path, compiled: Option<PathBuf>) -> Self {
        let scopes = Scopes::default();
        Self { folder: folder.to_owned(), compiled, host: None, modules: HashMap::new(), scopes }
    }

    /// Loads a plugin.
    ///
    /// # Errors
    /// When its module cannot be read or run, or the plugin does not want to start.
    pub fn load(&mut self, wanted: &plugin::Plugin) -> Result<(), LoadError> {
        let fail = |field, message: String| LoadError { field, message };
        let bytes = self.read(&wanted.module.file).map_err(|message| fail(FILE, message))?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = wanted.module.sha256.map(Digest).filter(|expected| *expected != digest) {
            return Err(fail(SHA256, format!("is {expected}, but the file's is {digest}")));
        }
        let module = self.module(digest, &bytes).map_err(|message| fail(MODULE, message))?;
        let weir_core::name::ObjectName { namespace, name, .. } = &wanted.name;
        let name: Box<str> = format!("{namespace}/{name}").into();
        let options = Options {
            root_id: wanted.root_id.clone(),
            // Whoever says nothing shares with nobody.
            vm_id: wanted.vm.id.clone().unwrap_or_else(|| format!("plugin {name}").into()),
            vm_configuration: Bytes::copy_from_slice(&wanted.vm.configuration),
            configuration: Bytes::copy_from_slice(&wanted.configuration),
            environment: wanted.vm.environment.clone(),
            limits: wanted.limits.clone(),
            name,
        };
        let plugin = Plugin::new(module, options, &self.scopes);
        Vm::start(&plugin, Rc::new(Nowhere)).map_err(|error| fail(CONFIGURATION, error.to_string()))?;
        wanted.loaded.set(plugin);
        Ok(())
    }

    /// Forgets modules that no plugin has any more.
    pub fn sweep(&mut self) {
        self.modules.retain(|_, module| module.is_shared());
    }

    fn read(&self, file: &Path) -> Result<Vec<u8>, String> {
        // Of an absolute path nothing of the folder is left.
        let path = self.folder.join(file);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let opened = File::open(&path).map_err(failed)?;
        let mut bytes = Vec::new();
        opened.take(MODULE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MODULE_BYTES {
            return Err(format!("{}: a module has at most {MODULE_BYTES} bytes", path.display()));
        }
        Ok(bytes)
    }

    fn module(&mut self, digest: Digest, bytes: &[u8]) -> Result<Module, String> {
        if let Some(module) = self.modules.get(&digest) {
            return Ok(module.clone());
        }
        let (engine, cache) = match &mut self.host {
            Some(host) => host,
            none => {
                let engine = Engine::new().map_err(|error| error.to_string())?;
                let cache = self.compiled.as_ref().and_then(|folder| {
                    let without = |reason| tracing::warn!("compiled plugins are not kept: {reason}");
                    Cache::open(folder, &engine).map_err(without).ok()
                });
                none.insert((engine, cache))
            }
        };
        let module = Module::load(engine, bytes, digest, cache.as_ref()).map_err(|error| error.to_string())?;
        self.modules.insert(digest, module.clone());
        Ok(module)
    }
}
