//! The eBPF programs of Weir: thin hooks that gather facts and let `weir-ebpf-common` decide.
//!
//! | program | hook | does |
//! |---|---|---|
//! | `weir_from_pod` | tcx ingress, host side of a pod's link | source check, policy, steering |
//! | `weir_to_pod` | tcx egress, same link | guards what reaches the pod |
//! | `weir_from_net` | tcx ingress, uplinks | replies to transparent sockets, inbound flows |
//! | `weir_pick` | `sk_lookup`, node's namespace | gives a steered packet to the proxy's listener |
//! | `weir_connect4`, `weir_connect6` | cgroup | backend of a plain service at connect time |
#![no_std]
#![no_main]

mod connect;
mod flows;
mod frame;
mod from_net;
mod from_pod;
mod maps;
mod pick;
mod report;
mod reset;
mod socket;
mod steer;
mod to_pod;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses any program in which this could be reached.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
