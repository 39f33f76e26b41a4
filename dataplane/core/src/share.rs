//! Shares of requests.

/// A share of requests in millionths: 1,000,000 is all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// Every request.
    pub const ALL: Self = Self(1_000_000);

    /// A share from a percentage between 0 and 100, to a ten-thousandth of a percent. `None` outside that range.
    pub fn from_percent(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 10_000.0).round() as u32))
    }

    /// A share from a fraction between 0 and 1. `None` outside that range.
    pub fn from_fraction(numerator: i64, denominator: i64) -> Option<Self> {
        let fits = denominator > 0 && (0..=denominator).contains(&numerator);
        fits.then(|| Self((numerator as f64 / denominator as f64 * 1_000_000.0).round() as u32))
    }

    /// The share as a percentage.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Whether a request with this random number is in the share.
    pub fn contains(self, roll: u64) -> bool {
        roll % 1_000_000 < u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_bounds() {
        let cases = [
            (0.0, Some(0)),
            (100.0, Some(1_000_000)),
            (0.5, Some(5_000)),
            (100.1, None),
            (-1.0, None),
            (f64::NAN, None),
        ];
        for (percent, expected) in cases {
            assert_eq!(Share::from_percent(percent).map(|share| share.0), expected, "{percent}");
        }
        let fractions =
            [((1, 2), Some(500_000)), ((1, 3), Some(333_333)), ((0, 1), Some(0)), ((3, 3), Some(1_000_000))];
        for ((numerator, denominator), expected) in fractions {
            let share = Share::from_fraction(numerator, denominator);
            assert_eq!(share.map(|share| share.0), expected, "{numerator}/{denominator}");
        }
        for (numerator, denominator) in [(2, 1), (-1, 1), (0, 0), (1, -1)] {
            assert_eq!(Share::from_fraction(numerator, denominator), None, "{numerator}/{denominator}");
        }
        assert!(Share::ALL.contains(999_999) && !Share(0).contains(0));
        assert!(Share(5_000).contains(4_999) && !Share(5_000).contains(5_000));
    }
}
