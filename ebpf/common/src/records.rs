//! Keys and values of the maps: fixed layout, no padding, every bit pattern valid.
#![expect(unsafe_code, reason = "the marker trait promises layout to code that copies bytes")]

use crate::{Addr, MAX_POD_ADDRESSES};

/// Plain old data: may be copied from and to the kernel byte by byte.
///
/// # Safety
/// The type is `repr(C)` or a primitive, has no padding, and every bit pattern is a valid value.
pub unsafe trait Plain: Copy + 'static {}

/// What holds for the whole node; the one entry of the config map.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Config {
    /// [`ABI_VERSION`](crate::ABI_VERSION) of the writer; zero means not configured: programs pass everything.
    pub abi: u32,
    /// Bits named `Config::*`.
    pub flags: u32,
    /// Hardware address of the bridge.
    pub bridge_mac: [u8; 6],
    /// Always zero.
    pub zero: [u8; 2],
    /// Drop events per second, reason and processor; the rest is only counted.
    pub events_per_second: u32,
}

impl Config {
    /// Without a proxy, packets from the uplinks go straight on instead of being dropped.
    pub const FAIL_OPEN: u32 = 1;
    /// The policy map has entries; without this bit it is not consulted.
    pub const POLICIES: u32 = 2;
    /// What no policy names is denied.
    pub const DEFAULT_DENY: u32 = 4;
    /// What no policy names goes to the proxy.
    pub const DEFAULT_PROXY: u32 = 8;

    /// What happens to flows that no policy names.
    #[inline(always)]
    pub const fn default_verdict(&self) -> crate::Verdict {
        if self.flags & Self::DEFAULT_DENY != 0 {
            crate::Verdict::Deny
        } else if self.flags & Self::DEFAULT_PROXY != 0 {
            crate::Verdict::Proxy
        } else {
            crate::Verdict::Direct
        }
    }
}

/// A pod on this node; the key is the index of its link in the node's namespace.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PodRecord {
    /// Addresses it may send from; unused entries are zero.
    pub addresses: [Addr; MAX_POD_ADDRESSES],
    /// Who it is, for policy.
    pub identity: u32,
    /// Bits named `PodRecord::*`.
    pub flags: u32,
}

impl PodRecord {
    /// Without a proxy, this pod's flows go straight on instead of being dropped.
    pub const FAIL_OPEN: u32 = 1;
}

/// Key of the identity map's longest-prefix match (behind the prefix length).
pub type IdentityKey = Addr;

/// What a client connects to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct ServiceKey {
    /// Virtual address.
    pub address: Addr,
    /// Port in network byte order.
    pub port: u16,
    /// [`TCP`](crate::TCP) or [`UDP`](crate::UDP).
    pub protocol: u8,
    /// Always zero.
    pub zero: u8,
}

/// What is done with connections to a service.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ServiceRecord {
    /// One of [`ServiceAction`]; unknown numbers mean `Proxy`, which never loses a rule.
    pub action: u32,
    /// Set of backends, for `Balance`.
    pub set: u32,
    /// Backends in the set; zero refuses connections.
    pub backends: u32,
}

/// See [`ServiceRecord::action`].
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceAction {
    /// An HTTP rule may concern it: connections keep the virtual address and go to the proxy.
    Proxy = 0,
    /// No rule concerns it: a backend is chosen at connect time.
    Balance = 1,
}

/// One backend of a set. Sets are written once and never changed: a change writes a new set and
/// then switches the service to it, so that no reader sees a mixture.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct BackendKey {
    /// The set.
    pub set: u32,
    /// Index in the set.
    pub index: u32,
}

/// A column of the alias table (Walker 1977): a draw below `threshold` takes the first address,
/// any other the second.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BackendRecord {
    /// First address.
    pub address: Addr,
    /// Second address.
    pub alias: Addr,
    /// Port of the first in network byte order.
    pub port: u16,
    /// Port of the second in network byte order.
    pub alias_port: u16,
    /// Share of the first in 2^-32; see [`pick_side`](crate::pick_side).
    pub threshold: u32,
}

/// Who may reach whom. [`IDENTITY_ANY`](crate::IDENTITY_ANY) and a zero port and protocol match everything.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct PolicyKey {
    /// Identity of the source.
    pub source: u32,
    /// Identity of the destination.
    pub destination: u32,
    /// Destination port in network byte order; zero with a zero protocol: any.
    pub port: u16,
    /// Protocol number; zero with a zero port: any.
    pub protocol: u8,
    /// Always zero.
    pub zero: u8,
}

/// A flow in one direction.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct Tuple {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port in network byte order; zero when the protocol has none.
    pub src_port: u16,
    /// Destination port in network byte order.
    pub dst_port: u16,
    /// Protocol number.
    pub protocol: u8,
    /// Always zero.
    pub zero: [u8; 3],
}

impl Tuple {
    /// Nothing known.
    pub const EMPTY: Self = Self {
        src: Addr { words: [0; 4] },
        dst: Addr { words: [0; 4] },
        src_port: 0,
        dst_port: 0,
        protocol: 0,
        zero: [0; 3],
    };
}

/// What is remembered of a flow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FlowRecord {
    /// One of [`FlowState`].
    pub state: u32,
}

/// See [`FlowRecord::state`].
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowState {
    /// Goes straight on; its packets need no socket lookup until the next handshake.
    Direct = 1,
    /// Belongs to the proxy; without a socket it is answered with a reset.
    Steered = 2,
}

/// A counter.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Count {
    /// Packets, connections or lookups.
    pub packets: u64,
    /// Bytes from the link layer up; zero where there is no packet.
    pub bytes: u64,
}

/// Something that was kept from its destination.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Event {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Nanoseconds since boot, without suspended time (`CLOCK_MONOTONIC`).
    pub time_ns: u64,
    /// Identity of the source.
    pub source: u32,
    /// Identity of the destination.
    pub destination: u32,
    /// Link it came from or went to.
    pub ifindex: u32,
    /// Source port in network byte order.
    pub src_port: u16,
    /// Destination port in network byte order.
    pub dst_port: u16,
    /// Protocol number.
    pub protocol: u8,
    /// Number of a [`Reason`](crate::Reason).
    pub reason: u8,
    /// Always zero.
    pub zero: [u8; 2],
    /// Events of this reason that this processor did not report since the last one it reported.
    pub suppressed: u32,
}

macro_rules! plain {
    ($($type:ty = $size:literal),* $(,)?) => {
        $(
            // SAFETY: repr(C) of integers whose sizes add up to the size asserted below, so there
            // is no padding, and integers accept every bit pattern.
            unsafe impl Plain for $type {}
            const _: () = assert!(size_of::<$type>() == $size);
        )*
    };
}

plain! {
    Addr = 16,
    Config = 20,
    PodRecord = 72,
    ServiceKey = 20,
    ServiceRecord = 12,
    BackendKey = 8,
    BackendRecord = 40,
    PolicyKey = 12,
    Tuple = 40,
    FlowRecord = 4,
    Count = 16,
    Event = 64,
    crate::Bucket = 16,
    u8 = 1,
    u32 = 4,
    u64 = 8,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes are asserted at compile time; this adds the sum of the fields, which is what
    /// shows that no padding hides in a record.
    #[test]
    fn records_have_no_padding() {
        assert_eq!(size_of::<Config>(), 4 + 4 + 6 + 2 + 4);
        assert_eq!(size_of::<PodRecord>(), MAX_POD_ADDRESSES * 16 + 4 + 4);
        assert_eq!(size_of::<ServiceKey>(), 16 + 2 + 1 + 1);
        assert_eq!(size_of::<ServiceRecord>(), 4 * 3);
        assert_eq!(size_of::<BackendRecord>(), 16 * 2 + 2 * 2 + 4);
        assert_eq!(size_of::<PolicyKey>(), 4 * 2 + 2 + 1 + 1);
        assert_eq!(size_of::<Tuple>(), 16 * 2 + 2 * 2 + 1 + 3);
        assert_eq!(size_of::<Event>(), 16 * 2 + 8 + 4 * 3 + 2 * 2 + 1 + 1 + 2 + 4);
    }
}
