//! What can go wrong with a lab, each error saying what to check or install.

use std::io;

/// Why a lab could not be built, found, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces and cgroups need `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`.
    #[error("a lab needs root: run it with sudo, or in a container started with --privileged")]
    NotRoot,
    /// A program is not on `PATH` (nor in the `sbin` directories).
    #[error("`{tool}` is missing: install the package `{package}`")]
    MissingTool {
        /// The program.
        tool: String,
        /// The Debian package that holds it; most distributions use the same name.
        package: String,
    },
    /// `/proc/mounts` lists no cgroup v2 hierarchy.
    #[error("no cgroup v2 hierarchy is mounted: mount one with `mount -t cgroup2 none /sys/fs/cgroup`")]
    NoCgroup2,
    /// The spec asks for IPv6 and the kernel runs without it.
    #[error("this kernel has no IPv6 (/proc/sys/net/ipv6 is missing): boot without ipv6.disable=1")]
    NoIpv6,
    /// Packets between ports of one bridge do not pass netfilter, so DNAT answers get lost.
    #[error("{why} needs the kernel module br_netfilter: load it with `modprobe br_netfilter`")]
    NoBrNetfilter {
        /// What wanted it.
        why: &'static str,
    },
    /// The spec contradicts itself or exceeds what the address plan holds.
    #[error("the lab cannot be built as described: {0}")]
    BadSpec(String),
    /// Another living process owns a lab of this id.
    #[error("the lab `{id}` is in use by process {pid}: choose another id, or end that process")]
    IdTaken {
        /// The id asked for.
        id: String,
        /// Its owner.
        pid: u32,
    },
    /// A program that builds part of the lab failed.
    #[error("`{command}` failed: {detail}")]
    Tool {
        /// The command line, without its input.
        command: String,
        /// What it said, and its exit status.
        detail: String,
    },
    /// A program did not end in time and was killed.
    #[error("`{command}` did not end within {seconds} s and was killed")]
    ToolTimeout {
        /// The command line.
        command: String,
        /// The limit.
        seconds: f64,
    },
    /// A file, a namespace or a cgroup could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// No pod of this name.
    #[error("the lab `{lab}` has no pod `{name}`; it has: {known}")]
    UnknownPod {
        /// The lab's id.
        lab: String,
        /// The name asked for.
        name: String,
        /// The pods there are.
        known: String,
    },
    /// The lab was built without a remote node.
    #[error("the lab `{0}` has no remote node: build it with `Spec::remote`")]
    NoRemote(String),
    /// Nobody runs a lab on this machine.
    #[error("no lab is running: start one with `weir lab` in another terminal")]
    NotRunning,
    /// Nobody runs a lab of this id.
    #[error(
        "no lab `{id}` is running{}: start it with `weir lab --id {id}` in another terminal",
        if running.is_empty() { String::new() } else { format!(" (there are {running})") }
    )]
    NoSuchLab {
        /// The id asked for.
        id: String,
        /// Those that run.
        running: String,
    },
    /// Several labs run and none was named.
    #[error("several labs are running ({0}): name one with --id")]
    Ambiguous(String),
    /// A server in a pod did not come up.
    #[error("the server `{name}` did not start: {detail}")]
    Server {
        /// The server's name.
        name: String,
        /// What it said, or how it ended.
        detail: String,
    },
    /// The record of a lab cannot be understood.
    #[error("the record {path} cannot be read: {detail}; remove it if no lab is running")]
    BadRecord {
        /// The file.
        path: String,
        /// Why.
        detail: String,
    },
    /// Something of the lab could not be removed.
    #[error("left behind: {}", .0.join("; "))]
    Leftovers(Vec<String>),
}

impl LabError {
    /// Says what was being done when the system refused.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
