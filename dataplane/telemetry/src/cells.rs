//! Cells that one thread writes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows. One thread adds, any thread may read; there is no read-modify-write, so that counting
/// costs a load and a store.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the worker that owns the counter may call this: two threads would lose counts (nothing worse).
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A row of counters.
#[derive(Debug)]
pub(crate) struct Counters<const COUNT: usize>([Counter; COUNT]);

impl<const COUNT: usize> Default for Counters<COUNT> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const COUNT: usize> std::ops::Deref for Counters<COUNT> {
    type Target = [Counter; COUNT];

    fn deref(&self) -> &[Counter; COUNT] {
        &self.0
    }
}
