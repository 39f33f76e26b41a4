//! What a node sets once.

use std::path::PathBuf;

use weir_ebpf_common::{SLOT_OUT4, SLOT_OUT6};

/// How this node's interception is set up.
#[derive(Clone, Debug)]
pub struct KernelSettings {
    /// Where the BPF file system is, or is to be mounted; usually `/sys/fs/bpf`.
    pub bpffs: PathBuf,
    /// Name of the node: letters, digits, `-` and `.`, at most 63. Pins live below it.
    pub node: String,
    /// The bridge that the pods' links are ports of, for example `cni0`.
    pub bridge: String,
    /// Links over which other nodes are reached, for example `flannel.1`, `eth0`.
    pub uplinks: Vec<String>,
    /// Directory of the pods' cgroup (version 2), for the connect hooks; without it plain services
    /// are left to kube-proxy.
    pub cgroup: Option<PathBuf>,
    /// What happens to flows of the proxy while there is none.
    pub fail_mode: FailMode,
    /// Lines of the programs up to this level reach `tracing`.
    pub log_level: LogLevel,
    /// Drop events per second, reason and processor; the rest is only counted.
    pub events_per_second: u32,
    /// Whether connection tracking is kept away from steered packets.
    pub notrack: Notrack,
}

impl KernelSettings {
    /// Settings with the defaults of everything that has one: fail closed, warnings, 10 events a
    /// second, notrack where needed, no uplinks, no connect hooks.
    pub fn new(node: impl Into<String>, bridge: impl Into<String>) -> Self {
        Self {
            bpffs: PathBuf::from("/sys/fs/bpf"),
            node: node.into(),
            bridge: bridge.into(),
            uplinks: Vec::new(),
            cgroup: None,
            fail_mode: FailMode::Closed,
            log_level: LogLevel::Warn,
            events_per_second: 10,
            notrack: Notrack::Auto,
        }
    }
}

/// What happens to flows that belong to the proxy while there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FailMode {
    /// They are dropped; the client's next SYN finds the restarted proxy.
    #[default]
    Closed,
    /// They go straight on, past every rule.
    Open,
}

/// A place for a listening socket that the programs can give packets to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// New outbound TCP flows over IPv4.
    Out4,
    /// New outbound TCP flows over IPv6.
    Out6,
}

impl Slot {
    pub(crate) const fn index(self) -> u32 {
        match self {
            Self::Out4 => SLOT_OUT4,
            Self::Out6 => SLOT_OUT6,
        }
    }
}

/// How much the programs log. Fixed when they are loaded, so that what is off costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Losses, as far as events are not suppressed.
    #[default]
    Warn,
    /// Also every steered flow.
    Debug,
}

impl LogLevel {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Warn => aya_log::Level::Warn as u8,
            Self::Debug => aya_log::Level::Debug as u8,
        }
    }
}

/// Connection tracking must not see steered packets where another program translates addresses:
/// it would reset the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Notrack {
    /// Where a translation of destinations exists (kube-proxy, in nft or legacy tables).
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}
