//! From documents to the model of `weir-core`: names are resolved, and what does not fit together is reported.

mod clusters;
mod destinations;
mod names;
mod plan;
mod policies;
mod rules;
mod workloads;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use weir_core::name::ClusterName;
use weir_core::revision::Sequence;
use weir_core::snapshot::{Frontend, Snapshot};
use weir_core::split::{Destination, Target};
use weir_core::stats::{StatsKey, StatsTable};

use crate::diagnostic::Diagnostic;
use crate::document::DocumentSet;
use crate::kinds::service::Reached;
use crate::parse::in_reading_order;
use crate::place::Segment;
use clusters::Clusters;
use names::Names;
use rules::Entries;
use workloads::Workloads;

/// What became of documents.
#[derive(Debug)]
pub struct Compiled {
    /// The candidate; `None` when there is an error among the diagnostics.
    pub snapshot: Option<Snapshot>,
    /// Everything that is wrong with how documents fit together, in reading order.
    pub diagnostics: Vec<Diagnostic>,
}

/// Compiles documents to a candidate. `stats` gives counters their numbers and is only added to, and only when there
/// is no error.
pub fn compile(set: &DocumentSet, sequence: Sequence, stats: &mut StatsTable) -> Compiled {
    let mut diagnostics = Vec::new();
    let names = Names::new(set);
    let workloads = Workloads::new(&names, &mut diagnostics);
    let clusters = Clusters::new(&names, &workloads, &mut diagnostics);
    let addresses = addresses(&names, &mut diagnostics);
    let planned = plan::plan(&names, &mut diagnostics);
    in_reading_order(&mut diagnostics);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Compiled { snapshot: None, diagnostics };
    }
    let entries = rules::entries(&planned, &names, &clusters, stats);
    let frontends = frontends(&names, &clusters, addresses, entries, stats);
    let snapshot = Snapshot::new(sequence, set.id(), frontends, &workloads.into_list());
    Compiled { snapshot: Some(snapshot), diagnostics }
}

fn frontends(
    names: &Names<'_>,
    clusters: &Clusters,
    mut addresses: HashMap<ClusterName, Vec<SocketAddr>>,
    mut entries: HashMap<ClusterName, Entries>,
    stats: &mut StatsTable,
) -> Vec<Arc<Frontend>> {
    let ports = names.ports();
    let frontends = ports.filter_map(|(name, port)| {
        let cluster = clusters.find(&name)?;
        let counted = stats.id(StatsKey::Route { rule: None, destination: name.clone() });
        let service = Destination::new(name.clone(), Target::Cluster(Arc::clone(cluster)), 1, counted);
        let (routes, consumers) = entries.remove(&name).unwrap_or_default().into_tables();
        let addresses = addresses.remove(&name).unwrap_or_default();
        Some(Arc::new(Frontend { addresses, routes, consumers, ..Frontend::new(name, port.protocol, service) }))
    });
    frontends.collect()
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
