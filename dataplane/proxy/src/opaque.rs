//! Connections that are not HTTP: passed on unchanged to an endpoint of the service that the client meant.

use std::io;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use weir_core::snapshot::Snapshot;
use weir_core::split::Target;
use weir_telemetry::WorkerEvent;

use crate::downstream::{Downstream, reset};
use crate::observe::Observation;
use crate::relay::{self, End};
use crate::stream::Stream;
use crate::upstream::Picked;
use crate::watch::Verdict;

/// Passes a connection on. Rules do not concern it: it goes to the service itself.
pub(crate) async fn pass(downstream: &Rc<Downstream>, stream: Stream, seen: Bytes) {
    let worker = &downstream.worker;
    worker.shard.on(WorkerEvent::Opaque);
    let picked = pick(downstream, &worker.snapshot());
    let leased = match picked {
        Some(picked) => {
            let observation = Observation::begin(&picked);
            let leased = picked.endpoint.lease_raw().await;
            observation.connected(leased.is_ok());
            leased.ok()
        }
        None => None,
    };
    let Some((upstream, _lease)) = leased else {
        worker.shard.on(WorkerEvent::OpaqueFailed);
        return reset(stream.tcp());
    };
    let (down, up) = (End { stream, seen }, End { stream: upstream, seen: Bytes::new() });
    end(downstream, &downstream.watched.guard(pin!(relay::relay(downstream, down, up))).await);
}

/// Counts how a relay ended.
pub(crate) fn end(downstream: &Downstream, end: &Result<io::Result<()>, Verdict>) {
    if let Err(verdict) = end {
        downstream.worker.shard.on(verdict.event());
    }
}

fn pick(downstream: &Downstream, snapshot: &Snapshot) -> Option<Picked> {
    let worker = &downstream.worker;
    let frontend = downstream.meant.service(snapshot)?;
    let Target::Cluster(cluster) = &frontend.service.target else { return None };
    worker.pools.pick(cluster, downstream.peer, None, worker.random.next())
}
