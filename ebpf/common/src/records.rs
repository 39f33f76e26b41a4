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
    /// Which policies there are: another number when they are others.
    pub generation: u32,
}

impl Config {
    /// Without a proxy, packets from the uplinks go straight on instead of being dropped.
    pub const FAIL_OPEN: u32 = 1;
    /// Something is guarded; without this bit policies are not consulted.
    pub const POLICIES: u32 = 2;
}

/// A pod on this node; the key is the index of its link in the node's namespace.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PodRecord {
    /// Addresses it may send from; unused entries are zero.
    pub addresses: [Addr; MAX_POD_ADDRESSES],
    /// What its guard says decides who may reach it.
    pub guard: u32,
    /// What says how it is reached from elsewhere; zero where everybody may as ever.
    pub mtls: u32,
    /// Bits named `PodRecord::*`.
    pub flags: u32,
    /// Always zero.
    pub zero: u32,
}

impl PodRecord {
    /// Without a proxy, this pod's flows go straight on instead of being dropped.
    pub const FAIL_OPEN: u32 = 1;
}

/// Key of the longest-prefix match of places (behind the prefix length).
pub type PlaceKey = Addr;

/// What an address stands for.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PlaceRecord {
    /// Who connects from there.
    pub source: u32,
    /// What guards it.
    pub guard: u32,
    /// What says how it is reached from other nodes; zero where that is as ever.
    pub mtls: u32,
}

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

/// Who may reach what is guarded. [`SOURCE_ANY`](crate::SOURCE_ANY) and a zero port and protocol match everything.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct PolicyKey {
    /// Who connects.
    pub source: u32,
    /// What guards the destination.
    pub guard: u32,
    /// Destination port in network byte order; zero with a zero protocol: any.
    pub port: u16,
    /// Protocol number; zero with a zero port: any.
    pub protocol: u8,
    /// Always zero.
    pub zero: u8,
}

/// What a guard answers.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PolicyRecord {
    /// Number of a [`Verdict`](crate::Verdict).
    pub verdict: u32,
    /// What is counted and told as the reason; zero for nothing.
    pub rule: u32,
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

    /// The same in the other direction.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, src_port: self.dst_port, dst_port: self.src_port, ..*self }
    }
}

/// What is remembered of a flow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FlowRecord {
    /// One of [`FlowState`].
    pub state: u32,
    /// [`Config::generation`] of the policies that let it through; for the answers to datagrams the second since boot at which
    /// the last of those was seen.
    pub stamp: u32,
}

/// See [`FlowRecord::state`].
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowState {
    /// Goes straight on; its packets need no socket lookup until the next handshake.
    Direct = 1,
    /// Belongs to the proxy; without a socket it is answered with a reset.
    Steered = 2,
    /// Goes straight on, as the answers to a flow of the other direction.
    Answer = 3,
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
    /// What says so, where that is a policy.
    pub rule: u32,
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
    pub zero: [u8; 6],
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
    Config = 24,
    PodRecord = 80,
    ServiceKey = 20,
    ServiceRecord = 12,
    BackendKey = 8,
    BackendRecord = 40,
    PolicyKey = 12,
    PolicyRecord = 8,
    PlaceRecord = 12,
    Tuple = 40,
    FlowRecord = 8,
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
        assert_eq!(size_of::<Config>(), 4 + 4 + 6 + 2 + 4 + 4);
        assert_eq!(size_of::<PodRecord>(), MAX_POD_ADDRESSES * 16 + 4 * 4);
        assert_eq!(size_of::<PlaceRecord>(), 4 * 3);
        assert_eq!(size_of::<ServiceKey>(), 16 + 2 + 1 + 1);
        assert_eq!(size_of::<ServiceRecord>(), 4 * 3);
        assert_eq!(size_of::<BackendRecord>(), 16 * 2 + 2 * 2 + 4);
        assert_eq!(size_of::<PolicyKey>(), 4 * 2 + 2 + 1 + 1);
        assert_eq!(size_of::<Tuple>(), 16 * 2 + 2 * 2 + 1 + 3);
        assert_eq!(size_of::<Event>(), 16 * 2 + 8 + 4 * 2 + 2 * 2 + 1 + 1 + 6 + 4);
    }
}
