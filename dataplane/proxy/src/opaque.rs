//! Connections that are not HTTP: passed on unchanged to an endpoint of the service that the client meant.

use std::io;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use tokio::net::TcpStream;
use weir_core::snapshot::Snapshot;
use weir_core::split::Target;
use weir_telemetry::WorkerEvent;

use crate::authorize;
use crate::downstream::{Downstream, reset};
use crate::observe::Observation;
use crate::plugins::{Closed, Connection};
use crate::relay::{self, End};
use crate::stream::Stream;
use crate::upstream::{Picked, RawLease};
use crate::watch::{Reached, Verdict};

/// A connection to an endpoint on which nothing was said yet.
pub(crate) struct Opened {
    pub(crate) stream: TcpStream,
    _lease: RawLease,
}

/// Connects to an endpoint of the service that a client meant. Rules do not concern it. `None` when none can be reached.
pub(crate) async fn open(downstream: &Downstream) -> Option<Opened> {
    let picked = pick(downstream, &downstream.worker.snapshot())?;
    let (peer, endpoint) = (downstream.peer, picked.endpoint.address());
    if authorize::connection(&downstream.worker, peer, endpoint).is_err() {
        downstream.worker.shard.on(WorkerEvent::OpaqueDenied);
        return None;
    }
    downstream.watched.reach(Reached { peer, endpoint, is_opaque: true });
    let observation = Observation::begin(&picked);
    let leased = picked.endpoint.lease_raw().await;
    observation.connected(leased.is_ok());
    leased.ok().map(|(stream, _lease)| Opened { stream, _lease })
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
                return reset(stream.tcp());
            }
        }
    } else {
        None
    };
    let opened = match opened {
        Some(opened) => Some(opened),
        None => open(downstream).await,
    };
    let Some(Opened { stream: upstream, _lease }) = opened else {
        shard.on(WorkerEvent::OpaqueFailed);
        return reset(stream.tcp());
    };
    if let (Some(plugins), Ok(address)) = (&plugins, upstream.peer_addr()) {
        plugins.on_endpoint(address);
    }
    let (down, up) = (End { stream: &mut stream, seen }, End { stream: upstream, seen: Bytes::new() });
    let relayed = relay::relay(downstream, down, up, plugins.as_ref());
    let ended = downstream.watched.guard(pin!(relayed)).await;
    end(downstream, &stream, &ended);
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
pub(crate) fn end(downstream: &Downstream, stream: &Stream, end: &Result<io::Result<()>, Verdict>) {
    if matches!(end, Err(Verdict::Denied)) {
        reset(stream.tcp());
    }
    match end {
        Err(verdict) => downstream.worker.shard.on(verdict.event()),
        Ok(Err(error)) if Closed::is_cause(error) => downstream.worker.shard.on(WorkerEvent::OpaqueStopped),
        Ok(_) => {}
    }
}

fn pick(downstream: &Downstream, snapshot: &Snapshot) -> Option<Picked> {
    let worker = &downstream.worker;
    let frontend = downstream.meant.service(snapshot)?;
    let Target::Cluster(cluster) = &frontend.service.target else { return None };
    worker.pools.pick(cluster, downstream.peer, None, worker.random.next())
}
