//! The counters of one worker: blocks of cells, found by number, that are made when first needed and never move.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use weir_core::stats::{StatsId, StatsTable};

use crate::call::CallStatus;
use crate::cause::Cause;
use crate::cells::{Counter, Counters};
use crate::event::{MirrorEvent, RetryEvent, WorkerEvent};
use crate::histogram::Histogram;
use crate::source::{SourceCounters, SourceId, SourceTable};

/// Blocks made at once. Small, because most nodes know few routes and a block is about 1 KiB.
const CHUNK: usize = 16;

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct RequestEnd {
    /// Status of the response, `None` when the client got none.
    pub status: Option<u16>,
    /// How a call of gRPC ended; `None` for everything else.
    pub call: Option<CallStatus>,
    /// Why the proxy answered itself or cut off, `None` when an endpoint's response came through whole.
    pub cause: Option<Cause>,
    /// From the request's head to the response's end.
    pub duration: Duration,
    /// Bytes of the request's body that were passed on.
    pub request_bytes: u64,
    /// Bytes of the response's body that were passed on.
    pub response_bytes: u64,
}

/// What a worker counts for requests of one source to a destination of a rule.
#[derive(Debug, Default)]
pub struct RouteCounters {
    pub(crate) started: Counter,
    pub(crate) ended: Counter,
    /// Requests that went on to another destination.
    pub(crate) left: Counter,
    /// Responses with status 1xx to 5xx; the first is for requests without a response.
    pub(crate) status: [Counter; 6],
    /// Made with the first call of gRPC: most routes have none.
    pub(crate) calls: OnceLock<Box<[Counter; CallStatus::COUNT]>>,
    pub(crate) causes: Counters<{ Cause::COUNT }>,
    /// Made with the first of them: most routes have no retries.
    pub(crate) retries: OnceLock<Box<[Counter; RetryEvent::COUNT]>>,
    pub(crate) request_bytes: Counter,
    pub(crate) response_bytes: Counter,
    pub(crate) duration: Histogram,
}

impl RouteCounters {
    /// A request was given to the destination.
    pub fn on_start(&self) {
        self.started.add(1);
    }

    /// It goes on to another destination, and ends there.
    pub fn on_leave(&self) {
        self.left.add(1);
    }

    /// Something happened about trying it again.
    pub fn on_retry(&self, event: RetryEvent) {
        self.retries.get_or_init(Box::default)[event as usize].add(1);
    }

    /// It ended. To be called once for each [`RouteCounters::on_start`] without [`RouteCounters::on_leave`].
    pub fn on_end(&self, end: &RequestEnd) {
        self.ended.add(1);
        self.status[class(end.status)].add(1);
        if let Some(call) = end.call {
            self.calls.get_or_init(Box::default)[call.index()].add(1);
        }
        if let Some(cause) = end.cause {
            self.causes[cause as usize].add(1);
        }
        self.request_bytes.add(end.request_bytes);
        self.response_bytes.add(end.response_bytes);
        self.duration.record(u64::try_from(end.duration.as_micros()).unwrap_or(u64::MAX));
    }
}

/// What a worker counts for a mirror.
#[derive(Debug, Default)]
pub struct MirrorCounters {
    pub(crate) started: Counter,
    pub(crate) events: [Counter; MirrorEvent::COUNT],
    pub(crate) status: [Counter; 6],
    pub(crate) bytes: Counter,
}

impl MirrorCounters {
    /// A request is to be copied.
    pub fn on_start(&self) {
        self.started.add(1);
    }

    /// What became of the copy. To be called once for each [`MirrorCounters::on_start`].
    pub fn on_end(&self, event: MirrorEvent) {
        self.events[event as usize].add(1);
    }

    /// The copy was answered with this status.
    pub fn on_status(&self, status: u16) {
        self.status[class(Some(status))].add(1);
    }

    /// Bytes of a request's body were given to the copy.
    pub fn on_bytes(&self, bytes: u64) {
        self.bytes.add(bytes);
    }
}

fn class(status: Option<u16>) -> usize {
    status.map(|status| usize::from(status / 100)).filter(|class| (1..6).contains(class)).unwrap_or(0)
}

/// An array that grows in chunks without moving what it has, up to a capacity.
struct Blocks<T, const CAPACITY: usize>(Box<[OnceLock<Box<[T]>>]>);

impl<T: Default, const CAPACITY: usize> Default for Blocks<T, CAPACITY> {
    fn default() -> Self {
        Self((0..CAPACITY.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect())
    }
}

impl<T: Default, const CAPACITY: usize> Blocks<T, CAPACITY> {
    /// The block of a number; beyond the capacity that of everything that is too many.
    fn at(&self, id: usize) -> &T {
        let id = if id < CAPACITY { id } else { 0 };
        let chunk = self.0[id / CHUNK].get_or_init(|| (0..CHUNK).map(|_| T::default()).collect());
        &chunk[id % CHUNK]
    }

    fn existing(&self, id: usize) -> Option<&T> {
        self.0.get(id / CHUNK)?.get().map(|chunk| &chunk[id % CHUNK])
    }
}

/// Number of the counters of requests of one source to a destination of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowId(pub(crate) u32);

/// What requests of one source to a destination of a rule are counted in.
#[derive(Default)]
pub(crate) struct Row {
    /// Set before anything is counted.
    key: OnceLock<(StatsId, SourceId)>,
    pub(crate) counters: RouteCounters,
}

impl Row {
    /// What it is about, if it is about anything yet.
    pub(crate) fn key(&self) -> Option<(StatsId, SourceId)> {
        self.key.get().copied()
    }
}

/// How many rows there are at most; at about 1 KiB each this bounds memory to 16 MiB.
const ROWS: usize = StatsTable::CAPACITY;
/// From so many on, sources are no longer told apart, so that destinations still are.
const ROWS_BY_SOURCE: usize = ROWS / 4;

/// Which row is about what. Locked by nobody but the worker.
type RowIndex = Mutex<HashMap<(StatsId, SourceId), RowId, foldhash::fast::RandomState>>;

/// The counters of one worker. Only that worker adds to them.
pub struct Shard {
    rows: Blocks<Row, ROWS>,
    index: RowIndex,
    source_table: Arc<SourceTable>,
    sources: Blocks<SourceCounters, { SourceTable::CAPACITY }>,
    mirrors: Blocks<MirrorCounters, { StatsTable::CAPACITY }>,
    events: [Counter; WorkerEvent::COUNT],
    /// Causes of requests that never came to a route.
    causes: Counters<{ Cause::COUNT }>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Shard {
    pub(crate) fn new(source_table: &Arc<SourceTable>) -> Self {
        let shard = Self {
            rows: Blocks::default(),
            index: Mutex::default(),
            source_table: Arc::clone(source_table),
            sources: Blocks::default(),
            mirrors: Blocks::default(),
            events: std::array::from_fn(|_| Counter::default()),
            causes: Default::default(),
        };
        // The first is that of everything that is too many.
        shard.row(StatsId(0), SourceId::OVERFLOW);
        shard
    }

    /// The number of an app, the same in all workers.
    pub fn source_id(&self, namespace: &Arc<str>, name: &Arc<str>) -> SourceId {
        self.source_table.id(namespace, name)
    }

    /// Where requests of a source to a destination of a rule are counted.
    pub fn row(&self, route: StatsId, source: SourceId) -> RowId {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = index.get(&(route, source)) {
            return *row;
        }
        let key = if index.len() < ROWS_BY_SOURCE { (route, source) } else { (route, SourceId::OVERFLOW) };
        if let Some(row) = index.get(&key) {
            return *row;
        }
        if index.len() >= ROWS {
            return RowId(0);
        }
        let row = RowId(index.len() as u32);
        let _ = self.rows.at(row.0 as usize).key.set(key);
        index.insert(key, row);
        row
    }

    /// The counters of a row.
    pub fn route(&self, row: RowId) -> &RouteCounters {
        &self.rows.at(row.0 as usize).counters
    }

    /// The counters of a source.
    pub fn source(&self, id: SourceId) -> &SourceCounters {
        self.sources.at(id.index())
    }

    /// The counters of a mirror.
    pub fn mirror(&self, id: StatsId) -> &MirrorCounters {
        self.mirrors.at(id.0 as usize)
    }

    /// Something happened to a connection.
    pub fn on(&self, event: WorkerEvent) {
        self.events[event as usize].add(1);
    }

    /// A request that never came to a route was answered or cut off.
    pub fn on_unrouted(&self, cause: Cause) {
        self.causes[cause as usize].add(1);
    }

    /// All rows that are about something.
    pub(crate) fn rows(&self) -> impl Iterator<Item = ((StatsId, SourceId), &RouteCounters)> {
        let rows = (0..ROWS).map_while(|row| self.rows.existing(row));
        rows.map_while(|row| Some((row.key()?, &row.counters)))
    }

    pub(crate) fn existing_source(&self, id: usize) -> Option<&SourceCounters> {
        self.sources.existing(id)
    }

    pub(crate) fn existing_mirror(&self, id: usize) -> Option<&MirrorCounters> {
        self.mirrors.existing(id)
    }

    pub(crate) fn count(&self, event: WorkerEvent) -> u64 {
        self.events[event as usize].value()
    }

    pub(crate) fn unrouted(&self, cause: Cause) -> u64 {
        self.causes[cause as usize].value()
    }

    pub(crate) fn count_cause(&self, cause: Cause) -> u64 {
        let routed = self.rows().map(|(_, row)| row.causes[cause as usize].value());
        self.unrouted(cause) + routed.sum::<u64>()
    }
}
