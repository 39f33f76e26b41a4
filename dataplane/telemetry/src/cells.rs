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
