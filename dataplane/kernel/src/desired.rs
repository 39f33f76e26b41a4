//! What a caller wants the kernel to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use weir_ebpf_common::Verdict;

use crate::FailMode;

/// Everything that [`Kernel::apply`](crate::Kernel::apply) brings about. What is not in it is
/// removed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Desired {
    /// Services by what clients connect to.
    pub services: BTreeMap<ServiceAddr, ServiceAction>,
    /// Enrolled pods by the index of their link in this namespace.
    pub pods: BTreeMap<IfIndex, PodEntry>,
    /// What addresses stand for, those of this node's pods among them. The longest prefix counts.
    pub places: BTreeMap<Prefix, Ends>,
    /// What guards answer.
    pub policies: BTreeMap<Policy, Answer>,
    /// Addresses of the node that are not on its links, for example a load balancer's. Those on
    /// its links are added by themselves.
    pub node_addresses: BTreeSet<IpAddr>,
}

/// Index of a link in the node's network namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IfIndex(pub u32);

/// Transport protocols that services have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What a client connects to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceAddr {
    /// Virtual address.
    pub ip: IpAddr,
    /// Port, 1 to 65535.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// What is done with connections to a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServiceAction {
    /// An HTTP rule may concern it: TCP flows go to the proxy, UDP is left alone.
    Proxy,
    /// No rule concerns it: a backend is chosen by weight when a pod connects. Backends of weight
    /// zero get nothing; without any backend, connections are refused.
    Balance(Vec<(SocketAddr, u32)>),
}

/// A pod whose traffic the programs judge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodEntry {
    /// The addresses it may send from; at most four.
    pub addresses: BTreeSet<IpAddr>,
    /// Number of its guard; 0 for none.
    pub guard: u32,
    /// Number of what says how it is reached from elsewhere; 0 where everybody may as ever.
    pub mtls: u32,
    /// Cookie of its network namespace, as [`PodLink`](crate::pods::PodLink) has it; without it
    /// the connect hooks leave the pod alone.
    pub netns_cookie: Option<u64>,
    /// Another fail mode than the node's.
    pub fail_mode: Option<FailMode>,
}

/// What an address stands for: as the source of connections, and as their destination. The numbers are the caller's; 0 means
/// nobody that is known, and no guard. The largest number is reserved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ends {
    /// Who connects from there.
    pub source: u32,
    /// What guards it.
    pub guard: u32,
    /// What says how it is reached from other nodes; 0 where that is as ever. It is asked as a guard is, for any source: of what
    /// runs here, whether it may be reached in the clear ([`Verdict::Deny`], [`Verdict::Audit`], [`Verdict::Direct`]); of what runs
    /// elsewhere, whether by the proxy ([`Verdict::Proxy`]).
    pub mtls: u32,
}

/// An address range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    /// Any address of the range.
    pub ip: IpAddr,
    /// Bits that count: 0 to 32, or to 128.
    pub bits: u8,
}

/// What a guard is asked. `None` matches everything; the key that names more wins, then the one that names the source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Policy {
    /// Who connects.
    pub source: Option<u32>,
    /// To what is guarded by this.
    pub guard: u32,
    /// To which port.
    pub port: Option<(Protocol, u16)>,
}

/// What a guard answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Answer {
    /// Where it goes.
    pub verdict: Verdict,
    /// What is counted and told as the reason; 0 for nothing.
    pub rule: u32,
}
