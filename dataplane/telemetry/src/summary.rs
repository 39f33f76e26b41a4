//! The shards added up, for people (`weir status`) and for the export.

use std::sync::Arc;

use weir_core::stats::StatsKey;

use crate::call::CallStatus;
use crate::cause::Cause;
use crate::event::{MirrorEvent, RetryEvent};
use crate::histogram::Latencies;
use crate::shard::Shard;

/// What all workers together counted for a destination of a rule.
#[derive(Clone, Debug)]
pub struct RouteSummary {
    /// What it is about.
    pub key: StatsKey,
    /// Requests that ended.
    pub requests: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Requests by class of the status: the first had no response, then 1xx to 5xx.
    pub status: [u64; 6],
    /// Calls of gRPC by status (indexed by its number), the last those without one.
    pub calls: [u64; CallStatus::COUNT],
    /// Requests that the proxy answered itself or cut off, by cause (indexed by `Cause as usize`).
    pub causes: [u64; Cause::COUNT],
    /// What happened about trying requests again (indexed by `RetryEvent as usize`).
    pub retries: [u64; RetryEvent::COUNT],
    /// Bytes of requests' bodies.
    pub request_bytes: u64,
    /// Bytes of responses' bodies.
    pub response_bytes: u64,
    /// From the request's head to the response's end.
    pub latencies: Latencies,
}

impl RouteSummary {
    /// Requests that failed: answered with 5xx, or cut off; and calls of gRPC that the callee failed.
    pub fn errors(&self) -> u64 {
        // What was cut off is no call without a status as well.
        let calls: u64 = CallStatus::FAILURES.iter().map(|status| self.calls[*status]).sum();
        self.status[0] + self.status[5] + calls
    }

    /// Tries that failed, and were followed by another one that may have gone well: the endpoints' errors that clients
    /// did not see.
    pub fn failed_tries(&self) -> u64 {
        RetryEvent::ALL.iter().filter(|event| event.is_failed_try()).map(|event| self.retries[*event as usize]).sum()
    }
}

/// What all workers together counted for a mirror.
#[derive(Clone, Debug)]
pub struct MirrorSummary {
    /// What it is about.
    pub key: StatsKey,
    /// Copies under way.
    pub in_flight: u64,
    /// Copies that ended, by what became of them (indexed by `MirrorEvent as usize`).
    pub events: [u64; MirrorEvent::COUNT],
    /// Responses by class of the status: 1xx to 5xx from index 1.
    pub status: [u64; 6],
    /// Bytes of requests' bodies that were given to copies.
    pub bytes: u64,
}

impl MirrorSummary {
    /// How many copies ended this way.
    pub fn count(&self, event: MirrorEvent) -> u64 {
        self.events[event as usize]
    }
}

pub(crate) fn routes(shards: &[Arc<Shard>], keys: &[StatsKey]) -> Vec<RouteSummary> {
    let used = |(id, key): (usize, &StatsKey)| {
        let mut summary = RouteSummary {
            key: key.clone(),
            requests: 0,
            in_flight: 0,
            status: [0; 6],
            calls: [0; CallStatus::COUNT],
            causes: [0; Cause::COUNT],
            retries: [0; RetryEvent::COUNT],
            request_bytes: 0,
            response_bytes: 0,
            latencies: Latencies::default(),
        };
        let (mut started, mut left) = (0, 0);
        for block in shards.iter().filter_map(|shard| shard.existing_route(id)) {
            // What ended is read before what started, so that a request in between never makes the difference wrap.
            summary.requests += block.ended.value();
            left += block.left.value();
            started += block.started.value();
            add(&mut summary.status, &block.status);
            if let Some(calls) = block.calls.get() {
                add(&mut summary.calls, calls);
            }
            add(&mut summary.causes, &block.causes);
            if let Some(retries) = block.retries.get() {
                add(&mut summary.retries, retries);
            }
            summary.request_bytes += block.request_bytes.value();
            summary.response_bytes += block.response_bytes.value();
            summary.latencies.add(&block.duration);
        }
        summary.in_flight = u64::saturating_sub(started, summary.requests + left);
        (started > 0).then_some(summary)
    };
    keys.iter().enumerate().filter_map(used).collect()
}

pub(crate) fn mirrors(shards: &[Arc<Shard>], keys: &[StatsKey]) -> Vec<MirrorSummary> {
    let used = |(id, key): (usize, &StatsKey)| {
        let mut summary =
            MirrorSummary { key: key.clone(), in_flight: 0, events: [0; MirrorEvent::COUNT], status: [0; 6], bytes: 0 };
        let mut started = 0;
        for block in shards.iter().filter_map(|shard| shard.existing_mirror(id)) {
            add(&mut summary.events, &block.events);
            started += block.started.value();
            add(&mut summary.status, &block.status);
            summary.bytes += block.bytes.value();
        }
        summary.in_flight = u64::saturating_sub(started, summary.events.iter().sum());
        (started > 0).then_some(summary)
    };
    keys.iter().enumerate().filter_map(used).collect()
}

fn add<const N: usize>(sums: &mut [u64; N], counters: &[crate::cells::Counter; N]) {
    for (sum, counter) in sums.iter_mut().zip(counters) {
        *sum += counter.value();
    }
}
