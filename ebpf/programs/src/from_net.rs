//! `weir_from_net`: what comes in over the node's uplinks.
//!
//! The node's own traffic passes at once. The rest is on its way to a pod: replies to connections
//! that the proxy made in a client's name, and flows from elsewhere.

use aya_ebpf::{macros::classifier, programs::TcContext};
use weir_ebpf_common::{
    AddressKind, Config, FirstPacket, FlowState, Kind, Parsed, Path, Policy, Reason, Tuple, Verdict, decide_first,
    may_go_on,
};

use crate::{
    flows,
    frame::Frame,
    from_pod::service_key,
    maps,
    report::{self, FromNet, Loss},
    socket,
    steer::{self, DROP, NEXT},
};

#[classifier]
pub fn weir_from_net(ctx: TcContext) -> i32 {
    let Some(config) = maps::config() else { return NEXT };
    let frame = Frame(&ctx);
    let Some(header) = maps::steer_interface(frame.ifindex()) else { return NEXT };
    let parsed = frame.parse(header);
    if maps::is_node(&parsed.tuple.dst) {
        return NEXT;
    }
    match parsed.kind {
        Kind::Syn => judge_first(&frame, config, &parsed),
        Kind::SynAck => judge_answer(&frame, config, &parsed),
        Kind::Established | Kind::Reset => judge_later(&frame, config, &parsed),
        // To a pod: judged at its link.
        _ => NEXT,
    }
}

#[inline(always)]
fn judge_first(frame: &Frame<'_>, config: &Config, parsed: &Parsed) -> i32 {
    let tuple = &parsed.tuple;
    let mut policy = maps::policy(config, tuple);
    if maps::is_tunnel(config, tuple) {
        // Who may use it is told by its certificate.
        policy = Policy { verdict: Verdict::Proxy, rule: 0 };
    }
    let first = FirstPacket {
        destination: AddressKind::Other,
        service: maps::service(&service_key(tuple)),
        policy: policy.verdict,
        is_steerable: true,
    };
    let is_open = config.flags & Config::FAIL_OPEN != 0;
    let slot = socket::slot(tuple.dst.is_v4());
    let decision = decide_first(&first, || socket::has_listener(slot), is_open);
    match decision.path {
        Path::Proxy => {
            flows::remember(config, tuple, FlowState::Steered);
            report::steered::<FromNet>(frame.0, tuple);
            steer::mark(frame, decision.reason)
        }
        Path::Direct => {
            flows::remember(config, tuple, FlowState::Direct);
            maps::count(decision.reason, frame.len());
            NEXT
        }
        Path::Drop => lose(frame, config, tuple, decision.reason, policy.rule),
    }
}

#[inline(always)]
fn judge_answer(frame: &Frame<'_>, config: &Config, parsed: &Parsed) -> i32 {
    if socket::owns(frame.0, &parsed.tuple) {
        flows::remember(config, &parsed.tuple, FlowState::Steered);
        return steer::mark(frame, Reason::SteeredEstablished);
    }
    let policy = flows::judge_answer(config, &parsed.tuple);
    if policy.verdict == Verdict::Deny {
        return lose(frame, config, &parsed.tuple, Reason::DeniedPolicy, policy.rule);
    }
    NEXT
}

#[inline(always)]
fn judge_later(frame: &Frame<'_>, config: &Config, parsed: &Parsed) -> i32 {
    let known = flows::find(&parsed.tuple);
    let is_steered = known.state == FlowState::Steered as u32;
    if known.state != 0 && !is_steered && !flows::is_stale(config, &known) {
        return NEXT;
    }
    if (is_steered || known.state == 0) && socket::owns(frame.0, &parsed.tuple) {
        if !is_steered {
            flows::remember(config, &parsed.tuple, FlowState::Steered);
        }
        return steer::mark(frame, Reason::SteeredEstablished);
    }
    let policy = flows::judge_again(config, &parsed.tuple, if is_steered { 0 } else { known.state });
    if may_go_on(&policy) {
        return NEXT;
    }
    // The pod's own end is reset when it sends; the other learns by its time-out.
    lose(frame, config, &parsed.tuple, Reason::DeniedPolicy, policy.rule)
}

#[inline(always)]
fn lose(frame: &Frame<'_>, config: &Config, tuple: &Tuple, reason: Reason, rule: u32) -> i32 {
    report::lose::<FromNet>(
        frame.0,
        &Loss {
            reason,
            tuple,
            ifindex: frame.ifindex(),
            rule,
            bytes: frame.len(),
            per_second: config.events_per_second,
        },
    );
    DROP
}
