//! The counters of one worker: blocks of cells, found by number, that are made when first needed and never move.

use std::sync::OnceLock;
use std::time::Duration;

use weir_core::stats::{StatsId, StatsTable};

use crate::call::CallStatus;
use crate::cause::Cause;
use crate::cells::Counter;
use crate::event::{MirrorEvent, RetryEvent, WorkerEvent};
use crate::histogram::Histogram;

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

/// What a worker counts for a destination of a rule.
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
    pub(crate) causes: [Counter; Cause::COUNT],
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

/// An array that grows in chunks without moving what it has.
struct Blocks<T>(Box<[OnceLock<Box<[T]>>]>);

impl<T: Default> Default for Blocks<T> {
    fn default() -> Self {
        Self((0..StatsTable::CAPACITY.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect())
    }
}

impl<T: Default> Blocks<T> {
    /// The block of a number; beyond the table's capacity that of [`StatsKey::Overflow`](weir_core::stats::StatsKey).
    fn at(&self, id: StatsId) -> &T {
        let id = if (id.0 as usize) < StatsTable::CAPACITY { id.0 as usize } else { 0 };
        let chunk = self.0[id / CHUNK].get_or_init(|| (0..CHUNK).map(|_| T::default()).collect());
        &chunk[id % CHUNK]
    }

    fn existing(&self, id: usize) -> Option<&T> {
        self.0.get(id / CHUNK)?.get().map(|chunk| &chunk[id % CHUNK])
    }
}

/// The counters of one worker. Only that worker adds to them.
#[derive(Default)]
pub struct Shard {
    routes: Blocks<RouteCounters>,
    mirrors: Blocks<MirrorCounters>,
    events: [Counter; WorkerEvent::COUNT],
    /// Causes of requests that never came to a route.
    causes: [Counter; Cause::COUNT],
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Shard {
    /// The counters of a destination of a rule.
    pub fn route(&self, id: StatsId) -> &RouteCounters {
        self.routes.at(id)
    }

    /// The counters of a mirror.
    pub fn mirror(&self, id: StatsId) -> &MirrorCounters {
        self.mirrors.at(id)
    }

    /// Something happened to a connection.
    pub fn on(&self, event: WorkerEvent) {
        self.events[event as usize].add(1);
    }

    /// A request that never came to a route was answered or cut off.
    pub fn on_unrouted(&self, cause: Cause) {
        self.causes[cause as usize].add(1);
    }

    pub(crate) fn existing_route(&self, id: usize) -> Option<&RouteCounters> {
        self.routes.existing(id)
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
        let routes = (0..StatsTable::CAPACITY).filter_map(|id| self.existing_route(id));
        self.unrouted(cause) + routes.map(|route| route.causes[cause as usize].value()).sum::<u64>()
    }
}
