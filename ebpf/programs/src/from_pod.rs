//! `weir_from_pod`: what a pod sends.

use aya_ebpf::{macros::classifier, programs::TcContext};
use weir_ebpf_common::{
    Addr, AddressKind, Config, FirstPacket, FlowState, Kind, Parsed, Path, PodRecord, Reason, ServiceKey, Tuple,
    Verdict, decide_first, is_own_neighbour, is_own_on_link, is_own_source, may_go_on,
};

use crate::{
    flows,
    frame::Frame,
    maps,
    report::{self, FromPod, Loss},
    reset, socket,
    steer::{self, DROP, NEXT},
};

/// Links of pods are Ethernet.
const ETHERNET: u32 = 14;

#[classifier]
pub fn weir_from_pod(ctx: TcContext) -> i32 {
    let Some(config) = maps::config() else { return NEXT };
    let frame = Frame(&ctx);
    let Some(pod) = maps::pod(frame.ifindex()) else {
        maps::count(Reason::PassedUnknownPod, frame.len());
        return NEXT;
    };
    let parsed = frame.parse(ETHERNET);
    Sender { frame, config, pod }.judge(&parsed)
}

struct Sender<'a> {
    frame: Frame<'a>,
    config: &'static Config,
    pod: &'static PodRecord,
}

impl Sender<'_> {
    #[inline(always)]
    fn judge(&self, parsed: &Parsed) -> i32 {
        let is_own = match parsed.kind {
            Kind::Unparsed => return self.lose(Reason::DroppedUnparsed, &parsed.tuple, 0),
            Kind::Foreign => true,
            Kind::Arp => is_own_neighbour(self.pod, &parsed.tuple.src),
            Kind::Neighbour => self.is_own_on_link(&parsed.tuple.src),
            Kind::Advertisement => self.is_own_on_link(&parsed.tuple.src) && self.is_own_on_link(&parsed.tuple.dst),
            Kind::Routing => false,
            _ => is_own_source(self.pod, &parsed.tuple.src, &parsed.tuple.dst),
        };
        if !is_own {
            return self.lose(Reason::DroppedSpoofed, &parsed.tuple, 0);
        }
        match parsed.kind {
            Kind::Established => self.judge_later(parsed, true),
            Kind::SynAck => self.judge_answer(parsed),
            Kind::Reset => self.judge_later(parsed, false),
            Kind::Syn | Kind::Datagram | Kind::Other => self.judge_first(parsed),
            Kind::Fragment => self.pass(Reason::PassedFragment),
            Kind::Error => self.pass(Reason::PassedEstablished),
            _ => self.pass(Reason::PassedNeighbour),
        }
    }

    #[inline(always)]
    fn is_own_on_link(&self, address: &Addr) -> bool {
        is_own_on_link(self.pod, address) && !maps::is_node(address)
    }

    #[inline(always)]
    fn judge_first(&self, parsed: &Parsed) -> i32 {
        let tuple = &parsed.tuple;
        let is_tcp = parsed.kind == Kind::Syn;
        let policy = maps::policy(self.config, tuple);
        let first = FirstPacket {
            destination: if maps::is_node(&tuple.dst) { AddressKind::Node } else { AddressKind::Other },
            service: if is_tcp { maps::service(&service_key(tuple)) } else { None },
            policy: policy.verdict,
            is_steerable: is_tcp,
        };
        let decision = decide_first(
            &first,
            || socket::has_listener(socket::slot(tuple.dst.is_v4())),
            self.pod.flags & PodRecord::FAIL_OPEN != 0,
        );
        match decision.path {
            Path::Drop if !is_tcp && flows::is_answer(tuple) => {
                steer::vouch(&self.frame);
                self.pass(Reason::PassedEstablished)
            }
            Path::Drop => self.lose(decision.reason, tuple, policy.rule),
            Path::Proxy => {
                flows::remember(self.config, tuple, FlowState::Steered);
                report::steered::<FromPod>(self.frame.0, tuple);
                steer::from_bridge_port(&self.frame, self.config, parsed, decision.reason)
            }
            Path::Direct => {
                steer::vouch(&self.frame);
                if is_tcp {
                    flows::remember(self.config, tuple, FlowState::Direct);
                } else {
                    flows::expect_answer(self.config, tuple);
                }
                self.pass(decision.reason)
            }
        }
    }

    /// The answer to a handshake decides anew: the same addresses and ports may have belonged to
    /// a direct flow before, and to a connection of the proxy now.
    #[inline(always)]
    fn judge_answer(&self, parsed: &Parsed) -> i32 {
        if maps::is_node(&parsed.tuple.dst) {
            flows::remember(self.config, &parsed.tuple, FlowState::Answer);
            return self.pass(Reason::PassedNode);
        }
        if socket::owns(self.frame.0, &parsed.tuple) {
            flows::remember(self.config, &parsed.tuple, FlowState::Steered);
            return self.steer_later(parsed);
        }
        let policy = flows::judge_answer(self.config, &parsed.tuple);
        if policy.verdict == Verdict::Deny {
            return self.lose(Reason::DeniedPolicy, &parsed.tuple, policy.rule);
        }
        self.pass(Reason::PassedEstablished)
    }

    #[inline(always)]
    fn judge_later(&self, parsed: &Parsed, may_answer: bool) -> i32 {
        let known = flows::find(&parsed.tuple);
        let is_steered = known.state == FlowState::Steered as u32;
        if known.state != 0 && !is_steered && !flows::is_stale(self.config, &known) {
            return self.pass(Reason::PassedEstablished);
        }
        if !is_steered && maps::is_node(&parsed.tuple.dst) {
            return self.pass(Reason::PassedNode);
        }
        if (is_steered || known.state == 0) && socket::owns(self.frame.0, &parsed.tuple) {
            if !is_steered {
                flows::remember(self.config, &parsed.tuple, FlowState::Steered);
            }
            return self.steer_later(parsed);
        }
        if is_steered && may_answer {
            return reset::answer(&self.frame, self.config, parsed, Reason::ResetOrphan, 0);
        }
        if is_steered {
            return self.pass(Reason::PassedEstablished);
        }
        // Policies are others now, or it began before the mesh did, or was forgotten: it stays what it is, if it may.
        let policy = flows::judge_again(self.config, &parsed.tuple, known.state);
        if may_go_on(&policy) {
            self.pass(Reason::PassedEstablished)
        } else if may_answer {
            reset::answer(&self.frame, self.config, parsed, Reason::DeniedPolicy, policy.rule)
        } else {
            self.lose(Reason::DeniedPolicy, &parsed.tuple, policy.rule)
        }
    }

    #[inline(always)]
    fn steer_later(&self, parsed: &Parsed) -> i32 {
        steer::from_bridge_port(&self.frame, self.config, parsed, Reason::SteeredEstablished)
    }

    #[inline(always)]
    fn pass(&self, reason: Reason) -> i32 {
        maps::count(reason, self.frame.len());
        NEXT
    }

    #[inline(always)]
    fn lose(&self, reason: Reason, tuple: &Tuple, rule: u32) -> i32 {
        report::lose::<FromPod>(
            self.frame.0,
            &Loss {
                reason,
                tuple,
                ifindex: self.frame.ifindex(),
                rule,
                bytes: self.frame.len(),
                per_second: self.config.events_per_second,
            },
        );
        DROP
    }
}

/// The service at a flow's destination.
#[inline(always)]
pub fn service_key(tuple: &Tuple) -> ServiceKey {
    ServiceKey { address: tuple.dst, port: tuple.dst_port, protocol: tuple.protocol, zero: 0 }
}
