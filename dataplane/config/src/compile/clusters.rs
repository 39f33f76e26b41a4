//! Services and their slices to clusters.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use weir_core::cluster::{Addresses, Cluster, Endpoint};
use weir_core::name::ClusterName;

use super::names::{Found, Names};
use super::policies::Policies;
use super::workloads::Workloads;
use crate::diagnostic::Diagnostic;
use crate::kinds::endpoint_slice::{PodRef, ReadyEndpoint, SERVICE_LABEL, SlicePort};
use crate::kinds::service::{Reached, ServicePort};
use crate::place::Segment;

/// The cluster of every port of every service.
#[derive(Debug)]
pub(super) struct Clusters {
    by_name: HashMap<ClusterName, Arc<Cluster>>,
}

impl Clusters {
    /// Those that are what they were `before` are the same.
    pub(super) fn new(
        names: &Names<'_>,
        workloads: &Workloads,
        before: Option<&Self>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        check_slices(names, diagnostics);
        let policies = Policies::new(names, diagnostics);
        let mut by_name = HashMap::new();
        for (name, port) in names.ports() {
            let mut listening = Vec::new();
            for (_, slice) in names.slices(&name.service) {
                for target in slice.ports.iter().filter(|target| is_for(target, port)) {
                    let to = target.port.unwrap_or(port.target);
                    listening.extend(slice.ready.iter().map(|ready| (SocketAddr::new(ready.address, to), ready)));
                }
            }
            // Stable, so that of two slices with one address the first by name says whose it is.
            listening.sort_by_key(|(address, _)| *address);
            listening.dedup_by_key(|(address, _)| *address);
            let cluster = Cluster::new(name.clone(), port.protocol, endpoints(&listening, workloads));
            let policy =
                names.service(&name.service).and_then(|found| policies.find(&name.service, found.service, port));
            let cluster = match policy {
                Some(policy) => cluster.with_policy(policy),
                None => cluster,
            };
            let same = before.and_then(|before| before.find(&name)).filter(|same| ***same == cluster);
            by_name.insert(name, same.map_or_else(|| Arc::new(cluster), Arc::clone));
        }
        Self { by_name }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ClusterName, &Arc<Cluster>)> {
        self.by_name.iter()
    }

    pub(super) fn find(&self, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.by_name.get(name)
    }
}

fn is_for(target: &SlicePort, port: &ServicePort) -> bool {
    target.name == port.name && target.is_udp == port.is_udp()
}

/// One endpoint for each pod, from addresses in order, each once. The slices of the two families of a service name the
/// same pods: what two addresses of one pod and port say is the same endpoint.
///
/// A pod is known by namespace and name, which are unique at any moment; its `uid` is not part of the configuration, for
/// that would be another version each time a pod of a `StatefulSet` is made anew. What neither a slice nor a `Pod` says
/// to be of one pod stays apart.
fn endpoints(listening: &[(SocketAddr, &ReadyEndpoint)], workloads: &Workloads) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    // Pods with an address of IPv4, which come first, that none of IPv6 was found for yet.
    let mut single: HashMap<(&PodRef, u16), usize> = HashMap::new();
    for (address, ready) in listening {
        let pod = workloads.pod(ready.pod.as_ref(), ready.address);
        let key = pod.map(|pod| (pod, address.port()));
        if let SocketAddr::V6(v6) = address
            && let Some(other) = key.and_then(|key| single.remove(&key))
            && let Addresses::V4(v4) = endpoints[other].addresses
        {
            endpoints[other].addresses = Addresses::Both(v4, *v6);
            continue;
        }
        if let (SocketAddr::V4(_), Some(key)) = (address, key) {
            single.entry(key).or_insert(endpoints.len());
        }
        endpoints.push(endpoint(*address, ready, pod, workloads));
    }
    endpoints
}

fn endpoint(address: SocketAddr, ready: &ReadyEndpoint, pod: Option<&PodRef>, workloads: &Workloads) -> Endpoint {
    let known = pod.and_then(|pod| workloads.find(pod));
    let named = ready.pod.as_ref().map(|pod| pod.name.as_str().into());
    Endpoint {
        addresses: address.into(),
        workload: known.map(|known| Arc::clone(&known.name)).or(named),
        version: known.and_then(|known| known.version.clone()),
        node: ready.node.as_deref().map(Into::into).or_else(|| known.and_then(|known| known.node.clone())),
        zone: ready.zone.as_deref().map(Into::into),
        weight: known.and_then(|known| known.weight).or(ready.weight).unwrap_or_default(),
    }
}

/// Slices that have no effect.
fn check_slices(names: &Names<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (service, document, slice) in names.all_slices() {
        let label = [Segment::Key("metadata"), Segment::Key("labels"), Segment::Key(SERVICE_LABEL)];
        let Some(Found { service: found, .. }) = names.service(service) else {
            let message = format!("there is no Service {service}; the slice has no effect");
            diagnostics.push(document.scope().warning(&label, message));
            continue;
        };
        let is_used = slice.ports.iter().any(|target| found.ports.iter().any(|port| is_for(target, port)));
        if !is_used && !found.ports.is_empty() && found.reached != Reached::ExternalName {
            let named = |name: &str| if name.is_empty() { "one without a name".to_owned() } else { name.to_owned() };
            let known: Vec<_> = found.ports.iter().map(|port| named(&port.name)).collect();
            let message = format!(
                "no port has the name of a port of Service {service} (it has {}); the slice has no effect",
                known.join(", ")
            );
            diagnostics.push(document.scope().warning(&[Segment::Key("ports")], message));
        }
    }
}
