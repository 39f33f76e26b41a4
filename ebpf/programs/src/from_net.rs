//! `weir_from_net`: what comes in over the node's uplinks.
//!
//! The node's own traffic passes at once. The rest is on its way to a pod: replies to connections
//! that the proxy made in a client's name, and flows from elsewhere.

use aya_ebpf::{macros::classifier, programs::TcContext};
use weir_ebpf_common::{AddressKind, Config, FirstPacket, FlowState, Kind, Parsed, Path, Reason, decide_first};

use crate::{
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
        Kind::SynAck => judge_later(&frame, &parsed, 0),
        Kind::Established | Kind::Reset => judge_later(&frame, &parsed, maps::flow(&parsed.tuple)),
        // To a pod: judged at its link.
        _ => NEXT,
    }
}

#[inline(always)]
fn judge_first(frame: &Frame<'_>, config: &Config, parsed: &Parsed) -> i32 {
    let tuple = &parsed.tuple;
    let (source, destination) = if config.flags & Config::POLICIES != 0 {
        (maps::identity(&tuple.src), maps::identity(&tuple.dst))
    } else {
        (0, 0)
    };
    let first = FirstPacket {
        destination: AddressKind::Other,
        service: maps::service(&service_key(tuple)),
        policy: maps::policy(config, source, destination, tuple),
        is_steerable: true,
    };
    let is_open = config.flags & Config::FAIL_OPEN != 0;
    let slot = socket::slot(tuple.dst.is_v4());
    let decision = decide_first(&first, || socket::has_listener(slot), is_open);
    match decision.path {
        Path::Proxy => {
            maps::remember(tuple, FlowState::Steered);
            report::steered::<FromNet>(frame.0, tuple);
            steer::mark(frame, decision.reason)
        }
        Path::Direct => {
            maps::remember(tuple, FlowState::Direct);
            maps::count(decision.reason, frame.len());
            NEXT
        }
        Path::Drop => {
            report::lose::<FromNet>(
                frame.0,
                &Loss {
                    reason: decision.reason,
                    tuple,
                    ifindex: frame.ifindex(),
                    source,
                    destination,
                    bytes: frame.len(),
                    per_second: config.events_per_second,
                },
            );
            DROP
        }
    }
}

#[inline(always)]
fn judge_later(frame: &Frame<'_>, parsed: &Parsed, known: u32) -> i32 {
    if known == FlowState::Direct as u32 {
        return NEXT;
    }
    if socket::owns(frame.0, &parsed.tuple) {
        if known == 0 {
            maps::remember(&parsed.tuple, FlowState::Steered);
        }
        return steer::mark(frame, Reason::SteeredEstablished);
    }
    maps::remember(&parsed.tuple, FlowState::Direct);
    NEXT
}
