//! Alias tables: a weighted draw in the kernel with a single look-up, exact to 2^-32 (Walker 1977;
//! construction after Vose 1991, in integers).

/// A column: the draw takes `first` below `threshold` (of 2^32) and `second` otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Column {
    pub(crate) first: usize,
    pub(crate) second: usize,
    pub(crate) threshold: u32,
}

/// One column per positive weight, naming entries by their index; none when every weight is zero.
pub(crate) fn columns(weights: &[u32]) -> Vec<Column> {
    let entries: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] > 0).collect();
    let total: u128 = entries.iter().map(|i| u128::from(weights[*i])).sum();
    let count = entries.len() as u128;
    // Scaled so that a full column is `total`.
    let mut rest: Vec<u128> = entries.iter().map(|i| u128::from(weights[*i]) * count).collect();
    let mut columns: Vec<Column> =
        entries.iter().map(|entry| Column { first: *entry, second: *entry, threshold: u32::MAX }).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..entries.len()).partition(|column| rest[*column] < total);
    while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
        columns[less].second = entries[more];
        columns[less].threshold = threshold(rest[less], total);
        rest[more] -= total - rest[less];
        if rest[more] < total {
            large.pop();
            small.push(more);
        }
    }
    columns
}

/// `part / total` of 2^32; below the largest value, which means certainty.
fn threshold(part: u128, total: u128) -> u32 {
    let scaled = (part << 32) / total;
    u32::try_from(scaled).unwrap_or(u32::MAX).min(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_ebpf_common::pick_side;

    use super::*;

    /// Each entry's share of all draws, from the table alone.
    fn shares(weights: &[u32]) -> Vec<f64> {
        let columns = columns(weights);
        let mut shares = vec![0.0; weights.len()];
        for column in &columns {
            let first = if column.threshold == u32::MAX { 1.0 } else { f64::from(column.threshold) / 2f64.powi(32) };
            shares[column.first] += first / columns.len() as f64;
            shares[column.second] += (1.0 - first) / columns.len() as f64;
        }
        shares
    }

    #[test]
    fn known_tables() {
        assert_eq!(columns(&[]), []);
        assert_eq!(columns(&[0, 0]), []);
        assert_eq!(columns(&[0, 7]), [Column { first: 1, second: 1, threshold: u32::MAX }]);
        let ninety = columns(&[90, 10]);
        assert_eq!(ninety[1].first, 1);
        assert_eq!(ninety[1].second, 0);
        assert!(pick_side(0, ninety[1].threshold) && !pick_side(u32::MAX, ninety[1].threshold));
    }

    proptest! {
        #[test]
        fn shares_are_the_weights(weights in proptest::collection::vec(prop_oneof![Just(0), 1u32..1000, any::<u32>()], 1..64)) {
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            prop_assume!(total > 0.0);
            for (weight, share) in weights.iter().zip(shares(&weights)) {
                let expected = f64::from(*weight) / total;
                prop_assert!((share - expected).abs() < 1e-6, "{expected} {share}");
            }
        }
    }
}
