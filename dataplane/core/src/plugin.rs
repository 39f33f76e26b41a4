//! Plugins as the configuration has them: what they run, for what, and what they may use.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::name::{ClusterName, ObjectName};
use crate::share::Share;

/// A plugin.
#[derive(Debug)]
pub struct Plugin {
    /// Its document.
    pub name: ObjectName,
    /// What it runs.
    pub module: ModuleSource,
    /// What it sees.
    pub protocol: Layer,
    /// What it is configured with.
    pub configuration: Arc<[u8]>,
    /// Which of a module's plugins it is; most have one.
    pub root_id: Box<str>,
    /// What it has in common with others.
    pub vm: VmOptions,
    /// Which requests it sees.
    pub share: Share,
    /// Those of earlier phases see a request first and its response last.
    pub phase: Phase,
    /// The same within a phase: those with lower numbers.
    pub order: i32,
    /// What it may use.
    pub limits: Limits,
    /// What it may do.
    pub capabilities: Capabilities,
    /// What becomes of a request when it fails.
    pub on_failure: OnFailure,
    /// A version of it that sees the same and decides nothing. Most have none.
    pub shadow: Option<Box<Shadow>>,
    /// What the host has made of it, once it has.
    pub loaded: Loaded,
}

impl Plugin {
    /// A plugin of which nothing is said but what it runs.
    pub fn new(name: ObjectName, module: ModuleSource) -> Self {
        Self {
            name,
            module,
            protocol: Layer::Http,
            configuration: Arc::from([]),
            root_id: "".into(),
            vm: VmOptions::default(),
            share: Share::ALL,
            phase: Phase::Unspecified,
            order: 0,
            limits: Limits::default(),
            capabilities: Capabilities::default(),
            on_failure: OnFailure::Closed,
            shadow: None,
            loaded: Loaded::default(),
        }
    }
}

/// What is tried out beside a plugin: everything that is not here it has in common with that.
#[derive(Debug)]
pub struct Shadow {
    /// What it runs.
    pub module: ModuleSource,
    /// What it is configured with.
    pub configuration: Arc<[u8]>,
    /// What the host has made of it.
    pub loaded: Loaded,
}

/// What a plugin sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Requests and responses.
    Http,
    /// Connections that are none of HTTP.
    Tcp,
}

/// At which stage of a request a plugin sees it, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Who is it?
    Authn,
    /// What may it do?
    Authz,
    /// It is counted.
    Stats,
    /// Everything else.
    Unspecified,
}

/// Where a module comes from, and what it must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleSource {
    /// Where it comes from.
    pub from: ModuleLocation,
    /// What its bytes must come to (SHA-256), where that is said.
    pub sha256: Option<[u8; 32]>,
}

/// Where a module comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleLocation {
    /// A file; below the folder of plugins where it is not absolute.
    File(PathBuf),
    /// An address of HTTP, or of HTTP over TLS.
    Url(Box<str>),
    /// A manifest in a registry of OCI: the registry (host, perhaps with a port), the repository, and the manifest's digest.
    Image {
        /// The host, perhaps with a port.
        registry: Box<str>,
        /// The repository there.
        repository: Box<str>,
        /// What the manifest comes to (SHA-256).
        digest: [u8; 32],
    },
    /// A manifest in a folder that is an OCI image layout; below the folder of plugins where it is not absolute.
    Layout {
        /// The folder.
        folder: PathBuf,
        /// What the manifest comes to (SHA-256).
        digest: [u8; 32],
    },
}

impl fmt::Display for ModuleLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Url(url) => formatter.write_str(url),
            Self::Image { registry, repository, digest } => {
                write!(formatter, "oci://{registry}/{repository}@sha256:{}", hexadecimal(digest))
            }
            Self::Layout { folder, digest } => {
                write!(formatter, "{}@sha256:{}", folder.display(), hexadecimal(digest))
            }
        }
    }
}

/// A digest as people write it.
pub fn hexadecimal(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a plugin may do; everything, where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The host functions that it may call.
    pub functions: Option<Box<[Box<str>]>>,
    /// The services that it may call.
    pub upstreams: Option<Box<[ClusterName]>>,
}

/// What a plugin's instances are started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmOptions {
    /// Plugins that name the same share their data and queues; the plugin's own name where nothing is said.
    pub id: Option<Box<str>>,
    /// What they are started with.
    pub configuration: Arc<[u8]>,
    /// Environment variables, as `NAME=value`.
    pub environment: Box<[Box<str>]>,
}

/// What becomes of a request when its plugin fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It is refused.
    Closed,
    /// It goes on as if there were no plugin.
    Open,
    /// A new instance has another look at it; when that fails too, it is refused.
    Reload,
}

impl OnFailure {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Reload => "reload",
        }
    }
}

/// The most that [`Limits::memory`] can be.
pub const MAX_MEMORY: usize = 256 << 20;

/// Bounds of a plugin. Those without another word are for each of its instances, of which every worker has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processor time of one callback.
    pub callback: Duration,
    /// Processor time of everything from the start of an instance until it is configured.
    pub start: Duration,
    /// Bytes of linear memory.
    pub memory: usize,
    /// Bytes of a body that it holds back.
    pub body: usize,
    /// Requests that it sends by itself, under way at a time.
    pub calls: usize,
    /// Bytes of one line that it logs; what is beyond is cut off.
    pub log_line: usize,
    /// Lines that it logs in a second; what is beyond is counted.
    pub log_lines: u32,
    /// Metrics that it defines, in all instances together.
    pub metrics: usize,
    /// Bytes of what it shares (keys and values), in all instances together and with all others of its `vm_id`.
    pub shared_data: usize,
    /// Shared queues of its `vm_id`.
    pub queues: usize,
    /// Bytes that wait in each of them.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            callback: Duration::from_millis(3),
            start: Duration::from_secs(1),
            memory: 32 << 20,
            body: 1 << 20,
            calls: 64,
            log_line: 4 << 10,
            log_lines: 100,
            metrics: 200,
            shared_data: 1 << 20,
            queues: 16,
            queue: 256 << 10,
        }
    }
}

/// What the host has made of a plugin. It is the host's: nothing of it is known here. It is made once, before the first
/// snapshot with the plugin is published, and lives as long as any of them.
#[derive(Default)]
pub struct Loaded(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Loaded {
    /// It is made. What was made before stays.
    pub fn set(&self, plugin: Arc<dyn Any + Send + Sync>) {
        let _ = self.0.set(plugin);
    }

    /// What was made, if it was.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(self.0.get()?).downcast().ok()
    }

    /// Whether it was made.
    pub fn is_set(&self) -> bool {
        self.0.get().is_some()
    }
}

impl fmt::Debug for Loaded {
    /// Nothing: a snapshot is the same whether it was made or not.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Loaded")
    }
}
