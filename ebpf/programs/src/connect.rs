//! `weir_connect4` and `weir_connect6`: a backend for connections to services that no HTTP rule
//! concerns. Decided once per connection, so that their packets cost nothing.
//!
//! Services with HTTP rules keep their virtual address: the proxy needs it.

use core::ptr::{addr_of, addr_of_mut, read_volatile, write_volatile};

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_set_retval},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use weir_ebpf_common::{Addr, BackendKey, BackendRecord, Reason, ServiceAction, ServiceKey, ServiceRecord, pick_side};

use crate::maps;

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;

#[cgroup_sock_addr(connect4)]
pub fn weir_connect4(ctx: SockAddrContext) -> i32 {
    let sock = ctx.sock_addr;
    // SAFETY: the context is valid as long as the program runs.
    let (ip, port, protocol) = unsafe {
        (
            read_volatile(addr_of!((*sock).user_ip4)),
            read_volatile(addr_of!((*sock).user_port)),
            read_volatile(addr_of!((*sock).protocol)),
        )
    };
    match choose(sock, Addr::v4_word(ip), port, protocol) {
        Choice::Keep => ALLOW,
        Choice::Refuse => REFUSE,
        Choice::Backend(address, port) if address.is_v4() => {
            // SAFETY: as above; both fields may be written at this hook.
            unsafe {
                write_volatile(addr_of_mut!((*sock).user_ip4), address.words[3]);
                write_volatile(addr_of_mut!((*sock).user_port), u32::from(port));
            }
            ALLOW
        }
        Choice::Backend(..) => ALLOW,
    }
}

#[cgroup_sock_addr(connect6)]
pub fn weir_connect6(ctx: SockAddrContext) -> i32 {
    let sock = ctx.sock_addr;
    // SAFETY: the context is valid as long as the program runs.
    let (words, port, protocol) = unsafe {
        (
            [
                read_volatile(addr_of!((*sock).user_ip6[0])),
                read_volatile(addr_of!((*sock).user_ip6[1])),
                read_volatile(addr_of!((*sock).user_ip6[2])),
                read_volatile(addr_of!((*sock).user_ip6[3])),
            ],
            read_volatile(addr_of!((*sock).user_port)),
            read_volatile(addr_of!((*sock).protocol)),
        )
    };
    match choose(sock, Addr { words }, port, protocol) {
        Choice::Keep => ALLOW,
        Choice::Refuse => REFUSE,
        Choice::Backend(address, port) => {
            // SAFETY: as above. An IPv4 backend in mapped form keeps a mapped destination mapped.
            unsafe {
                write_volatile(addr_of_mut!((*sock).user_ip6[0]), address.words[0]);
                write_volatile(addr_of_mut!((*sock).user_ip6[1]), address.words[1]);
                write_volatile(addr_of_mut!((*sock).user_ip6[2]), address.words[2]);
                write_volatile(addr_of_mut!((*sock).user_ip6[3]), address.words[3]);
                write_volatile(addr_of_mut!((*sock).user_port), u32::from(port));
            }
            ALLOW
        }
    }
}

enum Choice {
    Keep,
    Refuse,
    Backend(Addr, u16),
}

#[inline(always)]
fn choose(sock: *mut bpf_sock_addr, address: Addr, port: u32, protocol: u32) -> Choice {
    // SAFETY: the context is valid as long as the program runs.
    if !maps::is_enrolled(unsafe { bpf_get_netns_cookie(sock.cast()) }) {
        return Choice::Keep;
    }
    let key = ServiceKey { address, port: port as u16, protocol: protocol as u8, zero: 0 };
    // The second time only when a change removed the set between the two look-ups.
    for _ in 0..2 {
        let Some(service) = maps::service(&key) else { return Choice::Keep };
        if service.action != ServiceAction::Balance as u32 {
            return Choice::Keep;
        }
        if service.backends == 0 {
            break;
        }
        if let Some(backend) = draw(&service) {
            maps::count(Reason::Balanced, 0);
            // SAFETY: the helper has no conditions.
            return if pick_side(unsafe { bpf_get_prandom_u32() }, backend.threshold) {
                Choice::Backend(backend.address, backend.port)
            } else {
                Choice::Backend(backend.alias, backend.alias_port)
            };
        }
    }
    maps::count(Reason::RefusedNoBackend, 0);
    // SAFETY: the helper has no conditions; without it the error would be "not permitted".
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    Choice::Refuse
}

#[inline(always)]
fn draw(service: &ServiceRecord) -> Option<&'static BackendRecord> {
    // SAFETY: the helper has no conditions.
    let index = unsafe { bpf_get_prandom_u32() } % service.backends;
    maps::backend(&BackendKey { set: service.set, index })
}
