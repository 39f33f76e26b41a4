//! `weir_pick`: gives a steered packet to the proxy's listener.
//!
//! Runs for every packet of the node that no socket matches exactly, so it leaves early: only
//! what came in over a steering interface, for an address that is not the node's, was steered.
//! If the chosen socket is one of several that share its port, the kernel spreads over them.

use core::ptr::{addr_of, read_volatile};

use aya_ebpf::{bindings::bpf_sk_lookup, macros::sk_lookup, programs::SkLookupContext};
use weir_ebpf_common::{Addr, Reason, TCP};

use crate::{maps, socket};

const PASS: u32 = 1;
const AF_INET: u32 = 2;

#[sk_lookup]
pub fn weir_pick(ctx: SkLookupContext) -> u32 {
    let lookup = Lookup::read(ctx.lookup);
    if lookup.protocol != u32::from(TCP) || maps::steer_interface(lookup.ifindex).is_none() {
        return PASS;
    }
    let is_v4 = lookup.family == AF_INET;
    let local = if is_v4 { Addr::v4_word(lookup.ip4) } else { Addr { words: lookup.ip6 } };
    if maps::is_node(&local) {
        return PASS;
    }
    let reason = match maps::WEIR_LISTEN.redirect_sk_lookup(&ctx, socket::slot(is_v4), 0) {
        Ok(()) => Reason::Picked,
        Err(_) => Reason::PickedNone,
    };
    maps::count(reason, 0);
    PASS
}

/// All fields are read at once, each with its own volatile read: reading them in a branch lets
/// the compiler compute pointers into the context, which the verifier refuses.
struct Lookup {
    family: u32,
    protocol: u32,
    ip4: u32,
    ip6: [u32; 4],
    ifindex: u32,
}

impl Lookup {
    #[inline(always)]
    fn read(lookup: *const bpf_sk_lookup) -> Self {
        // SAFETY: the context is valid as long as the program runs.
        unsafe {
            Self {
                family: read_volatile(addr_of!((*lookup).family)),
                protocol: read_volatile(addr_of!((*lookup).protocol)),
                ip4: read_volatile(addr_of!((*lookup).local_ip4)),
                ip6: [
                    read_volatile(addr_of!((*lookup).local_ip6[0])),
                    read_volatile(addr_of!((*lookup).local_ip6[1])),
                    read_volatile(addr_of!((*lookup).local_ip6[2])),
                    read_volatile(addr_of!((*lookup).local_ip6[3])),
                ],
                ifindex: read_volatile(addr_of!((*lookup).ingress_ifindex)),
            }
        }
    }
}
