//! Readiness: everybody that the node waits for holds a token; the node is ready when the last is dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What the node waits for until it is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, usize>>>);

/// Keeps the node unready as long as it lives.
#[derive(Debug)]
#[must_use = "dropping the token says that what it stands for is done"]
pub struct Token {
    of: Readiness,
    what: &'static str,
}

impl Readiness {
    /// Waits for something more.
    pub fn wait_for(&self, what: &'static str) -> Token {
        *self.lock().entry(what).or_default() += 1;
        Token { of: self.clone(), what }
    }

    /// What is still missing; empty when the node is ready.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let mut waiting = self.of.lock();
        if let Some(count) = waiting.get_mut(self.what) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(self.what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_token_is_dropped() {
        let readiness = Readiness::default();
        let (a, b, again) = (readiness.wait_for("a"), readiness.wait_for("b"), readiness.wait_for("a"));
        assert_eq!(readiness.waiting_for(), ["a", "b"]);
        drop((a, b));
        assert_eq!(readiness.waiting_for(), ["a"]);
        drop(again);
        assert!(readiness.waiting_for().is_empty());
    }
}
