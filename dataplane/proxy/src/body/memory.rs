//! The memory of bodies that are kept for a while, for copies and for further tries: they lie in blocks of their own,
//! each charged for as long as anybody holds it.
//!
//! A reference to what was read would cost no copying, but keep the whole buffer alive that it was read into, which can
//! be many times as large, and cannot be counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use weir_core::fairness;

/// What a block costs beyond its bytes: its own parts, its place in a queue, and the reference that is sent.
const BLOCK_COST: usize = 128;

/// Memory of a worker for one purpose. Atomic only because buffers that are sent may be dropped on any thread, as far
/// as types can tell; nobody but its worker touches it.
#[derive(Debug)]
pub(crate) struct Budget(AtomicUsize);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(bytes)))
    }

    /// How much is left.
    pub(crate) fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes this much for somebody until the charge is dropped. `None` when so much is not left, or when others would
    /// have less left than it has.
    pub(crate) fn charge(self: &Arc<Self>, holder: &Arc<Held>, bytes: usize) -> Option<Charge> {
        let (left, own) = (self.left(), holder.0.load(Ordering::Relaxed));
        if !fairness::may_take(own, bytes, 0, left) {
            return None;
        }
        self.0.store(left - bytes, Ordering::Relaxed);
        holder.0.store(own + bytes, Ordering::Relaxed);
        Some(Charge { budget: Arc::clone(self), holder: Arc::clone(holder), bytes })
    }
}

/// What somebody has of a budget. Atomic for the same reason.
#[derive(Debug, Default)]
pub(crate) struct Held(AtomicUsize);

/// A part of a budget that is in use.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    holder: Arc<Held>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::Relaxed);
        self.holder.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes of a body that wait or are being sent.
#[derive(Debug)]
pub(crate) struct Block {
    data: Vec<u8>,
    room: usize,
    charge: Charge,
}

impl Block {
    /// What a block for this many bytes costs.
    pub(crate) fn cost(room: usize) -> usize {
        room + BLOCK_COST
    }

    /// An empty block for as many bytes as the charge pays for.
    pub(crate) fn new(charge: Charge) -> Self {
        let room = charge.bytes.saturating_sub(BLOCK_COST);
        Self { data: Vec::with_capacity(room), room, charge }
    }

    /// Puts in as much as there is room for. Returns the rest.
    pub(crate) fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (now, rest) = bytes.split_at(bytes.len().min(self.room - self.data.len()));
        self.data.extend_from_slice(now);
        rest
    }

    pub(crate) fn charged(&self) -> usize {
        self.charge.bytes
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn who_holds_much_leaves_as_much_to_the_others() {
        let budget = Budget::new(1_000);
        let (greedy, modest) = (Arc::default(), Arc::default());
        let take = |holder| (0..20).map_while(|_| budget.charge(holder, 100)).collect::<Vec<_>>();
        let held = take(&greedy);
        assert_eq!((held.len(), take(&modest).len()), (5, 3));
        drop(held);
        assert_eq!(take(&greedy).len(), 5, "what was given back counts no more");
    }

    #[test]
    fn a_block_is_charged_until_the_last_reference_to_it_is_gone() {
        let (budget, holder) = (Budget::new(1_000), Arc::default());
        let mut block = Block::new(budget.charge(&holder, Block::cost(10)).unwrap());
        assert_eq!(block.fill(b"0123456"), b"");
        assert_eq!(block.fill(b"789abc"), b"abc");
        assert_eq!(block.fill(b"abc"), b"abc");
        let bytes = Bytes::from_owner(block);
        let part = bytes.slice(2..4);
        assert_eq!((&bytes[..], &part[..]), (&b"0123456789"[..], &b"23"[..]));
        drop(bytes);
        assert_eq!(budget.left(), 1_000 - Block::cost(10));
        drop(part);
        assert_eq!(budget.left(), 1_000);
        assert!(budget.charge(&holder, 1_001).is_none());
        assert_eq!(budget.left(), 1_000);
    }
}
