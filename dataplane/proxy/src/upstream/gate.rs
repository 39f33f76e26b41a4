//! The waker of a connection that is polled inside another task.
//!
//! A connection's parts wake each other while one of them is being polled. Passed on, each such wake-up would queue
//! the whole task once more, for nothing. The gate keeps them: the poller looks for them itself before it leaves.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// Something has happened to the connection since it was polled, or it never was.
const STIRRED: u8 = 0;
/// Nothing has.
const QUIET: u8 = 1;
/// It is being polled.
const INSIDE: u8 = 2;
/// The same, and it has woken itself.
const WOKEN: u8 = 3;

#[derive(Debug, Default)]
pub(super) struct Gate {
    state: AtomicU8,
    /// Whom to wake from outside; `None` while the connection rests in a pool.
    task: Mutex<Option<Waker>>,
}

impl Gate {
    pub(super) fn new() -> (Arc<Self>, Waker) {
        let gate = Arc::new(Self::default());
        (Arc::clone(&gate), Waker::from(gate))
    }

    /// Names the task that is polling; `None` for a look without interest in wake-ups.
    pub(super) fn set_task(&self, waker: Option<&Waker>) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*task, waker) {
            (Some(current), Some(waker)) if current.will_wake(waker) => {}
            _ => *task = waker.cloned(),
        }
    }

    /// Polling begins.
    pub(super) fn enter(&self) {
        self.state.store(INSIDE, Ordering::Release);
    }

    /// Polling has ended. Whether there was a wake-up meanwhile.
    pub(super) fn leave(&self) -> bool {
        let left = |state| Some(if matches!(state, INSIDE | QUIET) { QUIET } else { STIRRED });
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, left) == Ok(WOKEN)
    }

    /// Whether there is nothing new to see by polling.
    pub(super) fn is_quiet(&self) -> bool {
        self.state.load(Ordering::Acquire) == QUIET
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let woken = |state| Some(if matches!(state, INSIDE | WOKEN) { WOKEN } else { STIRRED });
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, woken);
        if !matches!(before, Ok(INSIDE | WOKEN))
            && let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner)
        {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn wake_ups_from_inside_stay_inside() {
        let count = Arc::new(Count::default());
        let (gate, waker) = Gate::new();
        waker.wake_by_ref();
        gate.set_task(Some(&Waker::from(Arc::clone(&count))));
        gate.enter();
        waker.wake_by_ref();
        assert!(gate.leave());
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        gate.enter();
        assert!(!gate.leave());
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        gate.set_task(None);
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn quiet_is_what_was_polled_and_not_woken_since() {
        let (gate, waker) = Gate::new();
        assert!(!gate.is_quiet(), "never polled");
        gate.enter();
        assert!(!gate.is_quiet(), "being polled");
        gate.leave();
        assert!(gate.is_quiet());
        waker.wake_by_ref();
        assert!(!gate.is_quiet(), "woken since");
        gate.enter();
        waker.wake_by_ref();
        gate.leave();
        assert!(!gate.is_quiet(), "it has woken itself");
    }
}
