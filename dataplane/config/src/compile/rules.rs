//! Rules to entries of route tables.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_core::mirror::Mirror;
use weir_core::name::{ClusterName, ObjectName};
use weir_core::retry::{Retry, RetryTo};
use weir_core::route::{self, Entry, Precedence, RouteTable, Unmatched};
use weir_core::split::{Destination, Split, Target, Unresolved};
use weir_core::stats::{StatsId, StatsKey, StatsTable};

use super::clusters::Clusters;
use super::destinations::port;
use super::names::Names;
use super::plan::Planned;
use super::plugins::Plugins;
use crate::kinds::rules::{Rule, Rules, To};

/// The entries of a port.
#[derive(Default)]
pub(super) struct Entries {
    /// Of rules that concern every caller and leave alone what they do not match.
    common: Vec<Arc<Entry>>,
    /// Of routes that concern every caller without routes of its own.
    producer: Vec<Arc<Entry>>,
    /// Of routes that concern callers of a namespace.
    consumers: BTreeMap<Arc<str>, Vec<Arc<Entry>>>,
}

/// The table for callers in general, and those of namespaces that have routes of their own for this port. Such routes take
/// the place of the producer's; rules that leave alone what they do not match stay.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) routes: RouteTable,
    pub(super) consumers: BTreeMap<Arc<str>, RouteTable>,
}

impl Tables {
    /// These tables without the entries of some places and with others.
    pub(super) fn updated(&self, gone: &[Precedence], entries: Entries) -> Self {
        let Entries { common, producer, consumers: mut own } = entries;
        for namespace in self.consumers.keys() {
            own.entry(Arc::clone(namespace)).or_default();
        }
        let routes = self.routes.updated(gone, common.iter().cloned().chain(producer).collect());
        let is_common = |entry: &&Arc<Entry>| entry.rule.unmatched == Unmatched::ToService;
        let consumers = own.into_iter().map(|(namespace, entries)| {
            let table = match self.consumers.get(&namespace) {
                Some(table) => table.updated(gone, common.iter().cloned().chain(entries).collect()),
                None => {
                    let common = routes.entries().iter().filter(is_common).cloned();
                    RouteTable::default().updated(&[], common.chain(entries).collect())
                }
            };
            (namespace, table)
        });
        // Where the last route of a namespace went, its callers are like all others.
        let consumers = consumers.filter(|(_, table)| table.unmatched() == Unmatched::NotFound).collect();
        Self { routes, consumers }
    }
}

impl Entries {
    /// Where the entries of a document belong.
    fn of(&mut self, planned: &Planned<'_>, port: &ClusterName) -> &mut Vec<Arc<Entry>> {
        let namespace = &planned.document.name.namespace;
        match planned.rules.unmatched {
            Unmatched::ToService => &mut self.common,
            Unmatched::NotFound if *namespace == port.service.namespace => &mut self.producer,
            Unmatched::NotFound => self.consumers.entry(Arc::clone(namespace)).or_default(),
        }
    }
}

/// The entries of every port that a rule concerns.
pub(super) fn entries(
    all: &[Planned<'_>],
    names: &Names<'_>,
    clusters: &Clusters,
    plugins: &Plugins,
    stats: &mut StatsTable,
) -> HashMap<ClusterName, Entries> {
    let mut entries: HashMap<ClusterName, Entries> = HashMap::new();
    for planned in all {
        let Planned { document, rules, ports } = planned;
        let mut resolver = Resolver { names, clusters, plugins, stats, document: &document.name, is_gateway: false };
        for rule in &rules.rules {
            // What a rule comes to depends on the port only where it says so by leaving something out.
            let mut shared: Option<Arc<route::Rule>> = None;
            for name in ports {
                let compiled = match &shared {
                    Some(shared) => Arc::clone(shared),
                    None => resolver.shared(rules, rule, name),
                };
                if rule.is_same_everywhere() {
                    shared = Some(Arc::clone(&compiled));
                }
                let matchers = rule.matchers.iter().enumerate();
                let of_port = entries.entry(name.clone()).or_default().of(planned, name);
                let entry = |(at, matcher)| Arc::new(Entry::new(Arc::clone(&compiled), at, Arc::clone(matcher)));
                of_port.extend(matchers.map(entry));
            }
        }
    }
    entries
}

/// Gives the names in a rule their meaning.
pub(super) struct Resolver<'a, 's> {
    pub(super) names: &'a Names<'s>,
    pub(super) clusters: &'a Clusters,
    pub(super) plugins: &'a Plugins,
    pub(super) stats: &'a mut StatsTable,
    pub(super) document: &'a ObjectName,
    /// Whether it is for what comes by a gateway.
    pub(super) is_gateway: bool,
}

impl Resolver<'_, '_> {
    /// A rule of a document's for what is sent to this port.
    pub(super) fn shared(&mut self, rules: &Rules, rule: &Rule, addressed: &ClusterName) -> Arc<route::Rule> {
        let (created, unmatched) = (rules.created.clone(), rules.unmatched);
        Arc::new(route::Rule { created, unmatched, ..self.rule(rule, addressed) })
    }

    fn rule(&mut self, rule: &Rule, addressed: &ClusterName) -> route::Rule {
        let plugins = self.plugins.of_rule(self.document, rule);
        let to_itself = To { service: addressed.service.clone(), port: Some(addressed.port), is_service: true };
        let split = match &rule.route {
            // What names a filter that there is not must not pass it by (Gateway API, HTTPRouteFilter).
            _ if plugins.is_none() => Split::to(Vec::new()),
            None => Split::to(vec![self.destination(&to_itself, 1, addressed.port)]),
            Some(route) => {
                let destinations = route.destinations.iter().map(|one| {
                    let destination = self.destination(&one.to, one.weight, addressed.port);
                    Destination { filters: one.filters.clone(), ..destination }
                });
                let (sticky, session) = (route.sticky.clone(), route.session.clone());
                Split { sticky, session, destinations: destinations.collect() }
            }
        };
        let mirrors = rule.mirrors.iter().map(|mirror| {
            let (destination, target) = self.target(&mirror.to, addressed.port);
            let key = StatsKey::Mirror { rule: self.document.clone(), destination: destination.clone() };
            let stats = self.stats.id(key);
            Mirror { destination, target, share: mirror.share, methods: mirror.methods.clone(), stats }
        });
        let mirrors = mirrors.collect();
        // The first destination is where people look, whatever becomes of a request.
        let stats = match split.destinations.first() {
            Some(Destination { stats, .. }) => *stats,
            None => self.counted(addressed),
        };
        route::Rule {
            section: rule.section.clone(),
            priority: rule.priority,
            filters: rule.filters.clone(),
            mirrors,
            timeouts: rule.timeouts,
            retry: rule.retry.as_ref().map(|retry| Box::new(self.retry(retry, addressed.port))),
            plugins: plugins.unwrap_or_default(),
            ..route::Rule::new(self.document.clone(), split, stats)
        }
    }

    fn retry(&mut self, retry: &Retry<To>, addressed: u16) -> Retry {
        Retry {
            attempts: retry.attempts,
            on: retry.on.clone(),
            methods: retry.methods.clone(),
            backoff: retry.backoff,
            hedge_after: retry.hedge_after,
            to: match &retry.to {
                RetryTo::First => RetryTo::First,
                RetryTo::Same => RetryTo::Same,
                RetryTo::Other(to) => RetryTo::Other(self.destination(to, 1, addressed)),
            },
        }
    }

    fn destination(&mut self, to: &To, weight: u32, addressed: u16) -> Destination {
        let (name, target) = self.target(to, addressed);
        let stats = self.counted(&name);
        Destination::new(name, target, weight, stats)
    }

    /// Where requests of this document's rules for a destination are counted.
    fn counted(&mut self, destination: &ClusterName) -> StatsId {
        let key = StatsKey::Route { rule: Some(self.document.clone()), destination: destination.clone() };
        self.stats.id(key)
    }

    fn target(&self, to: &To, addressed: u16) -> (ClusterName, Target) {
        let found = self.names.service(&to.service);
        let port = found.map(|found| port(to, found.service.tcp_ports(), addressed));
        let service = to.service.clone();
        let name = ClusterName { service, port: port.flatten().or(to.port).unwrap_or(addressed) };
        let target = match (port, self.clusters.find(&name)) {
            _ if !to.is_service => Target::Unresolved(Unresolved::NotAService),
            _ if self.is_gateway && !self.names.is_granted(self.document, &to.service) => {
                Target::Unresolved(Unresolved::NotGranted)
            }
            (None, _) => Target::Unresolved(Unresolved::NoSuchService),
            (Some(Some(_)), Some(cluster)) => Target::Cluster(Arc::clone(cluster)),
            (Some(_), _) => Target::Unresolved(Unresolved::NoSuchPort),
        };
        (name, target)
    }
}
