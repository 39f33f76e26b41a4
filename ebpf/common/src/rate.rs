//! How many events a second are worth reporting.

/// What was reported in the current second, and what was held back.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Bucket {
    /// Start of the current second, nanoseconds of the kernel's monotonic clock.
    pub start_ns: u64,
    /// Reported in it.
    pub reported: u32,
    /// Held back since the last report.
    pub suppressed: u32,
}

const SECOND_NS: u64 = 1_000_000_000;

/// Whether an event at `now_ns` is reported; if so, how many were held back before it.
#[inline(always)]
pub fn admit(bucket: &mut Bucket, now_ns: u64, per_second: u32) -> Option<u32> {
    if now_ns.wrapping_sub(bucket.start_ns) >= SECOND_NS {
        bucket.start_ns = now_ns;
        bucket.reported = 0;
    }
    if bucket.reported >= per_second {
        bucket.suppressed = bucket.suppressed.saturating_add(1);
        return None;
    }
    bucket.reported += 1;
    let suppressed = bucket.suppressed;
    bucket.suppressed = 0;
    Some(suppressed)
}

#[cfg(test)]
mod tests {
    use super::{Bucket, SECOND_NS, admit};

    #[test]
    fn a_burst_is_cut_and_its_rest_told_with_the_next_report() {
        let mut bucket = Bucket::default();
        let start = 5 * SECOND_NS;
        let reported = (0..100).filter(|i| admit(&mut bucket, start + i, 10).is_some()).count();
        assert_eq!(reported, 10);
        assert_eq!(admit(&mut bucket, start + SECOND_NS, 10), Some(90));
        assert_eq!(admit(&mut bucket, start + SECOND_NS + 1, 10), Some(0));
    }

    #[test]
    fn a_limit_of_zero_reports_nothing() {
        let mut bucket = Bucket::default();
        assert_eq!(admit(&mut bucket, SECOND_NS, 0), None);
        assert_eq!(bucket.suppressed, 1);
    }
}
