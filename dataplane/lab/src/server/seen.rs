//! What a server remembers of its requests, within fixed bounds: counts, and the last ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, Method};
use serde::Serialize;

/// How many flaky paths are told apart.
const FLAKY: usize = 1024;
/// How many requests `/last` can show.
const REMEMBERED: usize = 256;
/// Carried by copies of requests; their answers reach nobody.
const MIRROR_HEADER: &str = "x-weir-mirror";

const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"];

/// Counts by method, requests and mirrored copies apart, and the last requests.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Atomics, because a benchmark's backend must not wait for a lock.
    counts: [[AtomicU64; 2]; METHODS.len()],
    aborted: AtomicU64,
    last: Mutex<VecDeque<Request>>,
    /// How often each flaky path was asked for.
    flaky: Mutex<BTreeMap<String, u64>>,
}

/// A request as it arrived.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) peer: String,
    pub(crate) body_bytes: u64,
    pub(crate) body_sha256: String,
    /// Whether the body came to its end.
    pub(crate) complete: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    /// Requests that were no mirrored copies.
    total: u64,
    mirrored: u64,
    /// Requests that ended before their answer did: the peer went away.
    aborted: u64,
    by_method: BTreeMap<&'static str, ByMarker>,
}

#[derive(Debug, Serialize)]
struct ByMarker {
    plain: u64,
    mirrored: u64,
}

impl Seen {
    /// Counts a request for a flaky path: how often that was asked for, this time included.
    pub(crate) fn count_flaky(&self, path: &str) -> u64 {
        let mut flaky = self.flaky.lock().unwrap_or_else(PoisonError::into_inner);
        if flaky.len() >= FLAKY && !flaky.contains_key(path) {
            flaky.clear();
        }
        let count = flaky.entry(path.to_owned()).or_default();
        *count += 1;
        *count
    }

    pub(crate) fn count(&self, method: &Method, headers: &HeaderMap) {
        let known = METHODS.iter().position(|name| *name == method.as_str());
        let index = known.unwrap_or(METHODS.len() - 1);
        let marker = usize::from(headers.contains_key(MIRROR_HEADER));
        self.counts[index][marker].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_aborted(&self) {
        self.aborted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remember(&self, request: Request) {
        let mut last = self.lock();
        if last.len() == REMEMBERED {
            last.pop_front();
        }
        last.push_back(request);
    }

    pub(crate) fn last(&self, n: usize) -> Vec<Request> {
        let last = self.lock();
        last.iter().skip(last.len().saturating_sub(n)).cloned().collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        let of = |count: &[AtomicU64; 2]| {
            let [plain, mirrored] = count.each_ref().map(|c| c.load(Ordering::Relaxed));
            ByMarker { plain, mirrored }
        };
        let by_method: BTreeMap<_, _> =
            METHODS.into_iter().zip(self.counts.iter().map(of)).filter(|(_, c)| c.plain + c.mirrored > 0).collect();
        Counts {
            total: by_method.values().map(|c| c.plain).sum(),
            mirrored: by_method.values().map(|c| c.mirrored).sum(),
            aborted: self.aborted.load(Ordering::Relaxed),
            by_method,
        }
    }

    pub(crate) fn forget(&self) {
        self.lock().clear();
        self.flaky.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let counts = self.counts.iter().flatten().chain([&self.aborted]);
        counts.for_each(|count| count.store(0, Ordering::Relaxed));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Request>> {
        // A panic while holding it cannot leave the queue half changed.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Headers as text; repeated ones are joined as RFC 9110, 5.3 allows.
pub(crate) fn headers_of(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut all = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        all.entry(name.to_string())
            .and_modify(|joined| {
                joined.push_str(", ");
                joined.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_memory_are_bounded() {
        let seen = Seen::default();
        let mut marked = HeaderMap::new();
        marked.insert(MIRROR_HEADER, http::HeaderValue::from_static("1"));
        let odd = Method::from_bytes(b"BREW").unwrap();
        for method in [&Method::GET, &Method::GET, &odd] {
            seen.count(method, &HeaderMap::new());
        }
        seen.count(&Method::POST, &marked);
        let json = serde_json::to_value(seen.counts()).unwrap();
        assert_eq!((json["total"].as_u64(), json["mirrored"].as_u64()), (Some(3), Some(1)));
        assert_eq!(json["by_method"]["other"]["plain"], 1);
        for i in 0..REMEMBERED + 10 {
            let path = i.to_string();
            seen.remember(Request {
                method: String::new(),
                path,
                headers: headers_of(&marked),
                peer: String::new(),
                body_bytes: 0,
                body_sha256: String::new(),
                complete: true,
            });
        }
        let last = seen.last(usize::MAX);
        assert_eq!((last.len(), last[0].path.as_str()), (REMEMBERED, "10"));
        assert_eq!(seen.last(1)[0].path, (REMEMBERED + 9).to_string());
        seen.forget();
        assert!(seen.last(1).is_empty());
    }
}
