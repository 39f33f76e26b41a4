//! What is remembered of flows, and whether they may go on.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use weir_ebpf_common::{
    Config, FlowRecord, FlowState, GUARD_NONE, Policy, Tuple, Verdict, is_answer_in_time, may_go_on,
};

use crate::maps;

/// What is known of a flow; the state is zero for nothing.
#[inline(always)]
pub fn find(tuple: &Tuple) -> FlowRecord {
    maps::flow(tuple).unwrap_or(FlowRecord { state: 0, stamp: 0 })
}

/// Notes where a flow goes under the policies that there are now.
#[inline(always)]
pub fn remember(config: &Config, tuple: &Tuple, state: FlowState) {
    maps::set_flow(tuple, FlowRecord { state: state as u32, stamp: config.generation });
}

/// Whether policies are others than when the flow was let through.
#[inline(always)]
pub fn is_stale(config: &Config, flow: &FlowRecord) -> bool {
    config.flags & Config::POLICIES != 0 && flow.stamp != config.generation
}

/// What policy says of a flow that has begun, and is known to go in this direction (`state`), or not known. Where it may go on, that
/// is noted. Of a flow that is not known nobody can tell which end has begun it: it goes on if either may have.
#[inline(never)]
pub fn judge_again(config: &Config, tuple: &Tuple, state: u32) -> Policy {
    let is_answer = state == FlowState::Answer as u32;
    if !is_answer {
        let policy = maps::policy(config, tuple);
        if may_go_on(&policy) {
            remember(config, tuple, FlowState::Direct);
        }
        if may_go_on(&policy) || state != 0 {
            return policy;
        }
    }
    let policy = maps::policy(config, &tuple.reversed());
    if may_go_on(&policy) {
        remember(config, tuple, FlowState::Answer);
    }
    policy
}

/// What policy says of the handshake that is answered by this. What is not denied is noted as its answer: an answer to nothing must
/// not be the beginning of a flow.
#[inline(never)]
pub fn judge_answer(config: &Config, tuple: &Tuple) -> Policy {
    let policy = maps::policy(config, &tuple.reversed());
    if policy.verdict != Verdict::Deny {
        remember(config, tuple, FlowState::Answer);
    }
    policy
}

/// Notes that a datagram was let through, so that its answer is, too: answers to what is guarded itself are nobody's who may reach it.
#[inline(never)]
pub fn expect_answer(config: &Config, tuple: &Tuple) {
    if config.flags & Config::POLICIES == 0 || maps::place(&tuple.src).guard == GUARD_NONE {
        return;
    }
    maps::set_flow(&tuple.reversed(), FlowRecord { state: FlowState::Answer as u32, stamp: now() });
}

/// Whether a datagram is the answer to one that was let through.
#[inline(never)]
pub fn is_answer(tuple: &Tuple) -> bool {
    let flow = find(tuple);
    flow.state == FlowState::Answer as u32 && is_answer_in_time(now(), flow.stamp)
}

/// Seconds since boot.
#[inline(always)]
fn now() -> u32 {
    // SAFETY: the helper has no conditions.
    (unsafe { bpf_ktime_get_ns() } / 1_000_000_000) as u32
}
