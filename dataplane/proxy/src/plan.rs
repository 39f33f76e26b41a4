//! The decisions about a request, all made from one snapshot: rule, destination, endpoint, mirrors, timeouts.

use std::rc::Rc;
use std::sync::Arc;

use http::request;
use weir_core::name::{ClusterName, OriginalDst, PeerAddr};
use weir_core::route::{Decision, Request, Source, Timeouts};
use weir_core::snapshot::{Frontend, Snapshot};
use weir_core::split::{Destination, Target, Unresolved};
use weir_telemetry::{Cause, MirrorEvent};

use crate::mirror::Planned;
use crate::record::{self, Log, Record};
use crate::upstream::Endpoint;
use crate::worker::Worker;

/// Which frontend a connection was made to.
#[derive(Clone, Debug)]
pub(crate) enum Meant {
    /// The one with this address.
    Address(OriginalDst),
    /// The one of this name.
    Service(ClusterName),
}

impl Meant {
    /// The frontend, as a snapshot has it.
    pub(crate) fn frontend<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Arc<Frontend>> {
        match self {
            Self::Address(address) => snapshot.frontend_at(*address),
            Self::Service(name) => snapshot.frontend(name),
        }
    }
}

/// What is done with a request.
pub(crate) struct Plan {
    pub(crate) endpoint: Rc<Endpoint>,
    pub(crate) timeouts: Timeouts,
    pub(crate) mirrors: Vec<Planned>,
}

/// Decides about a request with the snapshot of this moment. Later changes do not touch it.
pub(crate) fn plan(
    worker: &Worker,
    meant: &Meant,
    peer: PeerAddr,
    head: &request::Parts,
    record: &mut Record,
) -> Result<Plan, Cause> {
    let snapshot = worker.snapshot();
    let workload = snapshot.workload(peer.0.ip());
    let request = Request {
        method: &head.method,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
        source: Source { address: peer.0.ip(), workload: workload.map(|workload| &**workload) },
    };
    if record::is_logged() {
        record.log = Some(Box::new(Log {
            revision: snapshot.sequence,
            method: head.method.clone(),
            path: request.path.to_owned(),
            source: workload.map(|workload| format!("{}/{}", workload.namespace, workload.name)),
            rule: None,
            destination: None,
            endpoint: None,
            mirrored: 0,
        }));
    }
    let frontend = meant.frontend(&snapshot).ok_or(Cause::UnknownService)?;
    let decision = frontend.decide(&request, worker.random.next());
    let endpoint = choose(worker, peer, frontend, &decision, record)?;
    let mirrors = mirrors(worker, peer, &decision, head);
    if let Some(log) = &mut record.log {
        log.endpoint = Some(endpoint.address());
        log.mirrored = mirrors.len();
    }
    Ok(Plan { endpoint, timeouts: decision.timeouts(), mirrors })
}

fn choose(
    worker: &Worker,
    peer: PeerAddr,
    frontend: &Frontend,
    decision: &Decision<'_>,
    record: &mut Record,
) -> Result<Rc<Endpoint>, Cause> {
    if let Some(log) = &mut record.log {
        log.rule = decision.rule.map(|rule| rule.name.clone());
        log.destination = decision.destination.map(|(destination, _)| destination.name.clone());
    }
    let Some((destination, _)) = decision.destination else {
        // The rule has no destination to count this under; its first one is where people look.
        let first = decision.rule.and_then(|rule| rule.split.destinations.first());
        record.on_route(first.unwrap_or(&frontend.service).stats);
        return Err(Cause::NoDestination);
    };
    record.on_route(destination.stats);
    match &destination.target {
        Target::Unresolved(reason) => {
            record.detail = Some(unresolved(decision, destination, *reason).into());
            Err(Cause::Unresolved)
        }
        Target::Cluster(cluster) => worker.pools.pick(cluster, peer, worker.random.next()).ok_or(Cause::NoEndpoint),
    }
}

/// Tells whoever asked what the rule's author has to look at. It names nothing that the rule does not name.
fn unresolved(decision: &Decision<'_>, destination: &Destination, reason: Unresolved) -> String {
    let ClusterName { service, port } = &destination.name;
    let rule = decision.rule.map(|rule| format!(" of rule {}/{}", rule.name.namespace, rule.name.name));
    let rule = rule.unwrap_or_default();
    format!("the destination {}.{}:{port}{rule} does not resolve: {reason}\n", service.name, service.namespace)
}

fn mirrors(worker: &Worker, peer: PeerAddr, decision: &Decision<'_>, head: &request::Parts) -> Vec<Planned> {
    let (Some(rule), [_, ..]) = (decision.rule, decision.mirrors()) else { return Vec::new() };
    let wanted = |mirror: &&weir_core::mirror::Mirror| mirror.wants(&head.method, worker.random.next());
    let planned = |mirror: &weir_core::mirror::Mirror| match &mirror.target {
        Target::Cluster(cluster) => {
            Some(Planned { rule: rule.name.clone(), cluster: Arc::clone(cluster), peer, stats: mirror.stats })
        }
        Target::Unresolved(_) => {
            let counters = worker.shard.mirror(mirror.stats);
            counters.on_start();
            counters.on_end(MirrorEvent::Unresolved);
            None
        }
    };
    rule.mirrors.iter().filter(wanted).filter_map(planned).collect()
}
