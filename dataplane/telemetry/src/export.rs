//! The workers' counters as metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use weir_core::stats::{StatsId, StatsKey};

use crate::call::CallStatus;
use crate::cause::Cause;
use crate::event::{MirrorEvent, RetryEvent, WorkerEvent};
use crate::shard::Shard;
use crate::source::{Refused, Source, SourceId, SourceTable};
use crate::summary::{self, MirrorSummary, RouteSummary, WorkloadSummary};

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Exports all shards.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(crate) shards: Arc<Mutex<Vec<Arc<Shard>>>>,
    pub(crate) sources: Arc<SourceTable>,
    pub(crate) keys: Arc<Mutex<Vec<StatsKey>>>,
}

impl Collector for Workers {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        workers(&mut encoder, &shards)?;
        let sources = self.sources.sources();
        by_source(&mut encoder, &summary::by_source(&shards, &keys), &sources)?;
        durations(&mut encoder, &summary::routes(&shards, &keys))?;
        workloads(&mut encoder, &summary::workloads(&shards, &keys, sources))?;
        mirrors(&mut encoder, &summary::mirrors(&shards, &keys))
    }
}

fn workers(encoder: &mut DescriptorEncoder, shards: &[Arc<Shard>]) -> fmt::Result {
    let sum = |of: &dyn Fn(&Shard) -> u64| shards.iter().map(|shard| of(shard)).sum::<u64>();
    let help = "Things that happened to connections";
    let mut events = encoder.encode_descriptor("weir_proxy_events", help, None, MetricType::Counter)?;
    for event in WorkerEvent::ALL {
        counter(&mut events, &[("event", event.name())], sum(&|shard| shard.count(event)))?;
    }
    let open = |opened, closed| sum(&|shard| shard.count(opened)).saturating_sub(sum(&|shard| shard.count(closed)));
    let help = "Open connections";
    let mut active = encoder.encode_descriptor("weir_proxy_connections", help, None, MetricType::Gauge)?;
    let downstream = open(WorkerEvent::Accepted, WorkerEvent::Closed);
    let upstream = open(WorkerEvent::UpstreamConnected, WorkerEvent::UpstreamClosed);
    for (side, count) in [("downstream", downstream), ("upstream", upstream)] {
        active.encode_family(&[("side", side)])?.encode_gauge(&count)?;
    }
    let help = "Requests that the proxy answered itself or cut off before they came to a route";
    let mut unrouted = encoder.encode_descriptor("weir_proxy_unrouted", help, None, MetricType::Counter)?;
    for cause in Cause::ALL {
        let count = sum(&|shard| shard.unrouted(cause));
        if count > 0 {
            counter(&mut unrouted, &[("cause", cause.name())], count)?;
        }
    }
    Ok(())
}

type BySource = BTreeMap<(StatsId, SourceId), RouteSummary>;

fn by_source(encoder: &mut DescriptorEncoder, rows: &BySource, sources: &[Source]) -> fmt::Result {
    let labelled = rows.iter().map(|((_, source), route)| {
        let source = sources.get(source.index()).cloned().unwrap_or(Source::Overflow);
        (SourceLabels { of_route: Labels::of(&route.key), source }, route)
    });
    let labelled: Vec<_> = labelled.collect();
    let help = "Requests by class of the response's status; none means that the client got no response";
    let mut requests = encoder.encode_descriptor("weir_proxy_requests", help, None, MetricType::Counter)?;
    for (labels, route) in &labelled {
        for (class, count) in CLASSES.iter().zip(route.status).filter(|(_, count)| *count > 0) {
            counter(&mut requests, &labels.with("status", class), count)?;
        }
    }
    let help = "Calls of gRPC by their status; none means that the caller got none";
    let mut calls = encoder.encode_descriptor("weir_proxy_grpc_calls", help, None, MetricType::Counter)?;
    for (labels, route) in &labelled {
        for (status, count) in route.calls.iter().enumerate().filter(|(_, count)| **count > 0) {
            counter(&mut calls, &labels.with("grpc_status", &CallStatus::label(status)), *count)?;
        }
    }
    let help = "Requests that the proxy answered itself or cut off, by cause";
    let mut causes = encoder.encode_descriptor("weir_proxy_local_replies", help, None, MetricType::Counter)?;
    for (labels, route) in &labelled {
        for (cause, count) in Cause::ALL.iter().zip(route.causes).filter(|(_, count)| *count > 0) {
            counter(&mut causes, &labels.with("cause", cause.name()), count)?;
        }
    }
    let help = "What happened about trying requests again";
    let mut retries = encoder.encode_descriptor("weir_proxy_retries", help, None, MetricType::Counter)?;
    for (labels, route) in &labelled {
        for (event, count) in RetryEvent::ALL.iter().zip(route.retries).filter(|(_, count)| *count > 0) {
            counter(&mut retries, &labels.with("event", event.name()), count)?;
        }
    }
    let help = "Requests under way";
    let mut active = encoder.encode_descriptor("weir_proxy_requests_in_flight", help, None, MetricType::Gauge)?;
    for (labels, route) in &labelled {
        active.encode_family(&labels.alone())?.encode_gauge(&route.in_flight)?;
    }
    route_bytes(encoder, &labelled)
}

/// Not by who asked: a histogram has too many lines for that.
fn durations(encoder: &mut DescriptorEncoder, routes: &[RouteSummary]) -> fmt::Result {
    let labelled: Vec<_> = routes.iter().map(|route| (Labels::of(&route.key), route)).collect();
    let help = "From the head of the request to the end of the response";
    let unit = Unit::Seconds;
    let name = "weir_proxy_request_duration";
    let mut durations = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
    for (labels, route) in &labelled {
        let latencies = &route.latencies;
        durations.encode_family(&labels.alone())?.encode_histogram::<NoLabelSet>(
            latencies.sum_seconds(),
            latencies.count(),
            &latencies.exported(),
            None,
        )?;
    }
    Ok(())
}

fn route_bytes(encoder: &mut DescriptorEncoder, labelled: &[(SourceLabels, &RouteSummary)]) -> fmt::Result {
    let unit = Unit::Bytes;
    type Bytes = fn(&RouteSummary) -> u64;
    let of_bodies: [(&str, &str, Bytes); 2] = [
        ("weir_proxy_request_body", "Bytes of requests' bodies", |route| route.request_bytes),
        ("weir_proxy_response_body", "Bytes of responses' bodies", |route| route.response_bytes),
    ];
    for (name, help, bytes) in of_bodies {
        let mut family = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Counter)?;
        for (labels, route) in labelled {
            counter(&mut family, &labels.alone(), bytes(route))?;
        }
    }
    Ok(())
}

/// What workloads use of the proxy.
fn workloads(encoder: &mut DescriptorEncoder, workloads: &[WorkloadSummary]) -> fmt::Result {
    let labelled: Vec<_> = workloads.iter().map(|workload| (source_labels(&workload.source), workload)).collect();
    let help = "Connections of clients that were accepted";
    let mut opened = encoder.encode_descriptor("weir_workload_connections_opened", help, None, MetricType::Counter)?;
    for (labels, workload) in &labelled {
        counter(&mut opened, labels, workload.opened)?;
    }
    let (name, help) = ("weir_workload_connections", "Those that are open");
    let mut open = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, workload) in &labelled {
        open.encode_family(labels)?.encode_gauge(&workload.connections)?;
    }
    let help = "What clients did not get because their workload had as much as it left to the others";
    let mut refused = encoder.encode_descriptor("weir_workload_refused", help, None, MetricType::Counter)?;
    for ([namespace, name], workload) in &labelled {
        for (what, count) in Refused::ALL.iter().zip(workload.refused).filter(|(_, count)| *count > 0) {
            counter(&mut refused, &[*namespace, *name, ("what", what.name())], count)?;
        }
    }
    let (help, unit) = ("Processor time of the workers, by whose requests took it: an estimate", Unit::Seconds);
    let mut processor = encoder.encode_descriptor("weir_workload_cpu", help, Some(&unit), MetricType::Counter)?;
    for (labels, workload) in &labelled {
        let seconds = workload.processor.as_secs_f64();
        processor.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(&seconds, None)?;
    }
    let (help, unit) = ("Bytes of connections that were passed on unchanged", Unit::Bytes);
    let mut relayed = encoder.encode_descriptor("weir_workload_relayed", help, Some(&unit), MetricType::Counter)?;
    for ([namespace, name], workload) in &labelled {
        for (direction, bytes) in ["from", "to"].iter().zip(workload.relayed) {
            counter(&mut relayed, &[*namespace, *name, ("direction", direction)], bytes)?;
        }
    }
    Ok(())
}

fn mirrors(encoder: &mut DescriptorEncoder, mirrors: &[MirrorSummary]) -> fmt::Result {
    let labelled: Vec<_> = mirrors.iter().map(|mirror| (Labels::of(&mirror.key), mirror)).collect();
    let help = "Copies of requests, by what became of them";
    let mut copies = encoder.encode_descriptor("weir_mirror_copies", help, None, MetricType::Counter)?;
    for (labels, mirror) in &labelled {
        for (event, count) in MirrorEvent::ALL.iter().zip(mirror.events).filter(|(_, count)| *count > 0) {
            counter(&mut copies, &labels.with("outcome", event.name()), count)?;
        }
    }
    let help = "Responses of mirrors, by class of the status";
    let mut responses = encoder.encode_descriptor("weir_mirror_responses", help, None, MetricType::Counter)?;
    for (labels, mirror) in &labelled {
        for (class, count) in CLASSES.iter().zip(mirror.status).filter(|(_, count)| *count > 0) {
            counter(&mut responses, &labels.with("status", class), count)?;
        }
    }
    let help = "Copies under way";
    let mut active = encoder.encode_descriptor("weir_mirror_copies_in_flight", help, None, MetricType::Gauge)?;
    for (labels, mirror) in &labelled {
        active.encode_family(&labels.alone())?.encode_gauge(&mirror.in_flight)?;
    }
    let (help, unit) = ("Bytes of requests' bodies that were copied", Unit::Bytes);
    let mut bytes = encoder.encode_descriptor("weir_mirror_body", help, Some(&unit), MetricType::Counter)?;
    for (labels, mirror) in &labelled {
        counter(&mut bytes, &labels.alone(), mirror.bytes)?;
    }
    Ok(())
}

fn counter(family: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

/// Values of the labels of a destination of a rule or of a mirror.
struct Labels {
    rule: String,
    destination: String,
}

impl Labels {
    fn of(key: &StatsKey) -> Self {
        let (rule, destination) = match key {
            StatsKey::Overflow => ("overflow".to_owned(), "overflow".to_owned()),
            StatsKey::Route { rule: None, destination } => (String::new(), destination.to_string()),
            StatsKey::Route { rule: Some(rule), destination } | StatsKey::Mirror { rule, destination } => {
                (format!("{}/{}", rule.namespace, rule.name), destination.to_string())
            }
        };
        Self { rule, destination }
    }

    fn alone(&self) -> [(&str, &str); 2] {
        [("rule", &self.rule), ("destination", &self.destination)]
    }

    fn with<'a>(&'a self, name: &'a str, value: &'a str) -> [(&'a str, &'a str); 3] {
        let [rule, destination] = self.alone();
        [rule, destination, (name, value)]
    }
}

/// The same with who asked.
struct SourceLabels {
    of_route: Labels,
    source: Source,
}

impl SourceLabels {
    fn alone(&self) -> [(&str, &str); 4] {
        let [rule, destination] = self.of_route.alone();
        let [namespace, name] = source_labels(&self.source);
        [rule, destination, namespace, name]
    }

    fn with<'a>(&'a self, name: &'a str, value: &'a str) -> [(&'a str, &'a str); 5] {
        let [rule, destination, namespace, source] = self.alone();
        [rule, destination, namespace, source, (name, value)]
    }
}

fn source_labels(source: &Source) -> [(&str, &str); 2] {
    let [namespace, name] = source.labels();
    [("source_namespace", namespace), ("source", name)]
}
