//! The decisions: who may send as whom, where a flow goes, and what happens without a proxy.

use crate::{
    ANSWER_SECONDS, Addr, GUARD_NONE, PodRecord, PolicyKey, Reason, SOURCE_ANY, ServiceAction, ServiceRecord, Tuple,
};

/// Where policy sends a flow. Numbers are the values of the policy map.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verdict {
    /// Straight on.
    Direct = 1,
    /// To the proxy, which decides with what it knows of the request.
    Proxy = 2,
    /// Nowhere.
    Deny = 3,
    /// Straight on, and told of.
    Audit = 4,
}

impl Verdict {
    /// The verdict of a value in the map; what cannot be read denies.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Direct,
            2 => Self::Proxy,
            4 => Self::Audit,
            _ => Self::Deny,
        }
    }
}

/// What policy says of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Where it goes.
    pub verdict: Verdict,
    /// Number of what says so; zero where that need not be told.
    pub rule: u32,
}

impl Policy {
    /// Of what nothing guards.
    pub const NONE: Self = Self { verdict: Verdict::Direct, rule: 0 };
    /// Of what is guarded by something that says nothing.
    const SILENT: Self = Self { verdict: Verdict::Deny, rule: 0 };
}

/// The policy map, in the kernel or in a test.
pub trait Policies {
    /// The value at exactly this key.
    fn find(&self, key: &PolicyKey) -> Option<Policy>;
}

/// What a guard says of a flow: of this source and port, else of this source, else of this port, else of all.
///
/// A guard has an answer for all; while its answers are written, it denies.
#[inline(always)]
pub fn find_policy<P: Policies>(policies: &P, source: u32, guard: u32, tuple: &Tuple) -> Policy {
    if guard == GUARD_NONE {
        return Policy::NONE;
    }
    let exact = PolicyKey { source, guard, port: tuple.dst_port, protocol: tuple.protocol, zero: 0 };
    let order = [
        exact,
        PolicyKey { port: 0, protocol: 0, ..exact },
        PolicyKey { source: SOURCE_ANY, ..exact },
        PolicyKey { source: SOURCE_ANY, port: 0, protocol: 0, ..exact },
    ];
    for key in &order {
        if let Some(policy) = policies.find(key) {
            return policy;
        }
    }
    Policy::SILENT
}

/// What is said of how a workload is reached from other nodes, at a flow's port: of one that runs elsewhere that it is by the proxy
/// (`Proxy`), which makes tunnels, or straight on; of one that runs here that what comes in the clear is kept out (`Deny`), let in
/// and told of (`Audit`), or just let in.
#[inline(always)]
pub fn find_mtls<P: Policies>(policies: &P, mtls: u32, tuple: &Tuple) -> Verdict {
    let any = PolicyKey { source: SOURCE_ANY, guard: mtls, ..PolicyKey::default() };
    let at_port = PolicyKey { port: tuple.dst_port, protocol: tuple.protocol, ..any };
    for key in &[at_port, any] {
        if let Some(policy) = policies.find(key) {
            return policy.verdict;
        }
    }
    Verdict::Deny
}

/// What becomes of what policy says of a flow to a workload that runs on another node, or to one that runs here.
#[inline(always)]
pub const fn with_mtls(policy: Policy, mtls: Verdict) -> Policy {
    match (policy.verdict, mtls) {
        (Verdict::Direct | Verdict::Audit, Verdict::Proxy) => Policy { verdict: Verdict::Proxy, ..policy },
        _ => policy,
    }
}

/// Whether what policy says of a flow that has begun lets it go on as it is: past the proxy.
#[inline(always)]
pub const fn may_go_on(policy: &Policy) -> bool {
    matches!(policy.verdict, Verdict::Direct | Verdict::Audit)
}

/// Whether the answer to a datagram that was let through may come at this second, if the last one that it answers was seen
/// at that one.
#[inline(always)]
pub const fn is_answer_in_time(now: u32, seen: u32) -> bool {
    now.wrapping_sub(seen) <= ANSWER_SECONDS
}

/// What a destination address is to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressKind {
    /// The node itself.
    Node,
    /// Anything else.
    Other,
}

/// What is known when a flow begins.
#[derive(Clone, Copy, Debug)]
pub struct FirstPacket {
    /// What the destination is.
    pub destination: AddressKind,
    /// The service at the destination, if one is known.
    pub service: Option<ServiceRecord>,
    /// What policy says.
    pub policy: Verdict,
    /// Whether the proxy can take this protocol at all.
    pub is_steerable: bool,
}

/// Where a flow goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// Straight on.
    Direct,
    /// To the proxy.
    Proxy,
    /// Nowhere.
    Drop,
}

/// A path, and the reason to count for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Where the flow goes.
    pub path: Path,
    /// Why.
    pub reason: Reason,
}

/// Decides where a new flow goes; `has_proxy` is asked only when the answer matters, because in
/// the kernel it is a look-up of a socket.
///
/// Denial wins over everything. The node's own addresses are never steered, or the node could not
/// be reached without its proxy.
#[inline(always)]
pub fn decide_first(first: &FirstPacket, has_proxy: impl FnOnce() -> bool, is_fail_open: bool) -> Decision {
    if first.policy == Verdict::Deny {
        return Decision { path: Path::Drop, reason: Reason::DeniedPolicy };
    }
    if first.destination == AddressKind::Node {
        return Decision { path: Path::Direct, reason: Reason::PassedNode };
    }
    let is_proxied = match first.service {
        Some(service) => service.action != ServiceAction::Balance as u32,
        None => false,
    };
    if first.policy == Verdict::Proxy && !first.is_steerable {
        // Nobody could decide.
        return Decision { path: Path::Drop, reason: Reason::DeniedPolicy };
    }
    if !first.is_steerable || !(is_proxied || first.policy == Verdict::Proxy) {
        // What is to be told of is told of where it arrives.
        return Decision { path: Path::Direct, reason: Reason::PassedDirect };
    }
    if has_proxy() {
        Decision { path: Path::Proxy, reason: Reason::Steered }
    } else if is_fail_open {
        Decision { path: Path::Direct, reason: Reason::PassedNoProxy }
    } else {
        Decision { path: Path::Drop, reason: Reason::DroppedNoProxy }
    }
}

/// Whether a pod may send from this address.
///
/// Its own addresses always; on the link also its link-local ones and, while it checks an address
/// for duplicates, the unspecified one (RFC 4862): neither is routed, so neither can pretend to be
/// a neighbour beyond the link.
#[inline(always)]
pub fn is_own_source(pod: &PodRecord, src: &Addr, dst: &Addr) -> bool {
    if is_listed(pod, src) {
        return true;
    }
    let stays_on_link = dst.is_link_local() || dst.is_multicast6();
    stays_on_link && (src.is_link_local() || src.is_zero())
}

/// Whether a pod may send neighbour discovery from this address, or claim it in an advertisement: its
/// own addresses, and those that only mean something on the link. An address of the node must be
/// refused besides: it is on the same link.
#[inline(always)]
pub fn is_own_on_link(pod: &PodRecord, address: &Addr) -> bool {
    is_listed(pod, address) || address.is_link_local() || address.is_zero()
}

/// Whether a pod may say in ARP that this address is its own; `0.0.0.0` asks without saying so
/// (RFC 5227).
#[inline(always)]
pub fn is_own_neighbour(pod: &PodRecord, sender: &Addr) -> bool {
    is_listed(pod, sender) || sender.words[3] == 0
}

#[inline(always)]
fn is_listed(pod: &PodRecord, address: &Addr) -> bool {
    let mut found = false;
    for own in &pod.addresses {
        found |= own == address && !own.is_zero();
    }
    found
}

#[cfg(test)]
mod tests;
