//! `GET /api/v1/status`: what the node is doing, on one page.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use weir_core::authorization::RuleName;
use weir_core::stats::StatsKey;
use weir_identity::IdentityState;
use weir_proxy::{GatewayAddress, GatewayCertificate};
use weir_telemetry::{
    Cause, MirrorEvent, MirrorSummary, Refused, RetryEvent, RouteSummary, WorkerEvent, WorkloadSummary,
};

use crate::Node;
use crate::answer::Json;

/// What the kernel part knows. Two implementations: eBPF, and none.
pub trait KernelView: Send + Sync {
    /// Packets by what was done with them.
    fn counts(&self) -> Vec<KernelCount>;
    /// The pods found on this node.
    fn pods(&self) -> Vec<PodView>;
    /// Packets that policies have kept out or told of.
    fn rules(&self) -> Vec<RuleCount>;
}

/// What is known of the certificates of this node's workloads.
pub trait IdentityView: Send + Sync {
    /// How it is with each of them.
    fn states(&self) -> Vec<IdentityState>;
    /// Why what all have in common cannot be read as it is now, if that is so.
    fn failure(&self) -> Option<Arc<str>>;
    /// Until when the node's own authority can vouch for anything, if there is one.
    fn authority_ends(&self) -> Option<SystemTime>;
}

fn identity(identities: &dyn IdentityView) -> Value {
    let time = |at: Option<SystemTime>| at.map(|at| humantime::format_rfc3339_seconds(at).to_string());
    let states = identities.states();
    let states = states.iter().map(|one| {
        json!({
            "principal": one.principal.as_str(),
            "not_after": time(one.not_after),
            "renewal": time(one.renewal),
            "failure": one.failure,
        })
    });
    json!({
        "authority_ends": time(identities.authority_ends()),
        "failure": identities.failure(),
        "certificates": states.collect::<Vec<_>>(),
    })
}

/// What one rule of a policy has decided about packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCount {
    /// Which.
    pub rule: RuleName,
    /// Whether they were kept out; else they were told of.
    pub is_denied: bool,
    /// Number of packets.
    pub packets: u64,
}

/// Packets with which one thing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelCount {
    /// Name of the reason, from a closed set.
    pub reason: &'static str,
    /// Number of packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A pod found on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PodView {
    /// Its name where documents tell it, else that of its namespace.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Index of its link on the node.
    pub ifindex: u32,
    /// Whether its traffic is intercepted.
    pub enrolled: bool,
}

pub(crate) async fn status(State(node): State<Node>) -> Json<Value> {
    let (keys, snapshot) = (node.stats_keys(), node.snapshot.load());
    let rejected = node.reader.last_error().map(|rejection| crate::versions::rejection(&rejection));
    let waiting = node.readiness.waiting_for();
    Json(json!({
        "node": &*node.name,
        "version": env!("CARGO_PKG_VERSION"),
        "ready": waiting.is_empty(),
        "waiting_for": waiting,
        "sequence": snapshot.sequence,
        "version_id": snapshot.revision,
        "rejected": rejected,
        "warnings": node.reader.current().map(|current| current.warnings.to_vec()).unwrap_or_default(),
        "sources": node.sources.all(),
        "routes": node.telemetry.routes(&keys).iter().map(route).collect::<Vec<_>>(),
        "mirrors": node.telemetry.mirrors(&keys).iter().map(mirror).collect::<Vec<_>>(),
        "workloads": node.telemetry.workloads(&keys).iter().map(workload).collect::<Vec<_>>(),
        "connections": connections(&node),
        "gateways": gateways(&node),
        "certificates": node.gateways.certificates().iter().map(certificate).collect::<Vec<_>>(),
        "kernel": node.kernel.counts(),
        "pods": node.kernel.pods(),
        "identities": node.identities.as_ref().map(|identities| identity(&**identities)),
        "plaintext": node.drops.plaintext(),
    }))
}

/// Where gateways listen, or why not.
fn gateways(node: &Node) -> Vec<Value> {
    let snapshot = node.snapshot.load();
    let one = |at: &GatewayAddress| {
        let listeners = snapshot.gateway_port(&at.bind).into_iter().flat_map(|port| port.listeners.values());
        let names = listeners.map(|one| format!("{}/{}/{}", one.gateway.namespace, one.gateway.name, one.name));
        let names: BTreeSet<String> = names.collect();
        json!({"address": at.address.to_string(), "listeners": names, "failure": at.failure})
    };
    node.gateways.addresses().iter().map(one).collect()
}

fn certificate(one: &GatewayCertificate) -> Value {
    let not_after = one.not_after.map(|at| humantime::format_rfc3339_seconds(at).to_string());
    json!({"name": one.name.to_string(), "not_after": not_after, "failure": one.failure})
}

fn names(key: &StatsKey) -> (Option<String>, String) {
    match key {
        StatsKey::Overflow => (None, "everything beyond the bound of the table".to_owned()),
        StatsKey::Route { rule, destination } => (rule.as_ref().map(ToString::to_string), destination.to_string()),
        StatsKey::Mirror { rule, destination } => (Some(rule.to_string()), destination.to_string()),
    }
}

fn route(summary: &RouteSummary) -> Value {
    let (rule, destination) = names(&summary.key);
    let causes: BTreeMap<&str, u64> = Cause::ALL
        .iter()
        .map(|cause| (cause.name(), summary.causes[*cause as usize]))
        .filter(|(_, n)| *n > 0)
        .collect();
    let retries = RetryEvent::ALL.iter().map(|event| (event.name(), summary.retries[*event as usize]));
    let retries: BTreeMap<&str, u64> = retries.filter(|(_, n)| *n > 0).collect();
    json!({
        "rule": rule,
        "destination": destination,
        "requests": summary.requests,
        "errors": summary.errors(),
        "failed_tries": summary.failed_tries(),
        "retries": retries,
        "in_flight": summary.in_flight,
        "status": classes(&summary.status),
        "causes": causes,
        "request_bytes": summary.request_bytes,
        "response_bytes": summary.response_bytes,
        "p50_us": summary.latencies.quantile(0.5),
        "p99_us": summary.latencies.quantile(0.99),
    })
}

fn workload(summary: &WorkloadSummary) -> Value {
    let refused = Refused::ALL.iter().map(|what| (what.name(), summary.refused[*what as usize]));
    let refused: BTreeMap<&str, u64> = refused.filter(|(_, n)| *n > 0).collect();
    json!({
        "workload": summary.source.to_string(),
        "connections": summary.connections,
        "opened": summary.opened,
        "requests": summary.requests,
        "errors": summary.errors,
        "cpu_ms": summary.processor.as_secs_f64() * 1_000.0,
        "request_bytes": summary.request_bytes,
        "response_bytes": summary.response_bytes,
        "relayed_bytes": summary.relayed.iter().sum::<u64>(),
        "refused": refused,
    })
}

fn mirror(summary: &MirrorSummary) -> Value {
    let (rule, destination) = names(&summary.key);
    let mut value = json!({
        "rule": rule,
        "destination": destination,
        "in_flight": summary.in_flight,
        "bytes": summary.bytes,
        "status": classes(&summary.status),
    });
    for event in MirrorEvent::ALL {
        value[event.name()] = json!(summary.count(event));
    }
    value
}

/// Responses by class of the status, those that occurred; `none` stands for requests without a response.
fn classes(status: &[u64; 6]) -> BTreeMap<&'static str, u64> {
    let names = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
    names.into_iter().zip(*status).filter(|(_, count)| *count > 0).collect()
}

fn connections(node: &Node) -> BTreeMap<&'static str, u64> {
    WorkerEvent::ALL.iter().map(|event| (event.name(), node.telemetry.count(*event))).collect()
}
