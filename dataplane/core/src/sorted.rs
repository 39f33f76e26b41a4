//! Sorted sequences that change in a few places.

/// The elements of `all` without those at the places `gone` (ascending), and with others, each in front of the element
/// of `all` whose place stands beside it (ascending as well). Every element that stays is cloned once.
pub fn edited<T: Clone>(all: &[T], gone: &[usize], added: Vec<(usize, T)>) -> Vec<T> {
    let mut edited = Vec::with_capacity((all.len() + added.len()).saturating_sub(gone.len()));
    let mut gone = gone.iter().copied().peekable();
    let mut from = 0;
    let mut keep_to = |to: usize, edited: &mut Vec<T>| {
        while let Some(place) = gone.next_if(|place| *place < to) {
            edited.extend_from_slice(&all[from..place]);
            from = place + 1;
        }
        edited.extend_from_slice(&all[from..to]);
        from = to;
    };
    for (place, new) in added {
        keep_to(place, &mut edited);
        edited.push(new);
    }
    keep_to(all.len(), &mut edited);
    edited
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_and_what_comes() {
        type Case = (&'static [usize], &'static [(usize, i32)], &'static [i32]);
        let all = [10, 20, 30];
        let cases: [Case; 7] = [
            (&[], &[], &[10, 20, 30]),
            (&[0, 2], &[], &[20]),
            (&[], &[(0, 5), (3, 35), (3, 36)], &[5, 10, 20, 30, 35, 36]),
            (&[1], &[(1, 21)], &[10, 21, 30]),
            (&[1], &[(2, 21)], &[10, 21, 30]),
            (&[0, 1, 2], &[(1, 1), (1, 2)], &[1, 2]),
            (&[2], &[(0, 1), (1, 11)], &[1, 10, 11, 20]),
        ];
        for (gone, added, expected) in cases {
            assert_eq!(edited(&all, gone, added.to_vec()), expected, "{gone:?} {added:?}");
        }
    }
}
