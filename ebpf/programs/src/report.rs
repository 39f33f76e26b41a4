//! Counting, events and log lines. What is rare is reported, what is frequent only counted.

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, programs::TcContext};
use weir_ebpf_common::{Event, Reason, Tuple, admit};

use crate::maps;

/// Logs what happened to a flow, at level debug; both ends are written in the form of their family.
macro_rules! log_flow {
    ($ctx:expr, $program:expr, $tuple:expr, $what:expr) => {
        if $tuple.dst.is_v4() {
            aya_log_ebpf::debug!(
                $ctx,
                target: $program,
                "{} protocol {} {:i}:{} to {:i}:{}",
                $what,
                $tuple.protocol,
                u32::from_be($tuple.src.words[3]),
                u16::from_be($tuple.src_port),
                u32::from_be($tuple.dst.words[3]),
                u16::from_be($tuple.dst_port)
            );
        } else {
            aya_log_ebpf::debug!(
                $ctx,
                target: $program,
                "{} protocol {} [{:i}]:{} to [{:i}]:{}",
                $what,
                $tuple.protocol,
                $tuple.src.octets(),
                u16::from_be($tuple.src_port),
                $tuple.dst.octets(),
                u16::from_be($tuple.dst_port)
            );
        }
    };
}

/// A program that logs.
pub trait Program {
    /// Its name, as `bpftool prog` shows it.
    const NAME: &'static str;
}

/// `weir_from_pod`.
pub struct FromPod;
/// `weir_to_pod`.
pub struct ToPod;
/// `weir_from_net`.
pub struct FromNet;

impl Program for FromPod {
    const NAME: &'static str = "weir_from_pod";
}

impl Program for ToPod {
    const NAME: &'static str = "weir_to_pod";
}

impl Program for FromNet {
    const NAME: &'static str = "weir_from_net";
}

/// A packet that was lost, or is told of as if it were, and why.
pub struct Loss<'a> {
    /// Why.
    pub reason: Reason,
    /// Its flow.
    pub tuple: &'a Tuple,
    /// Link of the hook.
    pub ifindex: u32,
    /// What says so, where that is a policy.
    pub rule: u32,
    /// Bytes of the frame.
    pub bytes: u32,
    /// Events per second and processor.
    pub per_second: u32,
}

/// Counts a loss and, unless too many came before it, reports it, and logs it at level debug: the node, which knows the
/// pods' names, logs the report.
#[inline(always)]
pub fn lose<P: Program>(ctx: &TcContext, loss: &Loss<'_>) {
    if is_reported(loss) {
        match loss.reason {
            Reason::DroppedSpoofed => tell::<P, { Reason::DroppedSpoofed as u8 }>(ctx, loss.tuple),
            Reason::DeniedPolicy => tell::<P, { Reason::DeniedPolicy as u8 }>(ctx, loss.tuple),
            Reason::AuditedPolicy => tell::<P, { Reason::AuditedPolicy as u8 }>(ctx, loss.tuple),
            Reason::DroppedNoProxy => tell::<P, { Reason::DroppedNoProxy as u8 }>(ctx, loss.tuple),
            Reason::DroppedUnparsed => tell::<P, { Reason::DroppedUnparsed as u8 }>(ctx, loss.tuple),
            Reason::ResetOrphan => tell::<P, { Reason::ResetOrphan as u8 }>(ctx, loss.tuple),
            _ => tell::<P, { Reason::DroppedRewrite as u8 }>(ctx, loss.tuple),
        }
    }
}

// A function per program and reason, with a stack of its own; a name that is chosen at run time would need
// pointers in data, which the loader cannot relocate.
#[inline(never)]
fn tell<P: Program, const REASON: u8>(ctx: &TcContext, tuple: &Tuple) {
    log_flow!(ctx, P::NAME, tuple, Reason::ALL[REASON as usize].name());
}

/// Logs a flow that goes to the proxy, at level debug.
#[inline(never)]
pub fn steered<P: Program>(ctx: &TcContext, tuple: &Tuple) {
    log_flow!(ctx, P::NAME, tuple, Reason::Steered.name());
}

#[inline(never)]
fn is_reported(loss: &Loss<'_>) -> bool {
    maps::count(loss.reason, loss.bytes);
    if loss.rule != 0 {
        maps::count_rule(loss.rule, loss.bytes);
    }
    // SAFETY: the helper has no conditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(bucket) = maps::bucket(loss.reason) else { return false };
    let Some(suppressed) = admit(bucket, now, loss.per_second) else {
        maps::count(Reason::EventSuppressed, 0);
        return false;
    };
    let event = Event {
        src: loss.tuple.src,
        dst: loss.tuple.dst,
        time_ns: now,
        rule: loss.rule,
        ifindex: loss.ifindex,
        src_port: loss.tuple.src_port,
        dst_port: loss.tuple.dst_port,
        protocol: loss.tuple.protocol,
        reason: loss.reason as u8,
        zero: [0; 6],
        suppressed,
    };
    if maps::WEIR_EVENTS.output::<Event>(&event, 0).is_err() {
        maps::count(Reason::EventSuppressed, 0);
    }
    true
}
