//! Rules to entries of route tables.

use std::collections::HashMap;
use std::sync::Arc;

use weir_core::mirror::Mirror;
use weir_core::name::{ClusterName, ObjectName};
use weir_core::route::{Entry, Rule};
use weir_core::split::{Destination, Split, Target, Unresolved};
use weir_core::stats::{StatsKey, StatsTable};

use super::clusters::Clusters;
use super::destinations::port;
use super::names::Names;
use super::plan::Planned;
use crate::kinds::route_rule::{RouteRule, To};

/// The entries of every port that a rule concerns.
pub(super) fn entries(
    planned: &[Planned<'_>],
    names: &Names<'_>,
    clusters: &Clusters,
    stats: &mut StatsTable,
) -> HashMap<ClusterName, Vec<Entry>> {
    let mut entries: HashMap<ClusterName, Vec<Entry>> = HashMap::new();
    for Planned { document, rule, ports } in planned {
        let mut resolver = Resolver { names, clusters, stats, rule: &document.name };
        // What a rule comes to depends on the port only where it says so by leaving something out.
        let mut shared: Option<Arc<Rule>> = None;
        for name in ports {
            let compiled = match &shared {
                Some(shared) => Arc::clone(shared),
                None => Arc::new(resolver.rule(rule, name)),
            };
            if rule.is_same_everywhere() {
                shared = Some(Arc::clone(&compiled));
            }
            let matchers = rule.matchers.iter().enumerate();
            let of_port = entries.entry(name.clone()).or_default();
            of_port.extend(matchers.map(|(at, matcher)| Entry::new(Arc::clone(&compiled), at, Arc::clone(matcher))));
        }
    }
    entries
}

/// Gives the names in a rule their meaning.
struct Resolver<'a, 's> {
    names: &'a Names<'s>,
    clusters: &'a Clusters,
    stats: &'a mut StatsTable,
    rule: &'a ObjectName,
}

impl Resolver<'_, '_> {
    fn rule(&mut self, rule: &RouteRule, addressed: &ClusterName) -> Rule {
        let to_itself = To { service: addressed.service.clone(), port: Some(addressed.port) };
        let (destinations, sticky) = match &rule.route {
            None => (vec![self.destination(&to_itself, 1, addressed.port)], None),
            Some(route) => {
                let destinations = route.destinations.iter();
                let resolved = destinations.map(|to| self.destination(&to.to, to.weight, addressed.port));
                (resolved.collect(), route.sticky.clone())
            }
        };
        let mirrors = rule.mirrors.iter().map(|mirror| {
            let (destination, target) = self.target(&mirror.to, addressed.port);
            let key = StatsKey::Mirror { rule: self.rule.clone(), destination: destination.clone() };
            let stats = self.stats.id(key);
            Mirror { destination, target, share: mirror.share, methods: mirror.methods.clone(), stats }
        });
        Rule {
            mirrors: mirrors.collect(),
            name: self.rule.clone(),
            priority: rule.priority,
            split: Split { sticky, destinations },
            timeouts: rule.timeouts,
        }
    }

    fn destination(&mut self, to: &To, weight: u32, addressed: u16) -> Destination {
        let (name, target) = self.target(to, addressed);
        let key = StatsKey::Route { rule: Some(self.rule.clone()), destination: name.clone() };
        Destination { stats: self.stats.id(key), name, target, weight }
    }

    fn target(&self, to: &To, addressed: u16) -> (ClusterName, Target) {
        let found = self.names.service(&to.service);
        let port = found.map(|found| port(to, found.service.tcp_ports(), addressed));
        let service = to.service.clone();
        let name = ClusterName { service, port: port.flatten().or(to.port).unwrap_or(addressed) };
        let target = match (port, self.clusters.find(&name)) {
            (None, _) => Target::Unresolved(Unresolved::NoSuchService),
            (Some(Some(_)), Some(cluster)) => Target::Cluster(Arc::clone(cluster)),
            (Some(_), _) => Target::Unresolved(Unresolved::NoSuchPort),
        };
        (name, target)
    }
}
