//! Names for what is counted. A compiled object carries a small number, by which who counts finds the counters.

use std::collections::HashMap;

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
    ids: HashMap<StatsKey, StatsId>,
    keys: Vec<StatsKey>,
}

impl Default for StatsTable {
    fn default() -> Self {
        Self { ids: HashMap::from([(StatsKey::Overflow, StatsId(0))]), keys: vec![StatsKey::Overflow] }
    }
}

impl StatsTable {
    /// How many keys are told apart; at about 1 KiB a key and worker this bounds memory to tens of MiB.
    pub const CAPACITY: usize = 16_384;

    /// The number for a key, the same each time.
    pub fn id(&mut self, key: StatsKey) -> StatsId {
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        if self.keys.len() >= Self::CAPACITY {
            return StatsId(0);
        }
        let id = StatsId(self.keys.len() as u32);
        self.keys.push(key.clone());
        self.ids.insert(key, id);
        id
    }

    /// All keys, in the order of their numbers.
    pub fn keys(&self) -> &[StatsKey] {
        &self.keys
    }
}
