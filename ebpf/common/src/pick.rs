//! Weighted choice of a backend with one look-up (alias method, Walker 1977, Vose 1991).

/// Which side of an alias table's column a draw takes.
///
/// `draw` is uniform over all of `u32`; the first side is taken with probability
/// `threshold / 2^32`, and always when `threshold` is the largest value.
#[inline(always)]
pub const fn pick_side(draw: u32, threshold: u32) -> bool {
    draw < threshold || threshold == u32::MAX
}

#[cfg(test)]
mod tests {
    use super::pick_side;

    #[test]
    fn the_ends_of_the_range_are_certain() {
        for (draw, threshold, first) in [
            (0, 0, false),
            (u32::MAX, 0, false),
            (0, 1, true),
            (1, 1, false),
            (u32::MAX, u32::MAX, true),
            (1 << 31, 1 << 31, false),
        ] {
            assert_eq!(pick_side(draw, threshold), first, "{draw} {threshold}");
        }
    }
}
