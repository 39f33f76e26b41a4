//! Latencies in buckets whose width grows with the value: four to each power of two, so that a bucket's edges are at
//! most a quarter apart.

use crate::cells::Counter;

/// Buckets: exact below 4 µs, then four for each power of two up to 2^26 µs (67 s).
const BUCKETS: usize = 100;

/// Powers of two, in microseconds, whose edges are exported: 64 µs to 67 s.
const EXPORTED: std::ops::RangeInclusive<u32> = 6..=26;

/// The bucket of a value in microseconds. What is beyond the last edge is in the last bucket.
fn index(micros: u64) -> usize {
    if micros < 4 {
        return micros as usize;
    }
    let power = 63 - micros.leading_zeros();
    let quarter = (micros >> (power - 2)) & 3;
    (((power as usize - 1) << 2) + quarter as usize).min(BUCKETS - 1)
}

/// The smallest value of a bucket, in microseconds.
fn lower_edge(index: usize) -> u64 {
    if index < 4 {
        return index as u64;
    }
    (4 + (index as u64 & 3)) << ((index >> 2) - 1)
}

/// Latencies that one worker saw.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Counter::default()), sum: Counter::default() }
    }
}

impl Histogram {
    /// Counts a latency in microseconds.
    pub fn record(&self, micros: u64) {
        self.buckets[index(micros)].add(1);
        self.sum.add(micros);
    }
}

/// Latencies that several workers saw, added up.
#[derive(Clone, Debug)]
pub struct Latencies {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: 0 }
    }
}

impl Latencies {
    /// Adds what one worker saw.
    pub fn add(&mut self, histogram: &Histogram) {
        for (sum, counter) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += counter.value();
        }
        self.sum += histogram.sum.value();
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum as f64 / 1e6
    }

    /// The latency in microseconds that a share of all (0 to 1) does not exceed, to the width of a bucket. `None`
    /// when there are none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let count = self.count();
        let mut rank = (share.clamp(0.0, 1.0) * count as f64).ceil().max(1.0) as u64;
        for (index, in_bucket) in self.buckets.iter().enumerate() {
            if rank <= *in_bucket && *in_bucket > 0 {
                let (from, to) = (lower_edge(index), lower_edge(index + 1));
                return Some(from + (to - from) * rank / in_bucket);
            }
            rank = rank.saturating_sub(*in_bucket);
        }
        None
    }

    /// Upper edges in seconds, each with the count of its own bucket, as `prometheus-client` takes them.
    pub fn exported(&self) -> Vec<(f64, u64)> {
        let mut from = 0;
        let mut buckets = Vec::new();
        for power in EXPORTED {
            let to = if power == *EXPORTED.end() { BUCKETS } else { index(1 << power) };
            buckets.push(((1_u64 << power) as f64 / 1e6, self.buckets[from..to].iter().sum()));
            from = to;
        }
        buckets.push((f64::MAX, 0));
        buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_between_the_edges_of_its_bucket() {
        for micros in (0..70).chain([127, 128, 1_000, 65_535, 65_536, 999_999, (1 << 26) - 1]) {
            let bucket = index(micros);
            assert!(lower_edge(bucket) <= micros && micros < lower_edge(bucket + 1), "{micros} in {bucket}");
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_right_to_a_quarter() {
        let histogram = Histogram::default();
        (1..=1_000).for_each(|micros| histogram.record(micros));
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        latencies.add(&histogram);
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (0.001, 1.0)] {
            let got = latencies.quantile(share).unwrap() as f64;
            assert!((got - expected).abs() <= expected / 4.0 + 1.0, "{share}: {got}");
        }
        assert_eq!((latencies.count(), latencies.sum_seconds()), (1_000, 0.5005));
        assert_eq!(latencies.exported().iter().map(|(_, count)| count).sum::<u64>(), 1_000);
        assert_eq!(latencies.exported()[0], (0.000_064, 63));
    }
}
