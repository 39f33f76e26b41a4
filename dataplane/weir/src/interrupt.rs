//! Ctrl-C and SIGTERM for commands that must end in order.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};

/// Whether the user asked to stop.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<(Mutex<bool>, Condvar)>);

impl Interrupt {
    /// Begins to listen; from now on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// When the system refuses a thread or a signal handler.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let this = Self::default();
        let set = this.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
            });
            *set.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            set.0.1.notify_all();
        })?;
        Ok(this)
    }

    /// Whether a signal has come.
    pub(crate) fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a signal.
    pub(crate) fn wait(&self) {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(guard, |set| !*set).unwrap_or_else(PoisonError::into_inner));
    }
}
