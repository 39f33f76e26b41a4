//! What a change does to the kernel's side, seen from the publisher.

use serde::Serialize;
use weir_core::snapshot::Snapshot;

/// How many entries of the kernel's tables a candidate changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelPlan {
    /// Entries that are new.
    pub added: usize,
    /// Entries that get another value.
    pub changed: usize,
    /// Entries that go once the candidate is published.
    pub removed: usize,
}

/// The kernel's side of a change, in two steps around the swap.
pub trait Interception {
    /// Adds what a candidate needs. Nothing that the snapshot in force needs may change, because the candidate may
    /// yet not be published.
    ///
    /// # Errors
    /// Why the candidate cannot be published.
    fn stage(&mut self, candidate: &Snapshot) -> Result<KernelPlan, String>;

    /// Makes the kernel's side exactly what the published snapshot needs. May be called again with the same.
    ///
    /// # Errors
    /// What is left over. It is tried again later.
    fn settle(&mut self, published: &Snapshot) -> Result<(), String>;
}

/// Without a kernel's side: `weir check`, and tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoInterception;

impl Interception for NoInterception {
    fn stage(&mut self, _candidate: &Snapshot) -> Result<KernelPlan, String> {
        Ok(KernelPlan::default())
    }

    fn settle(&mut self, _published: &Snapshot) -> Result<(), String> {
        Ok(())
    }
}
