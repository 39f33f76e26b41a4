//! What takes long is done by a thread of its own.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long it takes until something is tried again that has failed: this, and each time twice as long.
const BACKOFF: Duration = Duration::from_secs(2);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// One thing that is fetched.
#[derive(Debug, Default)]
pub(crate) struct Fetching {
    shared: Arc<Shared>,
    /// When it was begun, while it is.
    since: Option<Instant>,
    failures: u32,
    /// What failed last, and when it may be tried again.
    failed: Option<(String, Instant)>,
}

#[derive(Debug, Default)]
struct Shared {
    result: Mutex<Option<Result<Vec<u8>, String>>>,
    is_done: Condvar,
}

/// How far it is.
pub(crate) enum Progress {
    Done(Vec<u8>),
    /// Why, and when it is tried again.
    Failed(String, Duration),
    /// For how long.
    UnderWay(Duration),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fetching {
    /// Begins it, unless it is under way or has failed a short time ago, and waits for it for a while.
    pub(crate) fn wait(
        &mut self,
        fetch: impl FnOnce() -> Result<Vec<u8>, String> + Send + 'static,
        patience: Duration,
    ) -> Progress {
        let now = Instant::now();
        if let Some((why, not_before)) = self.failed.as_ref().filter(|(_, not_before)| now < *not_before) {
            return Progress::Failed(why.clone(), not_before.duration_since(now));
        }
        let since = match self.since {
            Some(since) => since,
            None => {
                self.failed = None;
                let shared = Arc::clone(&self.shared);
                let run = move || {
                    let result = fetch();
                    *lock(&shared.result) = Some(result);
                    shared.is_done.notify_all();
                };
                let thread = std::thread::Builder::new().name("weir-fetch".to_owned()).spawn(run);
                if let Err(error) = thread {
                    return self.fail(error.to_string());
                }
                *self.since.insert(now)
            }
        };
        let result = lock(&self.shared.result);
        let waited = self.shared.is_done.wait_timeout_while(result, patience, |result| result.is_none());
        let result = waited.unwrap_or_else(PoisonError::into_inner).0.take();
        match result {
            None => Progress::UnderWay(since.elapsed()),
            Some(Ok(bytes)) => Progress::Done(bytes),
            Some(Err(why)) => {
                self.since = None;
                self.fail(why)
            }
        }
    }

    fn fail(&mut self, why: String) -> Progress {
        let wait = BACKOFF.saturating_mul(1 << self.failures.min(16)).min(LONGEST_BACKOFF);
        self.failures += 1;
        self.failed = Some((why.clone(), Instant::now() + wait));
        Progress::Failed(why, wait)
    }
}
