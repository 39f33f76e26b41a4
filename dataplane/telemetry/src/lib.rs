//! The closed set of events and counters; logs and metrics are derived from them.
//!
//! A worker counts in a [`Shard`] of its own, with plain stores and without waiting for anyone; whoever wants to know
//! adds the shards up. Nothing here decides anything, and nothing here is ever in the way of a request.

pub mod access;
mod call;
mod cause;
mod cells;
mod event;
mod export;
mod histogram;
mod shard;
mod source;
mod summary;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::registry::Registry;
use weir_core::stats::StatsKey;

use crate::source::SourceTable;

pub use call::CallStatus;
pub use cause::Cause;
pub use cells::Counter;
pub use event::{MirrorEvent, RetryEvent, WorkerEvent};
pub use histogram::{Histogram, Latencies};
pub use shard::{MirrorCounters, RequestEnd, RouteCounters, RowId, Shard};
pub use source::{Refused, Source, SourceCounters, SourceId};
pub use summary::{MirrorSummary, RouteSummary, WorkloadSummary};

/// All counters of the process.
pub struct Telemetry {
    shards: Arc<Mutex<Vec<Arc<Shard>>>>,
    sources: Arc<SourceTable>,
    export: Mutex<Export>,
}

struct Export {
    registry: Registry,
    keys: Arc<Mutex<Vec<StatsKey>>>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("workers", &self.shards().len()).finish_non_exhaustive()
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        let shards = Arc::new(Mutex::new(Vec::new()));
        let keys = Arc::new(Mutex::new(Vec::new()));
        let sources = Arc::new(SourceTable::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(export::Workers {
            shards: Arc::clone(&shards),
            sources: Arc::clone(&sources),
            keys: Arc::clone(&keys),
        }));
        Self { shards, sources, export: Mutex::new(Export { registry, keys }) }
    }
}

impl Telemetry {
    /// Counters of a new worker. They stay in the sums when the worker has ended.
    pub fn register_worker(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::new(&self.sources));
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&shard));
        shard
    }

    /// Adds metrics of another part of the process to what [`Telemetry::encode`] gives out.
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.export.lock().unwrap_or_else(PoisonError::into_inner).registry.register_collector(collector);
    }

    /// Everything in the OpenMetrics text format. `keys` names what the numbers stand for: the position of a key is
    /// its [`StatsId`](weir_core::stats::StatsId).
    ///
    /// # Errors
    /// Only when a registered collector fails; the workers' own counters never do.
    pub fn encode(&self, keys: &[StatsKey]) -> Result<String, fmt::Error> {
        let export = self.export.lock().unwrap_or_else(PoisonError::into_inner);
        *export.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys.to_vec();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &export.registry)?;
        Ok(text)
    }

    /// Requests, errors and latencies of every route that was used.
    pub fn routes(&self, keys: &[StatsKey]) -> Vec<RouteSummary> {
        summary::routes(&self.shards(), keys)
    }

    /// What every workload that has asked has used.
    pub fn workloads(&self, keys: &[StatsKey]) -> Vec<WorkloadSummary> {
        summary::workloads(&self.shards(), keys, self.sources.sources())
    }

    /// What became of the copies of every mirror that was used.
    pub fn mirrors(&self, keys: &[StatsKey]) -> Vec<MirrorSummary> {
        summary::mirrors(&self.shards(), keys)
    }

    /// How often something happened, in all workers together.
    pub fn count(&self, event: WorkerEvent) -> u64 {
        self.shards().iter().map(|shard| shard.count(event)).sum()
    }

    /// How many local replies or aborts had this cause, in all workers together, whether a route was known or not.
    pub fn count_cause(&self, cause: Cause) -> u64 {
        self.shards().iter().map(|shard| shard.count_cause(cause)).sum()
    }

    fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;
