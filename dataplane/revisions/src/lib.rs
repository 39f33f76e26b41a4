//! The version log, and the one place that knows the order of a change: prepare, kernel, publish, record, retire.
//!
//! Nothing else swaps the snapshot. This crate does not read sources and does not touch the kernel; it decides when
//! others do.

mod cycle;
mod interception;
pub mod log;
mod preparation;
mod publisher;
mod reader;
mod record;
mod tally;
mod unrecorded;

pub use cycle::{Cycle, Outcome, Rejection, Step, StepName, Trigger};
pub use interception::{Interception, KernelPlan, NoInterception};
pub use log::{Kept, KeptDocument, Log, LogError, Retention, Seen, SelectError, Selector};
pub use preparation::{NoPreparation, Preparation, Unready};
pub use publisher::{Publisher, Source};
pub use reader::{Announcement, InForce, Reader};
pub use record::{Cause, ContentHash, Counts, Diff, Record, VersionRef};
