//! Ending by a signal without leaving labs behind, for processes that have no other use for signals, as tests are.

use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::{registry, teardown, tool};

/// How long an end by a signal waits for a lab that is being made: half of one is hard to remove while the other half
/// appears.
const CHANGE_LIMIT: Duration = Duration::from_secs(5);

/// How many labs are being changed at this moment.
static CHANGES: AtomicUsize = AtomicUsize::new(0);

/// A change of a lab, from the making of this value to its end.
pub(crate) struct Change;

impl Change {
    pub(crate) fn begin() -> Self {
        CHANGES.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        CHANGES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// From now on SIGHUP, SIGINT and SIGTERM remove this process's labs and end it, with the exit status that a shell gives
/// such an end (128 and the signal's number). `rest` removes what the process made beside its labs, after these are gone.
/// The first call counts.
///
/// # Panics
/// When there is neither a thread nor a descriptor left.
pub fn remove_on_signals(rest: fn()) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.expect("descriptors for a runtime");
        let kinds = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()];
        let signals: io::Result<Vec<_>> = {
            let _inside = runtime.enter();
            kinds.into_iter().map(|kind| Ok((kind, signal(kind)?))).collect()
        };
        let mut signals = signals.expect("signals can be handled");
        thread::spawn(move || {
            let kind = runtime.block_on(std::future::poll_fn(|context| {
                let mut came = signals
                    .iter_mut()
                    .filter_map(|(kind, signal)| signal.poll_recv(context).is_ready().then_some(*kind));
                came.next().map_or(std::task::Poll::Pending, std::task::Poll::Ready)
            }));
            tool::until(CHANGE_LIMIT, || CHANGES.load(Ordering::SeqCst) == 0);
            remove_own();
            rest();
            std::process::exit(128 + kind.as_raw_value());
        });
    });
}

/// Removes this process's labs, as well as that is possible: there is nobody to tell of what resists but the terminal.
fn remove_own() {
    for id in registry::own().unwrap_or_default() {
        if let Err(error) = teardown::remove(&id) {
            #[expect(clippy::print_stderr, reason = "the process ends now, and has no other way to tell")]
            {
                eprintln!("weir-lab: the lab {id} was not removed: {error}");
            }
        }
    }
}
