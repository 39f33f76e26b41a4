//! Consistent hashing by a table (Maglev).

use xxhash_rust::xxh3::xxh3_64;

use super::weights::Weight;

/// A table from hashes to endpoints that differs little from that of nearly the same endpoints, in which each has nearly
/// the same part.
///
/// Source: D. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
#[derive(Clone, Debug)]
pub struct Maglev(Box<[u16]>);

/// Places of every table: a prime, so that every step meets every place, and always the same one, because tables of
/// different sizes have nothing in common. Up to 160 endpoints the parts of a table differ by about one in a hundred.
const PLACES: usize = 16_381;

impl Maglev {
    /// A table of the endpoints with these names, in which each has a part by its weight.
    pub fn of_names(names: impl Iterator<Item = (String, Weight)>) -> Self {
        Self::new(&names.map(|(name, weight)| (xxh3_64(name.as_bytes()), weight)).collect::<Vec<_>>())
    }

    /// A table of the endpoints with these hashes. Of more than 16,381 only the first have a part.
    pub fn new(endpoints: &[(u64, Weight)]) -> Self {
        let endpoints = &endpoints[..endpoints.len().min(PLACES)];
        let Some(heaviest) = endpoints.iter().map(|(_, weight)| *weight).max() else { return Self(Box::default()) };
        let steps = |hash: u64| ((hash >> 32) as usize % PLACES, (hash & 0xffff_ffff) as usize % (PLACES - 1) + 1);
        let mut wanted: Vec<(usize, usize)> = endpoints.iter().map(|(hash, _)| steps(*hash)).collect();
        // A round goes by for an endpoint until it has waited for as long as its weight says.
        let mut waited = vec![0; endpoints.len()];
        let mut table = vec![None; PLACES];
        let mut left = PLACES;
        while left > 0 {
            for (endpoint, (place, step)) in wanted.iter_mut().enumerate() {
                waited[endpoint] += endpoints[endpoint].1.get();
                if waited[endpoint] < heaviest.get() {
                    continue;
                }
                waited[endpoint] -= heaviest.get();
                while table[*place].is_some() {
                    *place = (*place + *step) % PLACES;
                }
                table[*place] = Some(endpoint as u16);
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Self(table.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// The endpoint for a hash: the table's, or where that one cannot take it, the next one's that can.
    pub fn find(&self, hash: u64, can_take: impl Fn(usize) -> bool) -> Option<usize> {
        let size = self.0.len();
        if size == 0 {
            return None;
        }
        let first = (hash % size as u64) as usize;
        let mut refused = None;
        (first..first + size).map(|place| usize::from(self.0[place % size])).find(|&endpoint| {
            // Neighbours are often the same.
            let can = refused != Some(endpoint) && can_take(endpoint);
            refused = Some(endpoint);
            can
        })
    }
}
