//! From what the configuration says of a plugin, and its module, to a plugin that runs: the module is compiled, and an
//! instance started once to see whether it wants to.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use weir_core::plugin;

use crate::cache::Cache;
use crate::engine::Engine;
use crate::environment::Nowhere;
use crate::host;
use crate::module::{Digest, Module};
use crate::plugin::{Options, Plugin};
use crate::shared::Scopes;
use crate::vm::Vm;

/// Why a plugin cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The field of its document that is to blame, as a path of keys.
    pub field: &'static [&'static str],
    /// What is wrong.
    pub message: String,
}

/// What of a document is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The plugin.
    Plugin,
    /// What is tried out beside it.
    Shadow,
}

impl Part {
    const fn fields(self) -> [&'static [&'static str]; 2] {
        match self {
            Self::Plugin => [&["spec", "module"], &["spec", "configuration"]],
            Self::Shadow => [&["spec", "shadow", "module"], &["spec", "shadow", "configuration"]],
        }
    }
}

const FUNCTIONS: &[&str] = &["spec", "capabilities", "functions"];

/// Loads plugins. One for the whole process.
#[derive(Debug, Default)]
pub struct Loader {
    /// Where compiled modules are kept.
    compiled: Option<PathBuf>,
    /// Made with the first plugin: most nodes have none, and it takes address space and a thread.
    host: Option<(Engine, Option<Cache>)>,
    /// Those that are used, so that a module that several plugins have is compiled once.
    modules: HashMap<Digest, Module>,
    scopes: Scopes,
}

impl Loader {
    /// A loader that keeps what it has compiled in a folder.
    pub fn new(compiled: Option<PathBuf>) -> Self {
        Self { compiled, ..Self::default() }
    }

    /// Loads a plugin of these bytes.
    ///
    /// # Errors
    /// When they are no module that can be run, or the plugin does not want to start.
    pub fn load(&mut self, wanted: &plugin::Plugin, part: Part, bytes: &[u8]) -> Result<(), LoadError> {
        let fail = |field, message: String| LoadError { field, message };
        let [of_module, of_configuration] = part.fields();
        let module = self.module(bytes).map_err(|message| fail(of_module, message))?;
        let weir_core::name::ObjectName { namespace, name, .. } = &wanted.name;
        let (name, configuration, loaded): (Box<str>, _, _) = match (part, &wanted.shadow) {
            (Part::Shadow, Some(shadow)) => {
                (format!("{namespace}/{name} (shadow)").into(), &shadow.configuration, &shadow.loaded)
            }
            _ => (format!("{namespace}/{name}").into(), &wanted.configuration, &wanted.loaded),
        };
        let functions = wanted.capabilities.functions.as_deref();
        let denied = host::denied(functions)
            .map_err(|unknown| fail(FUNCTIONS, format!("there is no host function {unknown}")))?;
        let options = Options {
            root_id: wanted.root_id.clone(),
            // Whoever says nothing shares with nobody; and what is only tried out must not, whatever is said.
            vm_id: match (part, &wanted.vm.id) {
                (Part::Plugin, Some(id)) => id.clone(),
                _ => format!("plugin {name}").into(),
            },
            vm_configuration: Bytes::copy_from_slice(&wanted.vm.configuration),
            configuration: Bytes::copy_from_slice(configuration),
            environment: wanted.vm.environment.clone(),
            limits: wanted.limits.clone(),
            denied,
            upstreams: match part {
                Part::Plugin => wanted.capabilities.upstreams.clone(),
                // What it would say to others it does not say.
                Part::Shadow => Some(Box::default()),
            },
            name,
        };
        let plugin = Plugin::new(module, options, &self.scopes);
        Vm::start(&plugin, Rc::new(Nowhere)).map_err(|error| fail(of_configuration, error.to_string()))?;
        loaded.set(plugin);
        Ok(())
    }

    /// Forgets modules that no plugin has any more.
    pub fn sweep(&mut self) {
        self.modules.retain(|_, module| module.is_shared());
    }

    fn module(&mut self, bytes: &[u8]) -> Result<Module, String> {
        let digest = Digest::of(bytes);
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
