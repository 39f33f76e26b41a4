//! The clock by which callbacks are interrupted: a thread of its own, since the one that a callback runs on is the one
//! that it may hold up. It rests while no plugin runs.
#![expect(unsafe_code, reason = "no crate here offers the scheduler's policies")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// Between two ticks.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Ticks without a callback after which it rests.
const IDLE_TICKS: u32 = 50;

/// Told of every callback; interrupts those that take long.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    /// Whether a callback began, or was interrupted and went on, since the last tick.
    is_used: AtomicBool,
    is_resting: AtomicBool,
    is_over: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(engine: &wasmtime::Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            is_used: AtomicBool::new(false),
            is_resting: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let (engine, of_thread) = (engine.clone(), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("weir-plugin-clock".to_owned()).stack_size(64 << 10);
        let run = move || {
            if let Err(error) = come_first() {
                tracing::info!(%error, "on a busy processor plugins are stopped late; CAP_SYS_NICE prevents that");
            }
            of_thread.run(&engine);
        };
        let thread = thread.spawn(run)?.thread().clone();
        Ok(Self { shared, thread })
    }

    /// A callback begins, or goes on after it was interrupted.
    pub(crate) fn on_callback(&self) {
        let Shared { is_used, is_resting, .. } = &*self.shared;
        // Once a tick this is a write; the other times it costs nothing that workers would have in common.
        if is_used.load(Ordering::Acquire) {
            return;
        }
        is_used.store(true, Ordering::SeqCst);
        if is_resting.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

/// Lets the calling thread in as soon as it wakes, before all that is no clock (`sched(7)`): whoever starts it may be one that yields to
/// workers, and what it is to interrupt is a worker that has the processor. It needs microseconds at a time.
fn come_first() -> io::Result<()> {
    let set = |policy, sched_priority| {
        let parameters = libc::sched_param { sched_priority };
        // SAFETY: the pointer is to a structure of the kernel's layout that lives until the call returns; 0 is the calling thread.
        match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    set(libc::SCHED_FIFO, 1).or_else(|error| set(libc::SCHED_OTHER, 0).and(Err(error)))
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Shared {
    fn run(&self, engine: &wasmtime::Engine) {
        let mut idle = 0;
        while !self.is_over.load(Ordering::Acquire) {
            std::thread::sleep(TICK);
            engine.increment_epoch();
            idle = if self.is_used.swap(false, Ordering::SeqCst) { 0 } else { idle + 1 };
            if idle >= IDLE_TICKS {
                self.rest();
                idle = 0;
            }
        }
    }

    /// Waits for the next callback. Whoever begins one marks it first and then looks whether anybody rests; here it is
    /// the other way round, so that at least one of both sees the other.
    fn rest(&self) {
        self.is_resting.store(true, Ordering::SeqCst);
        while !self.is_used.load(Ordering::SeqCst) && !self.is_over.load(Ordering::Acquire) {
            std::thread::park();
        }
        self.is_resting.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// How the threads of this process are scheduled that are clocks.
    fn policies() -> Vec<libc::c_int> {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let is_clock = |thread: &std::fs::DirEntry| {
            std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.starts_with("weir-plugin-clo"))
        };
        let clocks = threads.filter(is_clock).filter_map(|thread| thread.file_name().to_str()?.parse().ok());
        // SAFETY: takes no pointer.
        clocks.map(|thread| unsafe { libc::sched_getscheduler(thread) }).collect()
    }

    #[test]
    fn the_clock_comes_first_whoever_starts_it() {
        let start = || {
            let parameters = libc::sched_param { sched_priority: 0 };
            // SAFETY: the pointer is to a structure of the kernel's layout that lives until the call returns.
            assert_eq!(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) }, 0);
            Ticker::start(&wasmtime::Engine::default()).unwrap()
        };
        let _ticker = std::thread::spawn(start).join().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !policies().contains(&libc::SCHED_FIFO) {
            assert!(Instant::now() < deadline, "this needs CAP_SYS_NICE: {:?}", policies());
            std::thread::yield_now();
        }
    }
}
