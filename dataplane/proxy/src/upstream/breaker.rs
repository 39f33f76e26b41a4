//! Circuit breakers: how many requests, and retries, of a cluster may be under way at a time. A bound is one of the node:
//! workers share two numbers for each cluster that has one, which they find when they first pick from it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use weir_core::name::ClusterName;

/// What is under way to a cluster.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    requests: AtomicU32,
    retries: AtomicU32,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Request,
    Retry,
}

impl UnderWay {
    fn count(&self, counted: Counted) -> &AtomicU32 {
        match counted {
            Counted::Request => &self.requests,
            Counted::Retry => &self.retries,
        }
    }

    /// A place for one more, if there are fewer than this.
    pub(super) fn admit(self: &Arc<Self>, counted: Counted, most: u32) -> Option<Permit> {
        let before = self.count(counted).fetch_add(1, Ordering::Relaxed);
        let permit = Permit { under_way: Arc::clone(self), counted };
        (before < most).then_some(permit)
    }
}

/// A place, free again when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    under_way: Arc<UnderWay>,
    counted: Counted,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.under_way.count(self.counted).fetch_sub(1, Ordering::Relaxed);
    }
}

/// The breakers of a node.
#[derive(Debug, Default)]
pub(crate) struct Breakers(Mutex<HashMap<ClusterName, Weak<UnderWay>>>);

impl Breakers {
    /// What is under way to a cluster; the same for all who ask while anybody holds it.
    pub(super) fn of(&self, name: &ClusterName) -> Arc<UnderWay> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(name).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, known| known.strong_count() > 0);
        let new = Arc::default();
        all.insert(name.clone(), Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use weir_core::name::ServiceName;

    use super::*;

    #[test]
    fn all_who_ask_share_a_bound_and_places_come_back() {
        let breakers = Breakers::default();
        let name = |name: &str| ClusterName { service: ServiceName::new("default", name), port: 80 };
        let (one, other) = (breakers.of(&name("a")), breakers.of(&name("a")));
        let first = one.admit(Counted::Request, 2);
        let second = other.admit(Counted::Request, 2);
        assert!(first.is_some() && second.is_some());
        assert!(one.admit(Counted::Request, 2).is_none(), "and who is refused takes no place");
        assert!(one.admit(Counted::Retry, 1).is_some(), "retries have their own");
        drop(second);
        assert!(other.admit(Counted::Request, 2).is_some());
        assert!(breakers.of(&name("b")).admit(Counted::Request, 1).is_some());
        drop((one, other));
        // As long as a request is under way, its place is known.
        assert!(breakers.of(&name("a")).admit(Counted::Request, 1).is_none());
        drop(first);
        assert!(breakers.of(&name("a")).admit(Counted::Request, 1).is_some());
        assert_eq!(breakers.0.lock().unwrap().len(), 1, "what nobody holds is forgotten");
    }
}
