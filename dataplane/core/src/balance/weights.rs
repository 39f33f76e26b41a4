//! How much of the requests each of several endpoints is to take, beside the others.

/// The share of one endpoint, relative to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u16);

impl Weight {
    /// The largest; the smallest is 1.
    pub const MAX: u16 = 1_000;

    /// That of an endpoint of which nothing is said.
    pub const USUAL: Self = Self(100);

    /// A weight of 1 to [`Weight::MAX`].
    pub fn new(weight: u16) -> Option<Self> {
        (1..=Self::MAX).contains(&weight).then_some(Self(weight))
    }

    /// As a number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::USUAL
    }
}

/// The weights of several endpoints.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    /// Running sums; empty where all weigh the same.
    sums: Box<[u32]>,
}

impl Weights {
    /// Those of these, in their order.
    pub fn new(weights: impl Iterator<Item = Weight> + Clone) -> Self {
        let mut all = weights.clone();
        let first = all.next();
        if all.all(|one| Some(one) == first) {
            return Self::default();
        }
        let sums = weights.scan(0_u32, |sum, weight| {
            *sum += u32::from(weight.0);
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    /// Whether all weigh the same.
    pub fn are_equal(&self) -> bool {
        self.sums.is_empty()
    }

    /// The weight of one, in units of the usual one; 1 where all weigh the same.
    pub(super) fn relative(&self, at: usize) -> f64 {
        let Some(sum) = self.sums.get(at) else { return 1.0 };
        let before = at.checked_sub(1).map_or(0, |before| self.sums[before]);
        f64::from(sum - before) / f64::from(Weight::USUAL.0)
    }

    /// The one, of so many, that has this point of the whole range of `u64`.
    pub(super) fn at(&self, count: usize, point: u64) -> usize {
        let scaled = |bound: u64| ((u128::from(point) * u128::from(bound)) >> 64) as u64;
        match self.sums.last() {
            None => scaled(count as u64) as usize,
            Some(all) => {
                let point = scaled(u64::from(*all)) as u32;
                self.sums.partition_point(|sum| *sum <= point)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(all: &[u16]) -> Weights {
        Weights::new(all.iter().map(|weight| Weight::new(*weight).unwrap()))
    }

    #[test]
    fn each_has_its_part_of_all_points() {
        for all in [&[100, 100, 100][..], &[1, 1_000], &[50, 100, 300], &[7]] {
            let weights = weights(all);
            let mut parts = vec![0_u32; all.len()];
            const POINTS: u64 = 1 << 16;
            for point in 0..POINTS {
                parts[weights.at(all.len(), point << 48)] += 1;
            }
            let sum: u32 = all.iter().map(|weight| u32::from(*weight)).sum();
            for (part, weight) in parts.iter().zip(all) {
                let expected = POINTS as f64 * f64::from(*weight) / f64::from(sum);
                assert!((f64::from(*part) - expected).abs() <= 1.0, "{all:?}: {parts:?}");
            }
            assert_eq!(weights.at(all.len(), u64::MAX), all.len() - 1);
        }
        assert!(weights(&[3, 3]).are_equal() && weights(&[]).are_equal() && !weights(&[3, 4]).are_equal());
        assert_eq!([0, 1].map(|at| weights(&[50, 200]).relative(at)), [0.5, 2.0]);
    }

    #[test]
    fn weights_have_bounds() {
        let told = [0, 1, 1_000, 1_001].map(|weight| Weight::new(weight).map(Weight::get));
        assert_eq!(told, [None, Some(1), Some(1_000), None]);
    }
}
