//! Everything that rules refer to: what their names mean.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use weir_core::name::{ClusterName, ServiceName};
use weir_core::workload::Workload;

use super::clusters::Clusters;
use super::guards::Guards;
use super::mtls;
use super::names::{self, Names};
use super::workloads::Workloads;
use crate::diagnostic::Diagnostic;
use crate::kinds::service::Reached;
use crate::place::Segment;

/// What a configuration has besides rules.
#[derive(Debug)]
pub(super) struct World {
    pub(super) clusters: Clusters,
    pub(super) workloads: Vec<Arc<Workload>>,
    /// The virtual addresses of every port.
    pub(super) addresses: HashMap<ClusterName, Vec<SocketAddr>>,
    pub(super) diagnostics: Vec<Diagnostic>,
    guards: Guards,
}

impl World {
    /// The world of these documents. Clusters that are what they were before are the same.
    pub(super) fn new(names: &Names<'_>, before: Option<&Self>) -> Self {
        let mut diagnostics = Vec::new();
        let (of_pods, guards) = Guards::new(names, before.map(|before| &before.guards), &mut diagnostics);
        let reached = mtls::of_pods(names, &mut diagnostics);
        let workloads = Workloads::new(names, of_pods.into_iter().zip(reached), &mut diagnostics);
        let clusters = Clusters::new(names, &workloads, before.map(|before| &before.clusters), &mut diagnostics);
        let addresses = addresses(names, &mut diagnostics);
        Self { clusters, workloads: workloads.into_list(), addresses, diagnostics, guards }
    }

    /// The services that have another cluster than before.
    pub(super) fn differences(&self, before: &Self) -> HashSet<ServiceName> {
        let only = |one: &Self, other: &Self| {
            let differs = |(name, cluster): &(&ClusterName, &Arc<_>)| {
                other.clusters.find(name).is_none_or(|same| !Arc::ptr_eq(same, cluster))
            };
            one.clusters.iter().filter(differs).map(|(name, _)| name.service.clone()).collect::<Vec<_>>()
        };
        only(self, before).into_iter().chain(only(before, self)).collect()
    }
}

/// The virtual addresses of every port. That two services claim one of them is an error: whose connections it gets
/// would be a matter of luck.
fn addresses(names: &Names<'_>, diagnostics: &mut Vec<Diagnostic>) -> HashMap<ClusterName, Vec<SocketAddr>> {
    let mut addresses: HashMap<ClusterName, Vec<SocketAddr>> = HashMap::new();
    let mut owners = HashMap::new();
    for (name, found) in names.services() {
        let Reached::At(ips) = &found.service.reached else { continue };
        for port in &found.service.ports {
            for ip in ips {
                let address = SocketAddr::new(*ip, port.port);
                if let Some(owner) = owners.insert((address, port.is_udp()), name) {
                    let path = [Segment::Key("spec"), Segment::Key("ports"), Segment::Index(port.position)];
                    let other = names.place(owner);
                    let message = format!("{address} is also an address of Service {owner}{other}");
                    diagnostics.push(found.document.scope().error(&path, message));
                }
            }
        }
        for port in names::ports_of(found.service) {
            let name = ClusterName { service: name.clone(), port: port.port };
            addresses.insert(name, ips.iter().map(|ip| SocketAddr::new(*ip, port.port)).collect());
        }
    }
    addresses
}
