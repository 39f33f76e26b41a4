//! Sending a packet up to the proxy.

use aya_ebpf::bindings::TC_ACT_SHOT;
use weir_ebpf_common::{Config, MARK_MASK, MARK_POD, MARK_STEER, Parsed, Reason};

use crate::{
    frame::Frame,
    maps,
    report::{self, FromPod, Loss},
};

/// Verdict "go on" that lets other programs on the link have their say (`TCX_NEXT`).
pub const NEXT: i32 = -1;
/// Verdict "drop".
pub const DROP: i32 = TC_ACT_SHOT as i32;

/// Marks the packet for the rule that delivers it locally, and addresses it to the bridge itself:
/// otherwise a packet from pod to pod would be bridged without ever reaching the stack.
#[inline(always)]
pub fn from_bridge_port(frame: &Frame<'_>, config: &Config, parsed: &Parsed, reason: Reason) -> i32 {
    if frame.0.store(0, &config.bridge_mac, 0).is_err() {
        report::lose::<FromPod>(
            frame.0,
            &Loss {
                reason: Reason::DroppedRewrite,
                tuple: &parsed.tuple,
                ifindex: frame.ifindex(),
                rule: 0,
                bytes: frame.len(),
                per_second: config.events_per_second,
            },
        );
        return DROP;
    }
    mark(frame, reason)
}

/// Notes that a packet was judged at the link of a pod, for the guard of the link that it leaves by.
#[inline(always)]
pub fn vouch(frame: &Frame<'_>) {
    frame.0.set_mark(frame.mark() & !MARK_MASK | MARK_POD);
}

/// Marks a packet that reaches the stack anyway.
#[inline(always)]
pub fn mark(frame: &Frame<'_>, reason: Reason) -> i32 {
    frame.0.set_mark(frame.mark() & !MARK_MASK | MARK_STEER);
    maps::count(reason, frame.len());
    NEXT
}
