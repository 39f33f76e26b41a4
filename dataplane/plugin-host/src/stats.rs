//! What a plugin costs and what becomes of it, counted per instance by the only thread that uses it, and summed when
//! somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of how long callbacks take, in nanoseconds. The last bucket takes the rest.
pub const TIME_BOUNDS: [u64; 11] =
    [500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// How a callback may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// It trapped: it panicked, divided by zero, reached beyond its memory or its stack.
    Trap,
    /// It took more processor time than it may.
    Timeout,
    /// There was no instance: one could not be made.
    NoInstance,
}

/// Counters of one instance.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    times: [AtomicU64; TIME_BOUNDS.len() + 1],
    traps: AtomicU64,
    timeouts: AtomicU64,
    unmade: AtomicU64,
    log_lines_dropped: AtomicU64,
    bytes: AtomicU64,
    memory: AtomicU64,
    instances: AtomicU64,
}

/// Only one thread adds.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

impl Stats {
    pub(crate) fn on_call(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&self.calls, 1);
        add(&self.nanoseconds, nanoseconds);
        add(&self.times[TIME_BOUNDS.partition_point(|bound| *bound < nanoseconds)], 1);
    }

    pub(crate) fn on_ending(&self, ending: Ending) {
        add(
            match ending {
                Ending::Trap => &self.traps,
                Ending::Timeout => &self.timeouts,
                Ending::NoInstance => &self.unmade,
            },
            1,
        );
    }

    pub(crate) fn on_dropped_line(&self) {
        add(&self.log_lines_dropped, 1);
    }

    /// Bytes of a body, or of a connection, are shown to it.
    pub(crate) fn on_bytes(&self, bytes: usize) {
        add(&self.bytes, bytes as u64);
    }

    pub(crate) fn set_memory(&self, bytes: usize) {
        self.memory.store(bytes as u64, Ordering::Relaxed);
        self.instances.store(u64::from(bytes > 0), Ordering::Relaxed);
    }

    pub(crate) fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            calls: read(&self.calls),
            time: Duration::from_nanos(read(&self.nanoseconds)),
            times: self.times.each_ref().map(read),
            traps: read(&self.traps),
            timeouts: read(&self.timeouts),
            unmade: read(&self.unmade),
            log_lines_dropped: read(&self.log_lines_dropped),
            bytes: read(&self.bytes),
            memory: read(&self.memory),
            instances: read(&self.instances),
        }
    }
}

/// What instances have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Callbacks that ran.
    pub calls: u64,
    /// How long they took together, by the clock on the wall.
    pub time: Duration,
    /// How many took how long: one number for each of [`TIME_BOUNDS`], and one for all that took longer.
    pub times: [u64; TIME_BOUNDS.len() + 1],
    /// Callbacks that trapped.
    pub traps: u64,
    /// Callbacks that were ended because of the time they took.
    pub timeouts: u64,
    /// Instances that could not be made.
    pub unmade: u64,
    /// Lines that were not logged because there were too many.
    pub log_lines_dropped: u64,
    /// Bytes of bodies and connections that were shown to it.
    pub bytes: u64,
    /// Bytes of linear memory of the instances that there are.
    pub memory: u64,
    /// Instances that there are.
    pub instances: u64,
}

impl Totals {
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.calls += other.calls;
        self.time += other.time;
        self.times.iter_mut().zip(other.times).for_each(|(sum, one)| *sum += one);
        self.traps += other.traps;
        self.timeouts += other.timeouts;
        self.unmade += other.unmade;
        self.log_lines_dropped += other.log_lines_dropped;
        self.bytes += other.bytes;
        self.memory += other.memory;
        self.instances += other.instances;
        self
    }
}
