//! Requests come first: what else a node does waits for a processor that a worker wants.
#![expect(unsafe_code, reason = "no crate here offers the scheduler's policies")]

use std::io;
use std::mem::size_of;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How much less of a contended processor than a worker the calling thread gets, as a nice value (`sched(7)`): about a
/// tenth. What it does takes longer then, and goes on all the same.
const NICE: i32 = 10;

/// How long background work waits for workers that leave it no time, before it takes its tenth after all.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a worker wants the processor at a time. Shorter than what the kernel gives everybody (0.7 ms and more, by the
/// number of processors), so that a worker that wakes is let in at once (EEVDF, since Linux 6.12) and not when the other
/// has had its time. It gets no more of the processor for that.
const SLICE: Duration = Duration::from_micros(500);

/// Lets the calling thread, and threads that it starts from now on, in as soon as they wake, where the kernel knows how.
pub(crate) fn be_prompt() {
    if let Err(error) = set_slice(SLICE) {
        tracing::info!(%error, "workers wait for their turn as any thread does");
    }
}

/// Lets workers go before the calling thread (on Linux it concerns that alone), and before threads that it starts from
/// now on.
pub(crate) fn yield_to_workers() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "changes of the configuration will delay requests");
    }
}

/// Work of one thread that no request waits for. A nice value alone leaves the thread the processor until it has had
/// what it is owed, some milliseconds at a time; under the policy for idle processors (`SCHED_IDLE`) a worker that has
/// something to do goes first at once. Where workers leave it no time, a guard gives the thread back its usual policy.
pub(crate) struct Background(Option<Arc<Desk>>);

/// What the thread and its guard know.
struct Desk {
    thread: libc::pid_t,
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    None,
    Since(Instant),
    /// There will be none any more.
    Over,
}

impl Background {
    /// Background work of the calling thread. The guard has the priority that the thread has now. Without permission
    /// to take back a policy (`CAP_SYS_NICE`) the work is done as any other.
    pub(crate) fn new() -> Self {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        let desk = Arc::new(Desk { thread, work: Mutex::new(Work::None), changed: Condvar::new() });
        match start_guard(&desk) {
            Ok(()) => Self(Some(desk)),
            Err(error) => {
                tracing::warn!(%error, "changes of the configuration will delay requests a little; CAP_SYS_NICE prevents that");
                Self(None)
            }
        }
    }

    /// Does something behind the workers' backs.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        // Dropped also when the work panics.
        let _shift = self.0.as_deref().map(Shift::begin);
        work()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(desk) = &self.0 {
            *desk.work() = Work::Over;
            desk.changed.notify_all();
        }
    }
}

/// Starts the guard, if policies can be taken back.
fn start_guard(desk: &Arc<Desk>) -> io::Result<()> {
    let (tell, told) = mpsc::sync_channel(1);
    let guard = {
        let desk = Arc::clone(desk);
        move || {
            // 0 is the calling thread.
            let is_permitted = set_policy(0, libc::SCHED_IDLE).and_then(|()| set_policy(0, libc::SCHED_OTHER));
            let is_needed = is_permitted.is_ok();
            let _ = tell.send(is_permitted);
            if is_needed {
                desk.guard();
            }
        }
    };
    std::thread::Builder::new().name("weir-patience".to_owned()).spawn(guard)?;
    told.recv().unwrap_or_else(|gone| Err(io::Error::other(gone)))
}

impl Desk {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the patience of work that takes too long, until there is none any more.
    fn guard(&self) {
        let mut work = self.work();
        loop {
            let now = *work;
            work = match now {
                Work::Over => return,
                Work::None => self.changed.wait(work).unwrap_or_else(PoisonError::into_inner),
                Work::Since(begun) => {
                    let left = PATIENCE.saturating_sub(begun.elapsed());
                    if left.is_zero() {
                        // The thread may have ended; then there is nobody to give it to.
                        let _ = set_policy(self.thread, libc::SCHED_OTHER);
                        self.changed.wait_while(work, |work| *work == now).unwrap_or_else(PoisonError::into_inner)
                    } else {
                        self.changed.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                }
            };
        }
    }
}

/// One piece of background work.
struct Shift<'d>(&'d Desk);

impl<'d> Shift<'d> {
    fn begin(desk: &'d Desk) -> Self {
        *desk.work() = Work::Since(Instant::now());
        desk.changed.notify_all();
        // That it was possible once says that it is.
        let _ = set_policy(0, libc::SCHED_IDLE);
        Self(desk)
    }
}

impl Drop for Shift<'_> {
    fn drop(&mut self) {
        let _ = set_policy(0, libc::SCHED_OTHER);
        *self.0.work() = Work::None;
        self.0.changed.notify_all();
    }
}

/// Sets how a thread is scheduled (`sched_setscheduler(2)`); its nice value stays.
fn set_policy(thread: libc::pid_t, policy: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a structure of the kernel's layout that lives until the call returns.
    match unsafe { libc::sched_setscheduler(thread, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How the calling thread is scheduled.
fn attributes() -> io::Result<libc::sched_attr> {
    let mut attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the pointer is to a structure of the kernel's layout and of the size that is told.
    match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, attributes.size, 0) } {
        0 => Ok(attributes),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets how long the calling thread wants the processor at a time (`sched_setattr(2)`); everything else stays.
fn set_slice(slice: Duration) -> io::Result<()> {
    let sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    let attributes = libc::sched_attr { sched_runtime, ..attributes()? };
    // SAFETY: the pointer is to a structure of the kernel's layout, whose size it says.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_of_a_prompt_thread_are_prompt() {
        let started = std::thread::spawn(|| {
            let before = attributes().unwrap();
            be_prompt();
            (before, std::thread::spawn(|| attributes().unwrap()).join().unwrap())
        });
        let (before, after) = started.join().unwrap();
        // Older kernels say nothing of it, and ignore it.
        let slice = if before.sched_runtime == 0 { 0 } else { 500_000 };
        assert_eq!(after.sched_runtime, slice);
        assert_eq!((after.sched_policy, after.sched_nice), (before.sched_policy, before.sched_nice));
    }

    fn policy() -> libc::c_int {
        // SAFETY: takes no pointer.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn work_goes_behind_the_others_until_patience_ends() {
        let background = Background::new();
        assert!(background.0.is_some(), "this needs CAP_SYS_NICE");
        for _ in 0..2 {
            assert_eq!(background.run(policy), libc::SCHED_IDLE);
            assert_eq!(policy(), libc::SCHED_OTHER);
        }
        background.run(|| {
            let begun = Instant::now();
            while policy() == libc::SCHED_IDLE {
                assert!(begun.elapsed() < Duration::from_secs(30), "nobody ended the patience");
                std::thread::yield_now();
            }
            assert!(begun.elapsed() >= PATIENCE / 2);
        });
        assert_eq!(background.run(policy), libc::SCHED_IDLE, "the next has as much patience");
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            background.run(|| std::panic::resume_unwind(Box::new(())));
        }));
        assert!(panic.is_err());
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}
