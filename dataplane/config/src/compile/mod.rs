//! From documents to the model of `weir-core`: names are resolved, and what does not fit together is reported.

mod clusters;
mod destinations;
mod difference;
mod gateways;
mod guards;
mod mtls;
mod names;
mod plan;
mod plugins;
mod policies;
mod rules;
mod workloads;
mod world;

use std::collections::HashMap;
use std::sync::Arc;

use weir_core::name::ClusterName;
use weir_core::revision::Sequence;
use weir_core::snapshot::{Frontend, Snapshot};
use weir_core::split::{Destination, Target};
use weir_core::stats::{StatsId, StatsKey, StatsTable};
use weir_core::workload::TRUST_DOMAIN;

use crate::diagnostic::Diagnostic;
use crate::document::DocumentSet;
use crate::parse::in_reading_order;
use difference::Difference;
use gateways::{Candidate, Gateways};
use names::Names;
use plugins::{OfPort, Plugins};
use rules::{Entries, Tables};
use world::World;

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
    Compiler::default().compile(set, sequence, stats)
}

/// Compiles one set of documents after another. What comes to the same as in the last one that was right is taken from
/// that: the cost is that of the change. What it makes is what [`compile`] would make of the same documents.
#[derive(Debug)]
pub struct Compiler {
    trust_domain: Arc<str>,
    last: Option<Last>,
}

impl Default for Compiler {
    fn default() -> Self {
        Self::new(TRUST_DOMAIN)
    }
}

/// What was compiled last.
#[derive(Debug)]
struct Last {
    documents: DocumentSet,
    world: Arc<World>,
    frontends: HashMap<ClusterName, Arc<Frontend>>,
    /// About rules; all of them warnings.
    diagnostics: Vec<Arc<Diagnostic>>,
    gateways: Arc<Gateways>,
    plugins: Plugins,
}

impl Compiler {
    /// One for a mesh whose workloads have ids of this trust domain.
    pub fn new(trust_domain: &str) -> Self {
        Self { trust_domain: trust_domain.into(), last: None }
    }

    /// Like [`compile`]. It must be the same `stats` each time.
    pub fn compile(&mut self, set: &DocumentSet, sequence: Sequence, stats: &mut StatsTable) -> Compiled {
        let trust_domain = Arc::clone(&self.trust_domain);
        let names = Names::new(set, &trust_domain);
        let last = self.last.as_ref();
        let mut of_plugins = Vec::new();
        let plugins = Plugins::new(&names, last.map(|last| &last.plugins), &mut of_plugins);
        let (world, difference) = match last {
            Some(last) => Difference::find(last, set, &names, &plugins),
            None => (Arc::new(World::new(&names, None)), Difference::Everything),
        };
        let documents = difference.rules(set, &names);
        let besides = last.map_or(0, Last::route_entries);
        let mut of_rules = Vec::new();
        let planned = match plan::plan(&documents, &names, besides, &mut of_rules) {
            Ok(planned) => planned,
            // What goes with this change was counted as well.
            Err(plan::TooMany) if last.is_some() => {
                self.last = None;
                return self.compile(set, sequence, stats);
            }
            Err(plan::TooMany) => {
                of_rules.push(Diagnostic::error(plan::TooMany.to_string()));
                Vec::new()
            }
        };
        let stays =
            |diagnostic: &&Arc<Diagnostic>| diagnostic.object.as_ref().is_some_and(|name| !difference.has_rules(name));
        let mut of_rules: Vec<_> = of_rules.into_iter().map(Arc::new).collect();
        of_rules.extend(last.iter().flat_map(|last| &last.diagnostics).filter(stays).cloned());
        let gateways = match last {
            Some(last) if !difference.concerns_gateways() => Candidate::Same(Arc::clone(&last.gateways)),
            _ => Candidate::New(gateways::plan(&names)),
        };
        let of_others = world.diagnostics.iter().chain(gateways.diagnostics()).chain(&of_plugins);
        let diagnostics = in_reading_order(of_others.chain(of_rules.iter().map(Arc::as_ref)));
        if diagnostics.iter().any(Diagnostic::is_error) {
            return Compiled { snapshot: None, diagnostics };
        }
        let gateways = match gateways.build(&names, &world.clusters, &plugins, stats) {
            Ok(gateways) => gateways,
            Err(too_many) => {
                let diagnostics = vec![Diagnostic::error(too_many.to_string())];
                return Compiled { snapshot: None, diagnostics };
            }
        };
        let entries = rules::entries(&planned, &names, &world.clusters, &plugins, stats);
        let frontends =
            Frontends { names: &names, world: &world, plugins: &plugins, last, difference: &difference, stats };
        let frontends = frontends.with(entries);
        let all = frontends.values().map(Arc::clone).collect();
        let snapshot = Snapshot::new(sequence, set.id(), all, &world.workloads).with_gateways(gateways.ports.clone());
        let snapshot = snapshot.with_plugins(plugins.of_gateways_and_rules());
        let documents = set.clone();
        self.last = Some(Last { documents, world, frontends, diagnostics: of_rules, gateways, plugins });
        Compiled { snapshot: Some(snapshot), diagnostics }
    }
}

impl Last {
    fn route_entries(&self) -> usize {
        let of_one = |frontend: &Arc<Frontend>| {
            let consumers = frontend.consumers.values().map(|table| table.entries().len());
            frontend.routes.entries().len() + consumers.sum::<usize>()
        };
        self.frontends.values().map(of_one).sum()
    }
}

/// Makes what clients address.
struct Frontends<'a, 's> {
    names: &'a Names<'s>,
    world: &'a World,
    plugins: &'a Plugins,
    last: Option<&'a Last>,
    difference: &'a Difference,
    stats: &'a mut StatsTable,
}

impl Frontends<'_, '_> {
    /// All frontends, with the entries that are new.
    fn with(self, mut entries: HashMap<ClusterName, Entries>) -> HashMap<ClusterName, Arc<Frontend>> {
        let Self { names, world, plugins, last, difference, stats } = self;
        let frontends = names.ports().filter_map(|(name, port)| {
            let before = last.and_then(|last| last.frontends.get(&name));
            let gone = difference.gone(&name.service);
            if let (Some(before), None) = (before, gone) {
                return Some((name, Arc::clone(before)));
            }
            let cluster = world.clusters.find(&name)?;
            let counted = stats.id(StatsKey::Route { rule: None, destination: name.clone() });
            let service = Destination::new(name.clone(), Target::Cluster(Arc::clone(cluster)), 1, counted);
            let tables = before.map_or_else(Tables::default, |before| Tables {
                routes: before.routes.clone(),
                consumers: before.consumers.clone(),
            });
            let new = entries.remove(&name).unwrap_or_default();
            let Tables { routes, consumers } = tables.updated(gone.unwrap_or_default(), new);
            let addresses = world.addresses.get(&name).cloned().unwrap_or_default();
            let OfPort { http: plugins, tcp: tcp_plugins } = plugins.of_port(&name);
            let mirrored = match &plugins[..] {
                [] => StatsId(0),
                _ => stats.id(StatsKey::Mirror { rule: name.service.object(), destination: name.clone() }),
            };
            let frontend = Frontend {
                addresses,
                routes,
                consumers,
                plugins,
                tcp_plugins,
                mirrored,
                ..Frontend::new(name.clone(), port.protocol, service)
            };
            Some((name, Arc::new(frontend)))
        });
        frontends.collect()
    }
}
