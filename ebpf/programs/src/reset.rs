//! Answering a packet of a dead flow with a TCP reset, back out of the link it came from.

use aya_ebpf::{
    bindings::BPF_F_RECOMPUTE_CSUM,
    helpers::generated::{bpf_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes},
    programs::TcContext,
};
use weir_ebpf_common::{Config, Parsed, Reason, Reset, reset4, reset6};

use crate::{
    frame::Frame,
    maps,
    report::{self, FromPod, Loss},
    steer::DROP,
};

const ETHERNET: u32 = 14;

/// Turns a packet of a pod into its own answer, for a reason and by a rule. The link must have Ethernet headers.
#[inline(always)]
pub fn answer(frame: &Frame<'_>, config: &Config, parsed: &Parsed, reason: Reason, rule: u32) -> i32 {
    report::lose::<FromPod>(
        frame.0,
        &Loss {
            reason,
            tuple: &parsed.tuple,
            ifindex: frame.ifindex(),
            rule,
            bytes: frame.len(),
            per_second: config.events_per_second,
        },
    );
    let is_written =
        if parsed.tuple.dst.is_v4() { become4(frame.0, parsed.transport) } else { become6(frame.0, parsed.transport) };
    if !is_written {
        return DROP;
    }
    // SAFETY: the helper has no conditions.
    unsafe { bpf_redirect(frame.ifindex(), 0) as i32 }
}

// Functions of their own, because the answer needs registers and stack of its own.

#[inline(never)]
fn become4(ctx: &TcContext, transport: u32) -> bool {
    // An IPv4 frame with a TCP header is long enough for the longer of the two IP headers.
    let Some(reset) = maps::reset_buffer() else { return false };
    if !load(ctx, 0, &mut reset.eth) || !load(ctx, ETHERNET, &mut reset.ip) || !load(ctx, transport, &mut reset.tcp) {
        return false;
    }
    reset4(reset);
    store(ctx, &reset.out, Reset::LEN4 as u32)
}

#[inline(never)]
fn become6(ctx: &TcContext, transport: u32) -> bool {
    let Some(reset) = maps::reset_buffer() else { return false };
    if !load(ctx, 0, &mut reset.eth) || !load(ctx, ETHERNET, &mut reset.ip) || !load(ctx, transport, &mut reset.tcp) {
        return false;
    }
    reset6(reset);
    store(ctx, &reset.out, Reset::LEN6 as u32)
}

#[inline(always)]
fn load<const N: usize>(ctx: &TcContext, offset: u32, bytes: &mut [u8; N]) -> bool {
    // SAFETY: the buffer is N bytes long; the context is valid as long as the program runs.
    0 == unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) }
}

/// Makes the packet the first `length` bytes of `bytes`, which are the length of one of the two
/// answers.
#[inline(always)]
fn store(ctx: &TcContext, bytes: &[u8; Reset::LEN6], length: u32) -> bool {
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
    // SAFETY: the buffer has at least `length` bytes; the context is valid as above.
    unsafe {
        bpf_skb_change_tail(ctx.skb.skb, length, 0) == 0
            && bpf_skb_store_bytes(ctx.skb.skb, 0, bytes.as_ptr().cast(), length, flags) == 0
    }
}
