//! How a proxy is told to end: first to accept no more, then to finish.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not at all.
    Running,
    /// Nothing is accepted any more; what is connected stays.
    Closed,
    /// Connections are closed as their requests end, and all of them at this time.
    Finishing(Instant),
}

/// Tells a proxy to end. Clones do the same; dropping them does nothing.
#[derive(Clone, Debug)]
pub struct Drain(Arc<watch::Sender<Phase>>);

impl Drain {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Running)))
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }

    /// Accepts what waits in the queues of the listeners and what is on its way there, then closes them, within a
    /// second. Connections live on.
    pub fn stop_accepting(&self) {
        self.0.send_if_modified(|phase| {
            let was_running = *phase == Phase::Running;
            if was_running {
                *phase = Phase::Closed;
            }
            was_running
        });
    }

    /// Stops accepting, answers every request with `Connection: close`, closes connections that have no request for a
    /// quarter of `within`, and cuts off what is left after `within`. [`Proxy::run`](crate::Proxy::run) returns when
    /// nothing is left.
    ///
    /// Connections without a request are not closed at once, because their clients' next requests may be on the way.
    pub fn finish(&self, within: Duration) {
        self.0.send_replace(Phase::Finishing(Instant::now() + within));
    }
}
