//! Questions about sockets of the node's network namespace.

use core::{ffi::c_void, mem::MaybeUninit, ptr::addr_of};

use aya_ebpf::{
    bindings::{
        bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as Ipv4Tuple,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as Ipv6Tuple,
    },
    helpers::generated::{bpf_map_lookup_elem, bpf_sk_release, bpf_skc_lookup_tcp},
    programs::TcContext,
};
use weir_ebpf_common::{SLOT_OUT4, SLOT_OUT6, Tuple};

use crate::maps::WEIR_LISTEN;

/// `TCP_LISTEN` of the kernel's socket states.
const TCP_LISTEN: u32 = 10;
/// `BPF_F_CURRENT_NETNS`: the namespace of the hook.
const CURRENT_NETNS: u64 = u64::MAX;

/// Slot of the listener for new flows of a family.
#[inline(always)]
pub const fn slot(is_v4: bool) -> u32 {
    if is_v4 { SLOT_OUT4 } else { SLOT_OUT6 }
}

/// Whether the proxy listens. The kernel empties the slot when the socket closes, also when its
/// process is killed.
#[inline(always)]
pub fn has_listener(slot: u32) -> bool {
    // SAFETY: the map outlives the program, the key is a valid u32. aya has no look-up for
    // sockets at this hook; the reference it returns is released below.
    unsafe {
        let map = addr_of!(WEIR_LISTEN).cast_mut().cast::<c_void>();
        let socket = bpf_map_lookup_elem(map, addr_of!(slot).cast());
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket);
    }
    true
}

/// Whether a socket here owns this flow. Listeners do not count: the look-up also runs
/// `weir_pick`, which would answer for flows that the proxy never saw.
#[inline(always)]
pub fn owns(ctx: &TcContext, tuple: &Tuple) -> bool {
    let mut key = MaybeUninit::<bpf_sock_tuple>::uninit();
    let pointer = key.as_mut_ptr();
    // SAFETY: the part of the union that the given size names is written in full before the
    // helper reads it, and the socket it returns is released.
    unsafe {
        let size = if tuple.src.is_v4() {
            pointer.cast::<Ipv4Tuple>().write(Ipv4Tuple {
                saddr: tuple.src.words[3],
                daddr: tuple.dst.words[3],
                sport: tuple.src_port,
                dport: tuple.dst_port,
            });
            size_of::<Ipv4Tuple>()
        } else {
            pointer.cast::<Ipv6Tuple>().write(Ipv6Tuple {
                saddr: tuple.src.words,
                daddr: tuple.dst.words,
                sport: tuple.src_port,
                dport: tuple.dst_port,
            });
            size_of::<Ipv6Tuple>()
        };
        let socket = bpf_skc_lookup_tcp(ctx.skb.skb.cast(), pointer, size as u32, CURRENT_NETNS, 0);
        if socket.is_null() {
            return false;
        }
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state != TCP_LISTEN
    }
}
