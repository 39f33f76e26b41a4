//! Names for what is counted. A compiled object carries a small number, by which who counts finds the counters.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;

use crate::name::{ClusterName, ObjectName};

/// Number of what is counted, the same in all workers. Id 0 is [`StatsKey::Overflow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatsId(pub u32);

/// What a row of counters is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StatsKey {
    /// Requests of everything beyond the bound of the table.
    Overflow,
    /// Requests that a rule (or, without one, the service itself) sent to a destination.
    Route {
        /// The rule that matched; `None` when the request simply went to the service it was sent to.
        rule: Option<ObjectName>,
        /// The destination that was chosen.
        destination: ClusterName,
    },
    /// Copies of requests that a rule sent to a mirror.
    Mirror {
        /// The rule that asks for the mirror.
        rule: ObjectName,
        /// Where copies go.
        destination: ClusterName,
    },
}

/// Gives every key a number that stays the same for the life of the process, so that counters survive a change of
/// the configuration. Bounded: beyond [`StatsTable::CAPACITY`] keys everything new is counted together.
#[derive(Debug)]
pub struct StatsTable {
    /// By the key's hash, or the next one that is free: keys are kept once.
    ids: HashMap<u64, StatsId, FixedState>,
    keys: Vec<StatsKey>,
}

impl Default for StatsTable {
    fn default() -> Self {
        let mut table = Self { ids: HashMap::default(), keys: Vec::new() };
        table.id(StatsKey::Overflow);
        table
    }
}

impl StatsTable {
    /// How many keys are told apart; at about 1 KiB a key and worker this bounds memory to tens of MiB.
    pub const CAPACITY: usize = 16_384;

    /// The number for a key, the same each time.
    pub fn id(&mut self, key: StatsKey) -> StatsId {
        let mut hash = FixedState::default().hash_one(&key);
        while let Some(id) = self.ids.get(&hash) {
            if self.keys[id.0 as usize] == key {
                return *id;
            }
            hash = hash.wrapping_add(1);
        }
        if self.keys.len() >= Self::CAPACITY {
            return StatsId(0);
        }
        let id = StatsId(self.keys.len() as u32);
        self.keys.push(key);
        self.ids.insert(hash, id);
        id
    }

    /// All keys, in the order of their numbers.
    pub fn keys(&self) -> &[StatsKey] {
        &self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str) -> StatsKey {
        let destination = ClusterName { service: crate::name::ServiceName::new("default", name), port: 80 };
        StatsKey::Route { rule: None, destination }
    }

    #[test]
    fn a_key_has_one_number_for_ever() {
        let mut table = StatsTable::default();
        assert_eq!(table.id(StatsKey::Overflow), StatsId(0));
        let (a, b) = (table.id(route("a")), table.id(route("b")));
        assert_eq!((a, b), (StatsId(1), StatsId(2)));
        assert_eq!((table.id(route("a")), table.id(route("b"))), (a, b));
        assert_eq!(table.keys(), [StatsKey::Overflow, route("a"), route("b")]);
        // Another key with the hash of one that is known takes the next place.
        let hash = FixedState::default().hash_one(route("c"));
        table.ids.insert(hash, a);
        let c = table.id(route("c"));
        assert_eq!((c, table.id(route("c"))), (StatsId(3), c));
    }

    #[test]
    fn beyond_the_bound_everything_is_counted_together() {
        let mut table = StatsTable::default();
        (1..StatsTable::CAPACITY).for_each(|number| assert_ne!(table.id(route(&number.to_string())), StatsId(0)));
        assert_eq!(table.id(route("one more")), StatsId(0));
        assert_eq!(table.id(route("1")), StatsId(1));
    }
}
