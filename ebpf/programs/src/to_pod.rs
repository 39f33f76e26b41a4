//! `weir_to_pod`: the guard of what reaches a pod. Judges only first packets: a flow that was
//! refused has no later ones.

use aya_ebpf::{helpers::generated::bpf_get_socket_cookie, macros::classifier, programs::TcContext};
use weir_ebpf_common::{Config, Kind, MARK_MASK, MARK_POD, MARK_PROXY, PodRecord, Reason, Verdict};

use crate::{
    flows,
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
    let tuple = &parsed.tuple;
    let policy = maps::guarded(pod.guard, tuple);
    let is_tcp = parsed.kind == Kind::Syn;
    // What was not judged at the link of another pod of this node has come from elsewhere, and its address proves nothing.
    let is_from_pod = frame.mark() & MARK_MASK == MARK_POD;
    let clear = if is_from_pod || pod.mtls == 0 { Verdict::Direct } else { maps::in_the_clear(pod.mtls, tuple) };
    let reason = match policy.verdict {
        Verdict::Direct | Verdict::Audit if clear == Verdict::Deny => Reason::DroppedPlaintext,
        Verdict::Direct => Reason::PassedGuard,
        Verdict::Audit => Reason::AuditedPolicy,
        Verdict::Deny => Reason::DeniedPolicy,
        // It should have come by the proxy.
        Verdict::Proxy if pod.flags & PodRecord::FAIL_OPEN != 0 => Reason::PassedNoProxy,
        Verdict::Proxy => Reason::DroppedNoProxy,
    };
    if reason.is_loss() && !is_tcp && flows::is_answer(tuple) {
        return pass(&frame, Reason::PassedEstablished);
    }
    if !reason.is_loss() && !is_tcp {
        // Addresses may have been translated on the way here, so that the answer is known by those it has here only.
        flows::expect_answer(config, tuple);
    }
    let tell = |reason| {
        report::lose::<ToPod>(
            &ctx,
            &Loss {
                reason,
                tuple,
                ifindex: frame.ifindex(),
                rule: policy.rule,
                bytes: frame.len(),
                per_second: config.events_per_second,
            },
        );
    };
    if reason.is_loss() {
        tell(reason);
        return DROP;
    }
    if clear == Verdict::Audit {
        tell(Reason::PassedPlaintext);
    }
    if reason == Reason::AuditedPolicy {
        tell(reason);
    } else if clear != Verdict::Audit {
        return pass(&frame, reason);
    }
    NEXT
}

#[inline(always)]
fn pass(frame: &Frame<'_>, reason: Reason) -> i32 {
    maps::count(reason, frame.len());
    NEXT
}
