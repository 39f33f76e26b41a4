//! Metrics that plugins define. A plugin's metric is one, however many instances count in it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::abi::Status;

/// Bytes of a metric's name.
const NAME_BYTES: usize = 200;

/// Upper bounds of a histogram's buckets: powers of two, since what is recorded may be anything. The last takes the rest.
pub(crate) const BUCKETS: usize = 32;

/// What a metric is (`proxy_metric_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often which values were recorded.
    Histogram,
}

impl MetricKind {
    pub(crate) fn parse(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0 => Self::Counter,
            1 => Self::Gauge,
            2 => Self::Histogram,
            _ => return Err(Status::BadArgument),
        })
    }
}

/// A metric as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As the plugin calls it.
    pub name: String,
    /// What it is.
    pub kind: MetricKind,
    /// Of a counter or a gauge; of a histogram the sum of what was recorded.
    pub value: i64,
    /// Of a histogram: how many values were up to 2⁰, 2¹, ... each not counted in an earlier one.
    pub buckets: Vec<u64>,
}

#[derive(Debug)]
struct Cell {
    name: String,
    kind: MetricKind,
    value: AtomicI64,
    buckets: Box<[AtomicU64]>,
}

/// All metrics of a plugin.
#[derive(Debug, Default)]
pub(crate) struct Metrics(RwLock<Vec<Cell>>);

impl Metrics {
    /// The number of a metric; it is defined if it is not yet.
    pub(crate) fn define(&self, kind: MetricKind, name: &[u8], limit: usize) -> Result<u32, Status> {
        let name = str::from_utf8(name).map_err(|_| Status::BadArgument)?;
        if name.is_empty() || name.len() > NAME_BYTES || name.chars().any(char::is_control) {
            return Err(Status::BadArgument);
        }
        let mut cells = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let position = match cells.iter().position(|cell| cell.name == name) {
            Some(position) if cells[position].kind == kind => position,
            Some(_) => return Err(Status::BadArgument),
            None if cells.len() >= limit => return Err(Status::InternalFailure),
            None => {
                let count = if kind == MetricKind::Histogram { BUCKETS } else { 0 };
                let buckets = (0..count).map(|_| AtomicU64::new(0)).collect();
                cells.push(Cell { name: name.to_owned(), kind, value: AtomicI64::new(0), buckets });
                cells.len() - 1
            }
        };
        u32::try_from(position + 1).map_err(|_| Status::InternalFailure)
    }

    fn with<T>(&self, number: u32, act: impl FnOnce(&Cell) -> Result<T, Status>) -> Result<T, Status> {
        let cells = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let position = (number as usize).checked_sub(1).ok_or(Status::NotFound)?;
        act(cells.get(position).ok_or(Status::NotFound)?)
    }

    pub(crate) fn increment(&self, number: u32, by: i64) -> Result<(), Status> {
        self.with(number, |cell| match cell.kind {
            MetricKind::Counter if by < 0 => Err(Status::BadArgument),
            MetricKind::Histogram => Err(Status::BadArgument),
            MetricKind::Counter | MetricKind::Gauge => {
                cell.value.fetch_add(by, Ordering::Relaxed);
                Ok(())
            }
        })
    }

    pub(crate) fn record(&self, number: u32, value: i64) -> Result<(), Status> {
        self.with(number, |cell| {
            match cell.kind {
                MetricKind::Counter => return Err(Status::BadArgument),
                MetricKind::Gauge => cell.value.store(value, Ordering::Relaxed),
                MetricKind::Histogram => {
                    let unsigned = u64::try_from(value).map_err(|_| Status::BadArgument)?;
                    let bucket = (u64::BITS - unsigned.saturating_sub(1).leading_zeros()) as usize;
                    cell.buckets[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
                    cell.value.fetch_add(value, Ordering::Relaxed);
                }
            }
            Ok(())
        })
    }

    pub(crate) fn value(&self, number: u32) -> Result<i64, Status> {
        self.with(number, |cell| match cell.kind {
            MetricKind::Histogram => Err(Status::BadArgument),
            MetricKind::Counter | MetricKind::Gauge => Ok(cell.value.load(Ordering::Relaxed)),
        })
    }

    pub(crate) fn all(&self) -> Vec<Metric> {
        let cells = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let one = |cell: &Cell| Metric {
            name: cell.name.clone(),
            kind: cell.kind,
            value: cell.value.load(Ordering::Relaxed),
            buckets: cell.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
        };
        cells.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_defined_once() {
        let metrics = Metrics::default();
        let counter = metrics.define(MetricKind::Counter, b"c", 2).unwrap();
        assert_eq!(metrics.define(MetricKind::Counter, b"c", 2), Ok(counter));
        assert_eq!(metrics.define(MetricKind::Gauge, b"c", 2), Err(Status::BadArgument));
        metrics.define(MetricKind::Gauge, b"g", 2).unwrap();
        assert_eq!(metrics.define(MetricKind::Gauge, b"h", 2), Err(Status::InternalFailure));
        for bad in [&b""[..], b"a\nb", b"\xff", &[b'a'; NAME_BYTES + 1]] {
            assert_eq!(metrics.define(MetricKind::Gauge, bad, 9), Err(Status::BadArgument));
        }
    }

    #[test]
    fn each_kind_counts_in_its_way() {
        let metrics = Metrics::default();
        let [counter, gauge, histogram] = [MetricKind::Counter, MetricKind::Gauge, MetricKind::Histogram]
            .map(|kind| metrics.define(kind, format!("{kind:?}").as_bytes(), 9).unwrap());
        metrics.increment(counter, 3).unwrap();
        metrics.increment(counter, 4).unwrap();
        assert_eq!(
            (metrics.increment(counter, -1), metrics.record(counter, 1)),
            (Err(Status::BadArgument), Err(Status::BadArgument))
        );
        metrics.record(gauge, 10).unwrap();
        metrics.increment(gauge, -15).unwrap();
        for value in [0, 1, 2, 3, 4, 5, i64::MAX / 8] {
            metrics.record(histogram, value).unwrap();
        }
        assert_eq!(metrics.record(histogram, -1), Err(Status::BadArgument));
        assert_eq!(
            (metrics.value(counter), metrics.value(gauge), metrics.value(histogram)),
            (Ok(7), Ok(-5), Err(Status::BadArgument))
        );
        assert_eq!((metrics.value(0), metrics.value(4)), (Err(Status::NotFound), Err(Status::NotFound)));
        let buckets = &metrics.all()[2].buckets;
        assert_eq!((&buckets[..4], buckets[BUCKETS - 1]), (&[2, 1, 2, 1][..], 1));
    }
}
