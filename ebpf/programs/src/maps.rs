//! The maps, and lookups that give values instead of pointers.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf, SockMap, lpm_trie::Key},
};
use weir_ebpf_common::{
    Addr, BackendKey, BackendRecord, Bucket, Config, Count, EVENTS_BYTES, FlowRecord, GUARD_NONE, LISTEN_SLOTS,
    MAX_BACKENDS, MAX_FLOWS, MAX_NODE_ADDRESSES, MAX_PLACES, MAX_PODS, MAX_POLICIES, MAX_RULES, MAX_SERVICES,
    MAX_STEER_INTERFACES, PlaceKey, PlaceRecord, PodRecord, Policies, Policy, PolicyKey, PolicyRecord, Reason, Reset,
    SOURCE_UNKNOWN, ServiceKey, ServiceRecord, TCP, TUNNEL_PORT, Tuple, Verdict, find_mtls, with_mtls,
};

/// Memory of the sparse maps is taken when an entry is: an edge node uses a few of the many.
const NO_PREALLOC: u32 = aya_ebpf::bindings::BPF_F_NO_PREALLOC;

#[map]
static WEIR_CONFIG: Array<Config> = Array::pinned(1, 0);
#[map]
static WEIR_PODS: HashMap<u32, PodRecord> = HashMap::pinned(MAX_PODS, 0);
#[map]
static WEIR_NETNS: HashMap<u64, u32> = HashMap::pinned(MAX_PODS, 0);
#[map]
static WEIR_PLACES: LpmTrie<PlaceKey, PlaceRecord> = LpmTrie::pinned(MAX_PLACES, NO_PREALLOC);
#[map]
static WEIR_SERVICES: HashMap<ServiceKey, ServiceRecord> = HashMap::pinned(MAX_SERVICES, NO_PREALLOC);
#[map]
static WEIR_BACKENDS: HashMap<BackendKey, BackendRecord> = HashMap::pinned(MAX_BACKENDS, NO_PREALLOC);
#[map]
static WEIR_POLICIES: HashMap<PolicyKey, PolicyRecord> = HashMap::pinned(MAX_POLICIES, NO_PREALLOC);
#[map]
static WEIR_RULES: PerCpuHashMap<u32, Count> = PerCpuHashMap::pinned(MAX_RULES, NO_PREALLOC);
#[map]
static WEIR_NODE_ADDR: HashMap<Addr, u8> = HashMap::pinned(MAX_NODE_ADDRESSES, 0);
#[map]
static WEIR_STEER_IF: HashMap<u32, u32> = HashMap::pinned(MAX_STEER_INTERFACES, 0);
#[map]
pub static WEIR_LISTEN: SockMap = SockMap::pinned(LISTEN_SLOTS, 0);
#[map]
static WEIR_FLOWS: LruHashMap<Tuple, FlowRecord> = LruHashMap::pinned(MAX_FLOWS, 0);
#[map]
static WEIR_COUNTS: PerCpuArray<Count> = PerCpuArray::pinned(Reason::COUNT, 0);
#[map]
static WEIR_BUCKETS: PerCpuArray<Bucket> = PerCpuArray::pinned(Reason::COUNT, 0);
/// Not pinned: its content means nothing after the program that wrote it.
#[map]
static WEIR_RESET: PerCpuArray<Reset> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static WEIR_EVENTS: RingBuf = RingBuf::pinned(EVENTS_BYTES, 0);

/// The configuration, once user space of the same ABI has written it.
#[inline(always)]
pub fn config() -> Option<&'static Config> {
    WEIR_CONFIG.get(0).filter(|config| config.abi == weir_ebpf_common::ABI_VERSION)
}

#[inline(always)]
pub fn pod(ifindex: u32) -> Option<&'static PodRecord> {
    // SAFETY: the kernel keeps a looked-up element readable until the program ends.
    unsafe { WEIR_PODS.get(ifindex) }
}

#[inline(always)]
pub fn is_enrolled(netns_cookie: u64) -> bool {
    WEIR_NETNS.get_ptr(netns_cookie).is_some()
}

/// What an address stands for.
#[inline(always)]
pub fn place(address: &Addr) -> PlaceRecord {
    let key = Key::new(128, *address);
    WEIR_PLACES.get(&key).copied().unwrap_or(PlaceRecord { source: SOURCE_UNKNOWN, guard: GUARD_NONE, mtls: 0 })
}

#[inline(always)]
pub fn service(key: &ServiceKey) -> Option<ServiceRecord> {
    // SAFETY: as in `pod`; the record is copied out.
    unsafe { WEIR_SERVICES.get(key) }.copied()
}

#[inline(always)]
pub fn backend(key: &BackendKey) -> Option<&'static BackendRecord> {
    // SAFETY: as in `pod`.
    unsafe { WEIR_BACKENDS.get(key) }
}

#[inline(always)]
pub fn is_node(address: &Addr) -> bool {
    WEIR_NODE_ADDR.get_ptr(address).is_some()
}

/// Length of the link-layer header of an interface at which steered packets enter the stack.
#[inline(always)]
pub fn steer_interface(ifindex: u32) -> Option<u32> {
    // SAFETY: as in `pod`; the number is copied out.
    unsafe { WEIR_STEER_IF.get(ifindex) }.copied()
}

#[inline(always)]
pub fn flow(tuple: &Tuple) -> Option<FlowRecord> {
    // SAFETY: as in `pod`; the record is copied out.
    unsafe { WEIR_FLOWS.get(tuple) }.copied()
}

#[inline(always)]
pub fn set_flow(tuple: &Tuple, flow: FlowRecord) {
    // Without room the least recently used flow goes; a failure means one more socket look-up.
    let _ = WEIR_FLOWS.insert(tuple, flow, 0);
}

#[inline(always)]
pub fn count(reason: Reason, bytes: u32) {
    if let Some(count) = WEIR_COUNTS.get_ptr_mut(reason as u32) {
        // SAFETY: this processor's own slot, and no other program runs on it meanwhile.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += u64::from(bytes);
        }
    }
}

#[inline(always)]
pub fn bucket(reason: Reason) -> Option<&'static mut Bucket> {
    // SAFETY: as in `count`.
    WEIR_BUCKETS.get_ptr_mut(reason as u32).map(|bucket| unsafe { &mut *bucket })
}

/// Room for a reset and what it answers.
#[inline(always)]
pub fn reset_buffer() -> Option<&'static mut Reset> {
    // SAFETY: as in `count`; all fields are bytes.
    WEIR_RESET.get_ptr_mut(0).map(|reset| unsafe { &mut *reset })
}

/// Counts what a rule has denied or told of.
#[inline(always)]
pub fn count_rule(rule: u32, bytes: u32) {
    if let Some(count) = WEIR_RULES.get_ptr_mut(&rule) {
        // SAFETY: as in `count`.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += u64::from(bytes);
        }
        return;
    }
    // Without room it is only counted by its reason.
    let _ = WEIR_RULES.insert(&rule, &Count { packets: 1, bytes: u64::from(bytes) }, 0);
}

/// The policy map as the decisions see it.
pub struct PolicyMap;

impl Policies for PolicyMap {
    #[inline(always)]
    fn find(&self, key: &PolicyKey) -> Option<Policy> {
        // SAFETY: as in `pod`; the record is copied out.
        let record = unsafe { WEIR_POLICIES.get(key) }?;
        Some(Policy { verdict: Verdict::from_number(record.verdict), rule: record.rule })
    }
}

/// What policy says of a flow.
#[inline(always)]
pub fn policy(config: &Config, tuple: &Tuple) -> Policy {
    if config.flags & Config::POLICIES == 0 {
        return Policy::NONE;
    }
    let destination = place(&tuple.dst);
    let policy = guarded(destination.guard, tuple);
    if destination.mtls == 0 || tuple.protocol != TCP {
        return policy;
    }
    with_mtls(policy, find_mtls(&PolicyMap, destination.mtls, tuple))
}

/// Whether a flow is a tunnel to a workload of this node.
#[inline(always)]
pub fn is_tunnel(config: &Config, tuple: &Tuple) -> bool {
    if config.flags & Config::POLICIES == 0 || tuple.dst_port != TUNNEL_PORT.to_be() || tuple.protocol != TCP {
        return false;
    }
    let destination = place(&tuple.dst);
    destination.mtls != 0 && find_mtls(&PolicyMap, destination.mtls, tuple) != Verdict::Proxy
}

/// What is said of a flow that has come in the clear to a pod.
#[inline(always)]
pub fn in_the_clear(mtls: u32, tuple: &Tuple) -> Verdict {
    // Tunnels carry TCP only: of the rest of the mesh the address has to do.
    if tuple.protocol != TCP && place(&tuple.src).mtls != 0 {
        return Verdict::Direct;
    }
    find_mtls(&PolicyMap, mtls, tuple)
}

/// What a guard says of a flow.
#[inline(always)]
pub fn guarded(guard: u32, tuple: &Tuple) -> Policy {
    if guard == GUARD_NONE {
        return Policy::NONE;
    }
    weir_ebpf_common::find_policy(&PolicyMap, place(&tuple.src).source, guard, tuple)
}
