//! Random numbers for draws and for request ids. Good enough to spread load; not for secrets.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A generator of one worker.
#[derive(Debug)]
pub(crate) struct Random(Cell<u64>);

impl Random {
    /// A generator that starts at a point of its own.
    pub(crate) fn new() -> Self {
        // The standard library's hash keys come from the system's random numbers.
        Self(Cell::new(RandomState::new().hash_one(0)))
    }

    /// The next number, from the whole range.
    ///
    /// Source: G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    pub(crate) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
