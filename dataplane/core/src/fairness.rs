//! How what is bounded is shared: nobody holds more than is left to the others.

/// Whether somebody who holds `own` of the `used` parts of something may have `more` of it. There are `bound` parts.
///
/// What it holds already must not be more than what is then left. So one that takes all that it gets has half, two have
/// a third each, and whoever comes next always finds as much as each of them has; nobody has to say how many there will
/// be. Whoever holds nothing gets what there is.
///
/// Source: A. Choudhury, E. Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM
/// Transactions on Networking 6(2), 1998, with a factor of 1.
pub fn may_take(own: usize, more: usize, used: usize, bound: usize) -> bool {
    let left = bound.saturating_sub(used).checked_sub(more);
    left.is_some_and(|left| own <= left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_all_that_it_gets_leaves_as_much_to_the_next() {
        // How many take what they get, and what each has when nobody gets more.
        for (greedy, bound, expected) in [(1, 100, 50), (1, 101, 51), (2, 99, 33), (3, 100, 25), (1, 1, 1), (1, 2, 1)] {
            let mut held = vec![0_usize; greedy];
            loop {
                let before = held.clone();
                for position in 0..greedy {
                    let used = held.iter().sum();
                    held[position] += usize::from(may_take(held[position], 1, used, bound));
                }
                if held == before {
                    break;
                }
            }
            assert!(held.iter().all(|held| held.abs_diff(expected) <= 1), "{greedy} of {bound}: {held:?}");
            assert!(held.iter().sum::<usize>() <= bound);
            let is_left = bound > held.iter().sum();
            assert_eq!(may_take(0, 1, held.iter().sum(), bound), is_left, "{greedy} of {bound}: the next one");
        }
    }

    #[test]
    fn nobody_gets_more_than_there_is() {
        for (own, more, used, bound, expected) in [
            (0, 10, 0, 10, true),
            (0, 11, 0, 10, false),
            (0, 1, 10, 10, false),
            (0, 1, 11, 10, false),
            (5, 1, 5, 11, true),
        ] {
            assert_eq!(may_take(own, more, used, bound), expected, "{own} {more} {used} {bound}");
        }
    }
}
