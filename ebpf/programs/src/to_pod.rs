//! `weir_to_pod`: the guard of what reaches a pod. Judges only first packets: a flow that was
//! refused has no later ones.

use aya_ebpf::{helpers::generated::bpf_get_socket_cookie, macros::classifier, programs::TcContext};
use weir_ebpf_common::{Config, Kind, MARK_MASK, MARK_PROXY, Reason, Verdict};

use crate::{
    frame::Frame,
    maps,
    report::{self, Loss, ToPod},
    steer::{DROP, NEXT},
};

#[classifier]
pub fn weir_to_pod(ctx: TcContext) -> i32 {
    let Some(config) = maps::config() else { return NEXT };
    if config.flags & Config::POLICIES == 0 {
        // Nothing to guard: not even worth counting.
        return NEXT;
    }
    let frame = Frame(&ctx);
    let parsed = frame.parse(14);
    // What cannot be read was judged where it came from, and cannot begin a TCP flow here.
    if !matches!(parsed.kind, Kind::Syn | Kind::Datagram | Kind::Other) {
        return NEXT;
    }
    if frame.mark() & MARK_MASK == MARK_PROXY {
        return pass(&frame, Reason::PassedProxy);
    }
    // SAFETY: the context is valid as long as the program runs. Crossing a link between
    // namespaces takes the socket off a packet, so a cookie means a socket of the node itself.
    if unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) } != 0 {
        return pass(&frame, Reason::PassedLocalSocket);
    }
    let Some(pod) = maps::pod(frame.ifindex()) else {
        return pass(&frame, Reason::PassedUnknownPod);
    };
    let source = maps::identity(&parsed.tuple.src);
    if maps::policy(config, source, pod.identity, &parsed.tuple) != Verdict::Deny {
        return pass(&frame, Reason::PassedGuard);
    }
    report::lose::<ToPod>(
        &ctx,
        &Loss {
            reason: Reason::DeniedPolicy,
            tuple: &parsed.tuple,
            ifindex: frame.ifindex(),
            source,
            destination: pod.identity,
            bytes: frame.len(),
            per_second: config.events_per_second,
        },
    );
    DROP
}

#[inline(always)]
fn pass(frame: &Frame<'_>, reason: Reason) -> i32 {
    maps::count(reason, frame.len());
    NEXT
}
