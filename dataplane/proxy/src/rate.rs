//! Buckets of rate limits, shared by all workers: a limit is what a node may do, not each of its workers. Without locks,
//! and of a fixed size: a bucket is a number, and one that is full is the same as one that nobody knows.

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weir_core::filter::RateLimit;
use weir_core::route::{Request, Rule};

/// Buckets that can be in use (not full) at a time before some have to share: 1 MiB, taken with the first limit.
const BUCKETS: usize = 1 << 16;

/// How many places a bucket may be at.
const PLACES: usize = 16;

/// The buckets of a node.
#[derive(Debug)]
pub(crate) struct Buckets {
    all: OnceLock<Box<[Bucket]>>,
    begun: Instant,
    hasher: foldhash::fast::RandomState,
}

#[derive(Debug, Default)]
struct Bucket {
    /// Whose it is; 0 for nobody's.
    owner: AtomicU64,
    /// When it will be full, in nanoseconds since `begun`.
    full: AtomicU64,
}

impl Buckets {
    pub(crate) fn new() -> Self {
        Self { all: OnceLock::new(), begun: Instant::now(), hasher: foldhash::fast::RandomState::default() }
    }

    /// Takes a token for a request, or says for how long there is none.
    pub(crate) fn take(&self, limit: &RateLimit, rule: &Rule, request: &Request<'_>) -> Result<(), Duration> {
        let section = rule.section.as_ref().map_or(0, |section| section.index);
        let owner = self.hasher.hash_one((&rule.name, section, limit.bucket(request)));
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.take_from(limit, owner.max(1), now)
    }

    fn take_from(&self, limit: &RateLimit, owner: u64, now: u64) -> Result<(), Duration> {
        let bucket = self.bucket(owner, now);
        let mut full = bucket.full.load(Ordering::Relaxed);
        loop {
            let then = limit.take(full, now)?;
            match bucket.full.compare_exchange_weak(full, then, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => full = other,
            }
        }
    }

    /// The bucket of this owner. Of those who come at the same time to a place that is free each may believe that it is
    /// its own: then one request too few or too many passes, once.
    fn bucket(&self, owner: u64, now: u64) -> &Bucket {
        let all = self.all.get_or_init(|| (0..BUCKETS).map(|_| Bucket::default()).collect());
        let places = || (0..PLACES).map(|place| &all[(owner as usize).wrapping_add(place) % BUCKETS]);
        if let Some(own) = places().find(|bucket| bucket.owner.load(Ordering::Relaxed) == owner) {
            return own;
        }
        match places().find(|bucket| bucket.full.load(Ordering::Relaxed) <= now) {
            Some(free) => {
                free.owner.store(owner, Ordering::Relaxed);
                free
            }
            // Shared: rather one request too few than a limit that can be escaped.
            None => &all[owner as usize % BUCKETS],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(burst: u32) -> RateLimit {
        RateLimit { requests: 1, unit: Duration::from_secs(1), burst, key: None }
    }

    fn taken(buckets: &Buckets, limit: &RateLimit, owner: u64, now: u64) -> usize {
        (0..100).filter(|_| buckets.take_from(limit, owner, now).is_ok()).count()
    }

    #[test]
    fn each_owner_has_a_bucket_of_its_own_also_at_the_same_place() {
        let buckets = Buckets::new();
        let owners: Vec<u64> = (0..PLACES as u64).map(|n| 7 + n * BUCKETS as u64).collect();
        for owner in &owners {
            assert_eq!(taken(&buckets, &limit(3), *owner, 1), 3, "{owner}");
        }
        assert!(owners.iter().all(|owner| taken(&buckets, &limit(3), *owner, 1) == 0));
        // One more than there are places for shares a bucket; when they are full again, it gets its own.
        let more = 7 + PLACES as u64 * BUCKETS as u64;
        assert_eq!(taken(&buckets, &limit(3), more, 1), 0);
        assert_eq!(taken(&buckets, &limit(3), more, 10_000_000_000), 3);
    }

    #[test]
    fn workers_share_a_bucket() {
        let buckets = Buckets::new();
        let limit = limit(1_000);
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..1_000).filter(|_| buckets.take_from(&limit, 5, 1).is_ok()).count();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }
}
