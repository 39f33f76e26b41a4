//! Connections that are not HTTP: passed on unchanged to an endpoint of the service that the client meant.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use weir_core::snapshot::Snapshot;
use weir_core::split::Target;
use weir_telemetry::WorkerEvent;

use crate::authorize;
use crate::downstream::Downstream;
use crate::observe::Observation;
use crate::plan::Meant;
use crate::plugins::{Closed, Connection};
use crate::relay::{self, End};
use crate::stream::Stream;
use crate::upstream::{Picked, RawLease};
use crate::watch::Verdict;

/// A connection to an endpoint on which nothing was said yet.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    endpoint: SocketAddr,
    _lease: RawLease,
}

/// Connects to an endpoint of the service that a client meant. Rules do not concern it. `None` when none can be reached.
pub(crate) async fn open(downstream: &Downstream) -> Option<Opened> {
    let picked = pick(downstream, &downstream.worker.snapshot())?;
    let endpoint = picked.endpoint.address();
    if authorize::connection(&downstream.worker, downstream.caller(), endpoint).is_err() {
        downstream.worker.shard.on(WorkerEvent::OpaqueDenied);
        return None;
    }
    let way = downstream.worker.way(downstream.caller(), endpoint);
    downstream.watched.reach(downstream.reached(endpoint, true));
    let observation = Observation::begin(&picked);
    let leased = picked.endpoint.lease_raw(&way, downstream.peer).await;
    observation.connected(leased.is_ok());
    leased.ok().map(|(stream, _lease)| Opened { stream, endpoint, _lease })
}

/// Passes a connection on, to an endpoint that is connected already or to another.
pub(crate) async fn pass(downstream: &Rc<Downstream>, mut stream: Stream, seen: Bytes, opened: Option<Opened>) {
    let shard = &downstream.worker.shard;
    shard.on(WorkerEvent::Opaque);
    let plugins = if downstream.worker.snapshot().has_plugins() {
        // Boxed: most connections have none.
        match Box::pin(begin(downstream)).await {
            Ok(plugins) => plugins,
            Err(Closed) => {
                shard.on(WorkerEvent::OpaqueStopped);
                return stream.reset();
            }
        }
    } else {
        None
    };
    let opened = match opened {
        Some(opened) => Some(opened),
        None => open(downstream).await,
    };
    let Some(Opened { stream: upstream, endpoint, _lease }) = opened else {
        shard.on(WorkerEvent::OpaqueFailed);
        return stream.reset();
    };
    if let Some(plugins) = &plugins {
        plugins.on_endpoint(endpoint);
    }
    let (down, up) = (End { stream: &mut stream, seen }, End { stream: upstream, seen: Bytes::new() });
    let relayed = relay::relay(downstream, down, up, plugins.as_ref());
    let ended = downstream.watched.guard(pin!(relayed)).await;
    end(downstream, &mut stream, &ended);
}

/// Shows a connection to the plugins of its service, and waits until they let it begin.
async fn begin(downstream: &Rc<Downstream>) -> Result<Option<Connection>, Closed> {
    let plugins = Connection::begin(downstream, &downstream.worker.snapshot())?;
    if let Some(plugins) = &plugins {
        let begun = pin!(plugins.begun());
        downstream.watched.guard(begun).await.map_err(|_| Closed)??;
    }
    Ok(plugins)
}

/// Counts how a relay ended. What is no longer allowed must not look as if it were complete.
pub(crate) fn end(downstream: &Downstream, stream: &mut Stream, end: &Result<io::Result<()>, Verdict>) {
    if matches!(end, Err(Verdict::Denied)) {
        stream.reset();
    }
    match end {
        Err(verdict) => downstream.worker.shard.on(verdict.event()),
        Ok(Err(error)) if Closed::is_cause(error) => downstream.worker.shard.on(WorkerEvent::OpaqueStopped),
        Ok(_) => {}
    }
}

fn pick(downstream: &Downstream, snapshot: &Snapshot) -> Option<Picked> {
    let worker = &downstream.worker;
    if let Meant::Workload(address) = downstream.meant {
        return Some(Picked { endpoint: worker.pools.endpoint(address), observer: None, permit: None });
    }
    let frontend = downstream.meant.service(snapshot)?;
    let Target::Cluster(cluster) = &frontend.service.target else { return None };
    worker.pools.pick(cluster, downstream.peer, None, worker.random.next())
}
