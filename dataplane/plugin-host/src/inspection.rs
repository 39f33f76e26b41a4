//! What a module is, for people: also one that cannot run.

use wasmtime::{ExternType, Module};

use crate::abi::AbiVersion;
use crate::exports::{Callback, Exports};
use crate::host;
use crate::module::{ModuleError, check_imports};

/// A module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The version of the ABI that it is made for.
    pub version: Option<AbiVersion>,
    /// Bytes of memory that an instance begins with.
    pub memory: u64,
    /// The callbacks that it has.
    pub callbacks: Vec<String>,
    /// What else it exports.
    pub other_exports: Vec<String>,
    /// The functions of the host that it calls.
    pub functions: Vec<String>,
    /// The functions of WASI that it calls.
    pub wasi: Vec<String>,
    /// What it imports and nobody offers.
    pub unknown: Vec<String>,
    /// Why it cannot run, if it cannot.
    pub refusal: Option<String>,
}

impl Inspection {
    /// Of a module's bytes.
    ///
    /// # Errors
    /// When they are no module.
    pub fn of(bytes: &[u8]) -> Result<Self, ModuleError> {
        let engine = wasmtime::Engine::default();
        let module = Module::new(&engine, bytes).map_err(|error| ModuleError::Invalid(format!("{error:#}")))?;
        let offered: Vec<_> = host::offered().collect();
        let [mut functions, mut wasi, mut unknown] = [const { Vec::new() }; 3];
        for import in module.imports() {
            let name = import.name().to_owned();
            match import.module() {
                of if !offered.contains(&(of, import.name())) => unknown.push(format!("{of}.{name}")),
                "env" => functions.push(name),
                _ => wasi.push(name),
            }
        }
        let is_callback = |name: &&str| Callback::ALL.iter().any(|callback| callback.name() == *name);
        let exports = || module.exports().filter(|one| matches!(one.ty(), ExternType::Func(_))).map(|one| one.name());
        let (callbacks, other_exports): (Vec<_>, Vec<_>) = exports().partition(is_callback);
        let memory = match module.get_export("memory") {
            Some(ExternType::Memory(memory)) => memory.minimum() * memory.page_size(),
            _ => 0,
        };
        let version = AbiVersion::of(exports());
        let refusal = match version {
            None => Some("it exports none of proxy_abi_version_0_1_0, _0_2_0, _0_2_1".to_owned()),
            Some(_) => {
                let checked = check_imports(&module).map_err(|error| error.to_string());
                checked.and_then(|()| Exports::check(&module)).err()
            }
        };
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        Ok(Self {
            version,
            memory,
            callbacks: owned(callbacks),
            other_exports: owned(other_exports),
            functions,
            wasi,
            unknown,
            refusal,
        })
    }
}
