//! The shards added up, for people (`weir status`) and for the export.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_core::stats::{StatsId, StatsKey};

use crate::call::CallStatus;
use crate::cause::Cause;
use crate::event::{MirrorEvent, RetryEvent};
use crate::histogram::Latencies;
use crate::shard::{RouteCounters, Shard};
use crate::source::{Refused, Source, SourceId};

/// What all workers together counted for a destination of a rule, or for requests of one source to it.
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
    fn new(key: &StatsKey) -> Self {
        Self {
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
        }
    }

    /// Adds what one worker counted.
    fn add(&mut self, counters: &RouteCounters) {
        // What ended is read before what started, so that a request in between never makes the difference wrap.
        let over = counters.ended.value() + counters.left.value();
        self.requests += counters.ended.value();
        self.in_flight += counters.started.value().saturating_sub(over);
        add(&mut self.status, &counters.status);
        if let Some(calls) = counters.calls.get() {
            add(&mut self.calls, calls);
        }
        add(&mut self.causes, &counters.causes);
        if let Some(retries) = counters.retries.get() {
            add(&mut self.retries, retries);
        }
        self.request_bytes += counters.request_bytes.value();
        self.response_bytes += counters.response_bytes.value();
        self.latencies.add(&counters.duration);
    }

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

/// What all workers together counted for a workload that asks.
#[derive(Clone, Debug)]
pub struct WorkloadSummary {
    /// Who it is.
    pub source: Source,
    /// Connections that were accepted.
    pub opened: u64,
    /// Those of them that are open.
    pub connections: u64,
    /// What it did not get (indexed by `Refused as usize`).
    pub refused: [u64; Refused::COUNT],
    /// Processor time of the workers that its requests took: an estimate.
    pub processor: Duration,
    /// Bytes from it and to it that were passed on unchanged.
    pub relayed: [u64; 2],
    /// Requests that ended.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Bytes of its requests' bodies.
    pub request_bytes: u64,
    /// Bytes of the bodies of the responses to it.
    pub response_bytes: u64,
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

/// The destinations of rules that were used.
pub(crate) fn routes(shards: &[Arc<Shard>], keys: &[StatsKey]) -> Vec<RouteSummary> {
    rows(shards, keys, |(route, _)| route).into_values().collect()
}

/// The same, by who asked.
pub(crate) fn by_source(shards: &[Arc<Shard>], keys: &[StatsKey]) -> BTreeMap<(StatsId, SourceId), RouteSummary> {
    rows(shards, keys, |key| key)
}

fn rows<K: Ord>(
    shards: &[Arc<Shard>],
    keys: &[StatsKey],
    group: impl Fn((StatsId, SourceId)) -> K,
) -> BTreeMap<K, RouteSummary> {
    let mut summaries: BTreeMap<K, RouteSummary> = BTreeMap::new();
    let used = shards.iter().flat_map(|shard| shard.rows()).filter(|(_, counters)| counters.started.value() > 0);
    for (of, counters) in used {
        // What a shard knows before the keys were read is there; what came since is for the next time.
        let Some(key) = keys.get(of.0.0 as usize) else { continue };
        summaries.entry(group(of)).or_insert_with(|| RouteSummary::new(key)).add(counters);
    }
    summaries
}

/// The workloads that have asked.
pub(crate) fn workloads(shards: &[Arc<Shard>], keys: &[StatsKey], sources: Vec<Source>) -> Vec<WorkloadSummary> {
    let mut requests = rows(shards, keys, |(_, source)| source);
    let of = |(id, source): (usize, Source)| {
        let mut summary = WorkloadSummary {
            source,
            opened: 0,
            connections: 0,
            refused: [0; Refused::COUNT],
            processor: Duration::ZERO,
            relayed: [0; 2],
            requests: 0,
            errors: 0,
            request_bytes: 0,
            response_bytes: 0,
        };
        for counters in shards.iter().filter_map(|shard| shard.existing_source(id)) {
            let closed = counters.closed.value();
            let opened = counters.opened.value();
            summary.opened += opened;
            summary.connections += opened.saturating_sub(closed);
            add(&mut summary.refused, &counters.refused);
            summary.processor += Duration::from_nanos(counters.processor.value());
            add(&mut summary.relayed, &counters.relayed);
        }
        if let Some(rows) = requests.remove(&SourceId::at(id)) {
            (summary.requests, summary.errors) = (rows.requests, rows.errors());
            (summary.request_bytes, summary.response_bytes) = (rows.request_bytes, rows.response_bytes);
        }
        (summary.opened + summary.requests + summary.refused.iter().sum::<u64>() > 0).then_some(summary)
    };
    sources.into_iter().enumerate().filter_map(of).collect()
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
