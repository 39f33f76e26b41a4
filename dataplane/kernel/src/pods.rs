//! Finds the pods of this node: which link of the bridge leads to which network namespace, and
//! which addresses are there. Level-triggered: every answer is a full picture, notifications of
//! the kernel only say when to look again, and it is looked again from time to time without one.
//!
//! Which pods are enrolled is not decided here.

mod scan;
mod watch;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, time::Duration};

pub use scan::{namespace_cookie, scan};
pub use watch::PodWatch;

use crate::IfIndex;

/// Where and how to look.
#[derive(Clone, Debug)]
pub struct PodOptions {
    /// The bridge whose ports are the pods' links.
    pub bridge: String,
    /// Directory of named network namespaces; container runtimes and `ip netns` use `/run/netns`.
    pub namespaces: PathBuf,
    /// How long it may take at most until a change that nobody announced is seen.
    pub resync: Duration,
}

impl PodOptions {
    /// The usual directory, and a full look every ten seconds.
    pub fn new(bridge: impl Into<String>) -> Self {
        Self { bridge: bridge.into(), namespaces: PathBuf::from("/run/netns"), resync: Duration::from_secs(10) }
    }
}

/// All there is on the bridge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodLinks {
    /// Links whose namespace was found, in the order of their index.
    pub pods: Vec<PodLink>,
    /// Names of ports that lead to a namespace without a name, or to none.
    pub unresolved: Vec<String>,
    /// Links that lead to a named namespace and have a route for a single address, but are no ports of the bridge: pods
    /// of networks that route instead of bridging. Nothing is attached to them, so nothing of theirs is intercepted.
    pub beside: Vec<PodLink>,
    /// Hardware address of the bridge; when it changes, [`Kernel::refresh`](crate::Kernel::refresh)
    /// is due.
    pub bridge_mac: Option<[u8; 6]>,
}

/// A pod's link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodLink {
    /// Index of the node's end.
    pub ifindex: IfIndex,
    /// Name of the node's end.
    pub name: String,
    /// File of the pod's network namespace.
    pub netns: PathBuf,
    /// The kernel's number of that namespace, unique until the next boot.
    pub netns_cookie: u64,
    /// Addresses on the pod's end, without link-local ones.
    pub addresses: BTreeSet<IpAddr>,
}
