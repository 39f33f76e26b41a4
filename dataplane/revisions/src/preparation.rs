//! What a change needs made ready before it can be in force, seen from the publisher.

use std::time::Duration;

use weir_core::name::ObjectName;
use weir_core::snapshot::Snapshot;

/// Why something of a candidate cannot be made ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// Whose document is at fault.
    pub object: ObjectName,
    /// The field that says what cannot be made ready, as a path of keys.
    pub field: &'static [&'static str],
    /// What is wrong.
    pub message: String,
    /// When it is worth another try, where it may be right later without any other document.
    pub again: Option<Duration>,
}

/// Makes ready what a candidate has that takes long, or can fail: its plugins.
pub trait Preparation {
    /// Makes ready what is not yet. What the snapshot in force uses stays as it is. What is said is wrong with the
    /// candidate.
    fn prepare(&mut self, candidate: &Snapshot) -> Vec<Unready>;
}

/// Makes nothing ready: what has plugins is in force without them. For tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPreparation;

impl Preparation for NoPreparation {
    fn prepare(&mut self, _candidate: &Snapshot) -> Vec<Unready> {
        Vec::new()
    }
}
