//! Requests come first: what else a node does waits for a processor that a worker wants.

/// How much less of a contended processor than a worker the calling thread gets, as a nice value (`sched(7)`): about a
/// tenth. What it does takes longer then, and goes on all the same.
const NICE: i32 = 10;

/// Lets workers go before the calling thread (on Linux it concerns that alone), and before threads that it starts from
/// now on.
pub(crate) fn yield_to_workers() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "changes of the configuration will delay requests");
    }
}
