//! How a plugin that is tried out compares with the one in force.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Differences that are remembered, and bytes of what one is described with.
const REMEMBERED: usize = 20;
const TEXT: usize = 500;

/// What was compared.
#[derive(Debug, Default)]
pub struct Comparison(Mutex<Compared>);

/// What came of it so far.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Exchanges in which both did the same.
    pub same: u64,
    /// Those in which they did not.
    pub different: u64,
    /// The last of these.
    pub last: VecDeque<Difference>,
}

/// An exchange in which they did not do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// When.
    pub at: SystemTime,
    /// Of which request: its method and its path.
    pub request: Box<str>,
    /// In what: what the one in force did, and what the other.
    pub what: Box<str>,
}

impl Comparison {
    /// An exchange has ended, in which they differed in this.
    pub fn add(&self, request: &str, difference: Option<&str>) {
        let mut compared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(what) = difference else {
            compared.same += 1;
            return;
        };
        compared.different += 1;
        compared.last.truncate(REMEMBERED - 1);
        compared.last.push_front(Difference { at: SystemTime::now(), request: cut(request), what: cut(what) });
    }

    /// What came of it so far; the latest difference first.
    pub fn compared(&self) -> Compared {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn cut(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(TEXT)].into()
}
