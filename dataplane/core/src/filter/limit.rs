//! Limits on the rate of requests.

use std::fmt;
use std::time::Duration;

use crate::route::Request;
use crate::split::StickyKey;

/// A bound on the requests of a rule, of all together or for each key: a bucket that holds `burst` tokens, into which
/// `requests` come in each `unit`, and from which each request takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// At least 1.
    pub requests: u32,
    /// Their time.
    pub unit: Duration,
    /// Requests that may come at once, at least 1.
    pub burst: u32,
    /// Whose requests share a bucket; `None`: all of them. Those without the key share one.
    pub key: Option<StickyKey>,
}

impl RateLimit {
    /// The number of a request's bucket.
    pub fn bucket(&self, request: &Request<'_>) -> u64 {
        self.key.as_ref().and_then(|key| key.hash(request, 2)).unwrap_or_default()
    }

    /// Takes a token at a time. `bucket` is the time at which the bucket will be full, 0 for one that was never used;
    /// what it is afterwards is returned, or how long the request would have to wait. All times are in nanoseconds.
    ///
    /// Source: the generic cell rate algorithm (ITU-T I.371), which is a token bucket that needs no more than one number.
    ///
    /// # Errors
    /// How long until there is a token.
    pub fn take(&self, bucket: u64, now: u64) -> Result<u64, Duration> {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let token = (nanos(self.unit) / u64::from(self.requests)).max(1);
        let full = bucket.max(now).saturating_add(token);
        let over = (full - now).saturating_sub(token.saturating_mul(self.burst.into()));
        if over == 0 { Ok(full) } else { Err(Duration::from_nanos(over)) }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests in {:?}, {} at once", self.requests, self.unit, self.burst)?;
        match &self.key {
            None => Ok(()),
            Some(StickyKey::Header(name)) => write!(f, ", for each value of the header {name}"),
            Some(StickyKey::Cookie(name)) => write!(f, ", for each value of the cookie {name}"),
            Some(StickyKey::SourceIdentity) => f.write_str(", for each calling identity"),
            Some(StickyKey::SourceIp) => f.write_str(", for each calling address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_burst_through_and_then_the_rate() {
        let limit = RateLimit { requests: 10, unit: Duration::from_secs(1), burst: 3, key: None };
        let ms = |ms: u64| ms * 1_000_000;
        // When each comes, and how long it would have to wait, in milliseconds.
        let cases = [
            (1_000, None),
            (1_000, None),
            (1_000, None),
            (1_000, Some(100)),
            (1_050, Some(50)),
            (1_100, None),
            (1_100, Some(100)),
            (1_400, None),
            (1_400, None),
            (1_400, None),
            (1_400, Some(100)),
            (9_000, None),
            (9_000, None),
            (9_000, None),
            (9_000, Some(100)),
        ];
        let mut bucket = 0;
        for (number, (now, waits)) in cases.into_iter().enumerate() {
            match limit.take(bucket, ms(now)) {
                Ok(then) => {
                    assert_eq!(waits, None, "request {number}");
                    bucket = then;
                }
                Err(wait) => assert_eq!(Some(wait.as_millis()), waits, "request {number}"),
            }
        }
        let once = RateLimit { requests: 1, unit: Duration::from_secs(3_600), burst: 1, key: None };
        let bucket = once.take(0, ms(5)).unwrap();
        assert_eq!(once.take(bucket, ms(5)), Err(Duration::from_secs(3_600)));
        let endless = RateLimit { requests: u32::MAX, unit: Duration::from_nanos(1), burst: u32::MAX, key: None };
        assert!(endless.take(u64::MAX - 1, u64::MAX - 1).is_ok());
    }
}
