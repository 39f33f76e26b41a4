//! What the eBPF programs and user space agree on: map keys and values, names, reasons, and the
//! decisions as plain functions.
//!
//! The programs, the host tests and the fuzzers call the same functions, so what is tested here is
//! what runs in the kernel. Nothing in this crate may allocate, panic on input, or call a helper of
//! the kernel: facts come in as arguments, or through the narrow traits [`Bytes`] and [`Policies`].
#![no_std]

mod addr;
mod decide;
mod names;
mod packet;
mod pick;
mod rate;
mod reason;
mod records;
mod reset;

pub use addr::Addr;
pub use decide::{
    AddressKind, Decision, FirstPacket, Path, Policies, Policy, Verdict, decide_first, find_mtls, find_policy,
    is_answer_in_time, is_own_neighbour, is_own_on_link, is_own_source, may_go_on, with_mtls,
};
pub use names::{maps, programs};
pub use packet::{Bytes, Kind, Parsed, parse};
pub use pick::pick_side;
pub use rate::{Bucket, admit};
pub use reason::Reason;
pub use records::{
    BackendKey, BackendRecord, Config, Count, Event, FlowRecord, FlowState, PlaceKey, PlaceRecord, Plain, PodRecord,
    PolicyKey, PolicyRecord, ServiceAction, ServiceKey, ServiceRecord, Tuple,
};
pub use reset::{Reset, reset4, reset6};

/// Version of everything both sides must agree on; part of the pin directory's name.
///
/// Raise it whenever a record, a map's type or size, or the meaning of a field changes: the next
/// start then cleans up the old directory instead of reading its maps wrongly.
pub const ABI_VERSION: u32 = 3;

/// Bits of the packet mark that belong to Weir, away from kube-proxy's 0x4000 and 0x8000.
pub const MARK_MASK: u32 = 0xf00;
/// Mark of packets that are to be delivered to the proxy.
pub const MARK_STEER: u32 = 0x200;
/// Mark (`SO_MARK`) of the proxy's own sockets; their packets pass every guard.
pub const MARK_PROXY: u32 = 0x300;

/// Mark of packets that begin something and were judged where they came from: at the link of a pod of this node. A link between
/// namespaces takes marks off, so that nobody else can set it.
pub const MARK_POD: u32 = 0x400;
/// Port of a workload's own address at which tunnels to it are accepted (HBONE).
pub const TUNNEL_PORT: u16 = 15_008;

/// Addresses one pod may own: two families, and room for a second network.
pub const MAX_POD_ADDRESSES: usize = 4;
/// Source of whom nothing is known.
pub const SOURCE_UNKNOWN: u32 = 0;
/// In a policy key: every source.
pub const SOURCE_ANY: u32 = u32::MAX;
/// Guard of what everybody may reach.
pub const GUARD_NONE: u32 = 0;
/// How long after a datagram its answer is let through, in seconds. Connection tracking of Linux has the same for streams of them.
pub const ANSWER_SECONDS: u32 = 120;

/// Entries of the pods map.
pub const MAX_PODS: u32 = 1024;
/// Entries of the services map.
pub const MAX_SERVICES: u32 = 16_384;
/// Entries of the backends map, over all services and both generations during a change.
pub const MAX_BACKENDS: u32 = 65_536;
/// Entries of the policy map.
pub const MAX_POLICIES: u32 = 65_536;
/// Entries of the map of places.
pub const MAX_PLACES: u32 = 65_536;
/// Rules of which what they deny is counted.
pub const MAX_RULES: u32 = 16_384;
/// Flows whose path is remembered; the least recently used is forgotten first.
pub const MAX_FLOWS: u32 = 65_536;
/// Addresses of the node itself.
pub const MAX_NODE_ADDRESSES: u32 = 256;
/// Interfaces at which steered packets enter the node's stack.
pub const MAX_STEER_INTERFACES: u32 = 64;
/// Bytes of the ring buffer of drop events.
pub const EVENTS_BYTES: u32 = 1 << 18;
/// Slots for listening sockets.
pub const LISTEN_SLOTS: u32 = 8;

/// Slot of the proxy's outbound IPv4 TCP listener.
pub const SLOT_OUT4: u32 = 0;
/// Slot of the proxy's outbound IPv6 TCP listener.
pub const SLOT_OUT6: u32 = 1;

/// Protocol number of TCP (RFC 9293).
pub const TCP: u8 = 6;
/// Protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;
/// Protocol number of ICMP (RFC 792).
pub const ICMP: u8 = 1;
/// Protocol number of IGMP (RFC 3376).
pub const IGMP: u8 = 2;
/// Protocol number of ICMPv6 (RFC 4443).
pub const ICMPV6: u8 = 58;
