//! Where requests come from, as far as counters tell it apart: workloads by their app, not by their pods, which come and
//! go.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cells::Counter;

/// Number of a source in the counters of every worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

impl SourceId {
    /// Everything beyond the bound of the table.
    pub const OVERFLOW: Self = Self(0);
    /// Clients that are no workload of the mesh.
    pub const OUTSIDE: Self = Self(1);

    pub(crate) fn at(index: usize) -> Self {
        Self(index as u32)
    }

    /// Its place in arrays.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who a source is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Everything beyond the bound of the table.
    Overflow,
    /// Clients that are no workload of the mesh.
    Outside,
    /// Pods of one app.
    App {
        /// Their namespace.
        namespace: Arc<str>,
        /// What they are.
        name: Arc<str>,
    },
}

impl Source {
    /// Namespace and name, as labels have them: both empty outside of the mesh.
    pub(crate) fn labels(&self) -> [&str; 2] {
        match self {
            Self::Overflow => ["overflow", "overflow"],
            Self::Outside => ["", ""],
            Self::App { namespace, name } => [namespace, name],
        }
    }
}

// For people; the export has both parts apart.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow => f.write_str("others"),
            Self::Outside => f.write_str("outside the mesh"),
            Self::App { namespace, name } => write!(f, "{namespace}/{name}"),
        }
    }
}

/// Gives every source a number that stays the same for the life of the process.
#[derive(Debug)]
pub(crate) struct SourceTable(Mutex<Known>);

#[derive(Debug)]
struct Known {
    ids: HashMap<Source, SourceId>,
    sources: Vec<Source>,
}

impl Default for SourceTable {
    fn default() -> Self {
        Self(Mutex::new(Known { ids: HashMap::new(), sources: vec![Source::Overflow, Source::Outside] }))
    }
}

impl SourceTable {
    /// How many sources are told apart.
    pub(crate) const CAPACITY: usize = 1_024;

    /// The number of an app, the same each time.
    pub(crate) fn id(&self, namespace: &Arc<str>, name: &Arc<str>) -> SourceId {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source = Source::App { namespace: Arc::clone(namespace), name: Arc::clone(name) };
        if let Some(id) = known.ids.get(&source) {
            return *id;
        }
        if known.sources.len() >= Self::CAPACITY {
            return SourceId::OVERFLOW;
        }
        let id = SourceId(known.sources.len() as u32);
        known.sources.push(source.clone());
        known.ids.insert(source, id);
        id
    }

    /// All sources, in the order of their numbers.
    pub(crate) fn sources(&self) -> Vec<Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sources.clone()
    }
}

/// Something that a source wanted and did not get, so that others have some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refused {
    /// A connection: reset.
    Connection,
    /// A request: answered with 503.
    Request,
    /// Room for bodies: its connection in HTTP/2 has the smallest window.
    Window,
}

impl Refused {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::Connection, Self::Request, Self::Window];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Request => "request",
            Self::Window => "window",
        }
    }
}

/// What a worker counts for a source, whatever it asks for.
#[derive(Debug, Default)]
pub struct SourceCounters {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) refused: [Counter; Refused::COUNT],
    /// Nanoseconds of the processor.
    pub(crate) processor: Counter,
    /// Bytes that were passed on unchanged, from the source and to it.
    pub(crate) relayed: [Counter; 2],
}

impl SourceCounters {
    /// A connection was accepted.
    pub fn on_open(&self) {
        self.opened.add(1);
    }

    /// It ended. To be called once for each [`SourceCounters::on_open`].
    pub fn on_close(&self) {
        self.closed.add(1);
    }

    /// It did not get something.
    pub fn on_refused(&self, refused: Refused) {
        self.refused[refused as usize].add(1);
    }

    /// The processor was busy for it so long.
    pub fn on_processor_time(&self, nanos: u64) {
        self.processor.add(nanos);
    }

    /// Bytes from it were passed on unchanged.
    pub fn on_relayed_from(&self, bytes: u64) {
        self.relayed[0].add(bytes);
    }

    /// Bytes to it were passed on unchanged.
    pub fn on_relayed_to(&self, bytes: u64) {
        self.relayed[1].add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_keeps_its_number_and_what_is_too_many_has_one_together() {
        let table = SourceTable::default();
        let id = |name: &str| table.id(&"default".into(), &name.into());
        assert_eq!((id("a").index(), id("b").index(), id("a").index()), (2, 3, 2));
        (0..SourceTable::CAPACITY).for_each(|number| {
            id(&number.to_string());
        });
        assert_eq!((id("one more"), id("b").index()), (SourceId::OVERFLOW, 3));
        assert_eq!(table.sources().len(), SourceTable::CAPACITY);
    }
}
