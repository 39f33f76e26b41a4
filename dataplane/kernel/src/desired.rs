//! What a caller wants the kernel to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
};

use weir_ebpf_common::{IDENTITY_ANY, Verdict};

use crate::FailMode;

/// Everything that [`Kernel::apply`](crate::Kernel::apply) brings about. What is not in it is
/// removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Desired {
    /// Services by what clients connect to.
    pub services: BTreeMap<ServiceAddr, ServiceAction>,
    /// Enrolled pods by the index of their link in this namespace.
    pub pods: BTreeMap<IfIndex, PodEntry>,
    /// Identities of addresses beyond this node's pods: other nodes' pods, networks, services. The
    /// longest prefix counts.
    pub identities: BTreeMap<Prefix, Identity>,
    /// Who may reach whom; see [`Policy`].
    pub policies: BTreeMap<Policy, Verdict>,
    /// What no policy names.
    pub default_verdict: Verdict,
    /// Addresses of the node that are not on its links, for example a load balancer's. Those on
    /// its links are added by themselves.
    pub node_addresses: BTreeSet<IpAddr>,
}

impl Default for Desired {
    fn default() -> Self {
        Self {
            services: BTreeMap::new(),
            pods: BTreeMap::new(),
            identities: BTreeMap::new(),
            policies: BTreeMap::new(),
            default_verdict: Verdict::Direct,
            node_addresses: BTreeSet::new(),
        }
    }
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
    /// Who it is.
    pub identity: Identity,
    /// Cookie of its network namespace, as [`PodLink`](crate::pods::PodLink) has it; without it
    /// the connect hooks leave the pod alone.
    pub netns_cookie: Option<u64>,
    /// Another fail mode than the node's.
    pub fail_mode: Option<FailMode>,
}

/// Number of an identity; what it stands for is the caller's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity(NonZeroU32);

impl Identity {
    /// An identity; zero (unknown) and the largest number (any) are reserved.
    pub fn new(number: u32) -> Option<Self> {
        if number == IDENTITY_ANY { None } else { NonZeroU32::new(number).map(Self) }
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0.get()
    }
}

/// An address range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    /// Any address of the range.
    pub ip: IpAddr,
    /// Bits that count: 0 to 32, or to 128.
    pub bits: u8,
}

/// Key of a policy. `None` matches everything; the key that names more wins, then the one that
/// names the destination, then the source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Policy {
    /// Who connects.
    pub source: Option<Identity>,
    /// To whom.
    pub destination: Option<Identity>,
    /// To which port.
    pub port: Option<(Protocol, u16)>,
}
