//! Medians with their range, of few rounds.

use serde::Serialize;

/// The median of some rounds with the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, low, high })
    }
}

/// Pseudo-random orders, so that no peer always runs first or after the same other one. Not for anything secret.
#[derive(Debug)]
pub(crate) struct Shuffle(u64);

impl Shuffle {
    /// The same seed gives the same orders.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The numbers below `count` in a random order (Fisher and Yates over splitmix64).
    pub(crate) fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let bound = last as u64 + 1;
            order.swap(last, usize::try_from(self.next() % bound).unwrap_or(0));
        }
        order
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        let spread = |median, low, high| Some(Spread { median, low, high });
        for (values, expected) in [
            (vec![], None),
            (vec![3.0], spread(3.0, 3.0, 3.0)),
            (vec![9.0, 1.0, 2.0], spread(2.0, 1.0, 9.0)),
            (vec![4.0, 1.0, 2.0, 9.0], spread(3.0, 1.0, 9.0)),
        ] {
            assert_eq!(Spread::of(values.clone()), expected, "{values:?}");
        }
    }

    #[test]
    fn orders_are_permutations_and_differ() {
        let mut shuffle = Shuffle::new(7);
        let orders: Vec<_> = (0..20).map(|_| shuffle.order(5)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
        }
        assert!(orders.iter().any(|order| order != &orders[0]));
    }
}
