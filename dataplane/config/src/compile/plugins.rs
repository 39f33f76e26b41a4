//! Which plugins see what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weir_core::name::{ClusterName, ObjectName, ServiceName};
use weir_core::plugin::{Layer, Plugin};
use weir_core::revision::DocumentHash;

use super::names::Names;
use crate::diagnostic::Diagnostic;
use crate::document::Document;
use crate::kinds::plugin::{Attached, PluginFor, RuleRef};
use crate::kinds::rules::{Rule, Rules};
use crate::place::Segment;

/// In the order in which they see requests.
type InOrder = Arc<[Arc<Plugin>]>;

/// The plugins of everything that has some.
#[derive(Debug, Default)]
pub(super) struct Plugins {
    by_port: HashMap<ClusterName, OfPort>,
    by_gateway: HashMap<ObjectName, InOrder>,
    /// By document, and there by the rule's position.
    by_rule: HashMap<ObjectName, BTreeMap<usize, InOrder>>,
    /// What each document says, and what was made of it.
    by_document: HashMap<ObjectName, (DocumentHash, Arc<Plugin>)>,
}

/// The plugins of a port.
#[derive(Clone, Debug, Default)]
pub(super) struct OfPort {
    pub(super) http: InOrder,
    pub(super) tcp: InOrder,
}

/// The same while they are found.
#[derive(Default)]
struct Found {
    by_port: HashMap<ClusterName, [Vec<Arc<Plugin>>; 2]>,
    by_gateway: HashMap<ObjectName, Vec<Arc<Plugin>>>,
    by_rule: HashMap<ObjectName, BTreeMap<usize, Vec<Arc<Plugin>>>>,
}

fn in_order(mut plugins: Vec<Arc<Plugin>>) -> InOrder {
    plugins.sort_by(|one, other| (one.phase, one.order, &one.name).cmp(&(other.phase, other.order, &other.name)));
    plugins.dedup_by(|one, other| Arc::ptr_eq(one, other));
    plugins.into()
}

fn is_same(one: &[Arc<Plugin>], other: &[Arc<Plugin>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

impl Plugins {
    /// Finds them and reports what is wrong with what they are for. Those whose documents say what they said before are
    /// the same, so that they need not be loaded again.
    pub(super) fn new(names: &Names<'_>, before: Option<&Self>, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut by_document = HashMap::new();
        for (document, PluginFor { plugin, .. }) in &names.plugins {
            let before = before.and_then(|before| before.by_document.get(&document.name));
            let plugin = match before {
                Some((hash, plugin)) if *hash == document.hash => plugin,
                _ => plugin,
            };
            by_document.insert(document.name.clone(), (document.hash, Arc::clone(plugin)));
        }
        let mut found = Found::default();
        let named = found.named_by_rules(names, &by_document, diagnostics);
        for (document, PluginFor { attached, .. }) in &names.plugins {
            let (_, plugin) = &by_document[&document.name];
            match attached {
                Some(attached) => found.attach(names, document, attached, plugin, diagnostics),
                None if named.contains(&document.name) => {}
                None => names.services_in(&document.name.namespace).for_each(|(name, _)| {
                    found.add(names, name, None, plugin);
                }),
            }
        }
        let Found { by_port, by_gateway, by_rule } = found;
        let of_port = |[http, tcp]: [Vec<_>; 2]| OfPort { http: in_order(http), tcp: in_order(tcp) };
        let of_rules = |rules: BTreeMap<usize, Vec<_>>| {
            rules.into_iter().map(|(position, plugins)| (position, in_order(plugins))).collect()
        };
        Self {
            by_port: by_port.into_iter().map(|(name, plugins)| (name, of_port(plugins))).collect(),
            by_gateway: by_gateway.into_iter().map(|(name, plugins)| (name, in_order(plugins))).collect(),
            by_rule: by_rule.into_iter().map(|(name, rules)| (name, of_rules(rules))).collect(),
            by_document,
        }
    }

    /// Those of a port.
    pub(super) fn of_port(&self, name: &ClusterName) -> OfPort {
        self.by_port.get(name).cloned().unwrap_or_default()
    }

    /// Those of what comes by a gateway.
    pub(super) fn of_gateway(&self, gateway: &ObjectName) -> InOrder {
        self.by_gateway.get(gateway).cloned().unwrap_or_default()
    }

    /// Those of a rule of a document. `None` where it names one that there is not.
    pub(super) fn of_rule(&self, document: &ObjectName, rule: &Rule) -> Option<InOrder> {
        if rule.plugins.iter().any(|(_, name)| !self.by_document.contains_key(name)) {
            return None;
        }
        let of_document = self.by_rule.get(document);
        Some(of_document.and_then(|rules| rules.get(&rule.index())).cloned().unwrap_or_default())
    }

    /// All that gateways and rules have.
    pub(super) fn of_gateways_and_rules(&self) -> impl Iterator<Item = Arc<Plugin>> {
        let of_rules = self.by_rule.values().flat_map(BTreeMap::values);
        self.by_gateway.values().chain(of_rules).flat_map(|plugins| plugins.iter().cloned())
    }

    /// The services that do not have the same ones as before.
    pub(super) fn different_services<'p>(&'p self, before: &'p Self) -> impl Iterator<Item = &'p ServiceName> {
        let differs = move |one: &Self, other: &Self, name: &ClusterName| {
            let (one, other) = (one.of_port(name), other.of_port(name));
            !is_same(&one.http, &other.http) || !is_same(&one.tcp, &other.tcp)
        };
        let gone = before.by_port.keys().filter(move |name| !self.by_port.contains_key(name));
        self.by_port.keys().filter(move |name| differs(self, before, name)).chain(gone).map(|name| &name.service)
    }

    /// The documents whose rules do not have the same ones as before.
    pub(super) fn different_rules<'p>(&'p self, before: &'p Self) -> BTreeSet<&'p ObjectName> {
        let is_same = |one: &BTreeMap<usize, InOrder>, other: &BTreeMap<usize, InOrder>| {
            one.len() == other.len()
                && one.iter().zip(other).all(|((at, one), (other_at, other))| at == other_at && is_same(one, other))
        };
        let all = self.by_rule.keys().chain(before.by_rule.keys());
        let differs = |name: &&ObjectName| match (self.by_rule.get(*name), before.by_rule.get(*name)) {
            (Some(one), Some(other)) => !is_same(one, other),
            (one, other) => one.is_some() || other.is_some(),
        };
        all.filter(differs).collect()
    }

    /// Whether gateways do not have the same ones as before.
    pub(super) fn has_different_gateways(&self, before: &Self) -> bool {
        let mut all = self.by_gateway.keys().chain(before.by_gateway.keys());
        all.any(|name| !is_same(&self.of_gateway(name), &before.of_gateway(name)))
    }
}

impl Found {
    /// Adds those that rules name, and says which these are.
    fn named_by_rules(
        &mut self,
        names: &Names<'_>,
        all: &HashMap<ObjectName, (DocumentHash, Arc<Plugin>)>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> BTreeSet<ObjectName> {
        let mut named = BTreeSet::new();
        for (document, rules) in &names.rules {
            for rule in rules.rules.iter().filter(|rule| !rule.plugins.is_empty()) {
                for (position, name) in &rule.plugins {
                    let path = rules.syntax.filter_path(rule, *position);
                    match all.get(name) {
                        Some((_, plugin)) if plugin.protocol == Layer::Http => {
                            named.insert(name.clone());
                            self.of_rule(&document.name, rule).push(Arc::clone(plugin));
                        }
                        Some(_) => {
                            let message =
                                format!("{name} is for connections that are none of HTTP: it has no effect here");
                            diagnostics.push(document.scope().warning(&path, message));
                        }
                        None => {
                            let message = format!("there is no {name}: requests that match are answered with 500");
                            diagnostics.push(document.scope().warning(&path, message));
                        }
                    }
                }
            }
        }
        named
    }

    fn of_rule(&mut self, document: &ObjectName, rule: &Rule) -> &mut Vec<Arc<Plugin>> {
        self.by_rule.entry(document.clone()).or_default().entry(rule.index()).or_default()
    }

    /// Adds what a plugin names.
    fn attach(
        &mut self,
        names: &Names<'_>,
        document: &Document,
        Attached { services, gateways, rules }: &Attached,
        plugin: &Arc<Plugin>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let mut warn = |key: &'static str, position: usize, message: String| {
            let path = [Segment::Key("spec"), Segment::Key(key), Segment::Index(position)];
            diagnostics.push(document.scope().warning(&path, message));
        };
        for one in services {
            if self.add(names, &one.service, one.port, plugin) {
                continue;
            }
            let port = one.port.map_or_else(String::new, |port| format!(":{port}"));
            let carries = if plugin.protocol == Layer::Http { "HTTP" } else { "TCP" };
            let message = match names.service(&one.service) {
                None => format!("there is no Service {}; the plugin has no effect on it", one.service),
                Some(_) => format!("Service {}{port} has no such port that carries {carries}", one.service),
            };
            warn("services", one.position, message);
        }
        for (position, gateway) in gateways.iter().enumerate() {
            if names.gateway(gateway).is_none() {
                warn("gateways", position, format!("there is no {gateway}; the plugin has no effect on it"));
            }
            self.by_gateway.entry(gateway.clone()).or_default().push(Arc::clone(plugin));
        }
        for (position, reference) in rules.iter().enumerate() {
            if !self.attach_to_rules(names, reference, plugin) {
                let named = &reference.documents[0].name;
                let message = match &reference.rule {
                    None => {
                        format!("there is no document with rules of the name {named}; the plugin has no effect on it")
                    }
                    Some(rule) => format!("there is no rule {rule} of {named}; the plugin has no effect on it"),
                };
                warn("rules", position, message);
            }
        }
    }

    /// Adds a plugin to a service's ports; whether there is any.
    fn add(&mut self, names: &Names<'_>, service: &ServiceName, port: Option<u16>, plugin: &Arc<Plugin>) -> bool {
        let Some(found) = names.service(service) else { return false };
        let ports = found.service.tcp_ports().filter(|one| port.is_none_or(|port| one.port == port));
        let mut is_any = false;
        for port in ports.filter(|port| plugin.protocol == Layer::Tcp || port.protocol.may_be_http()) {
            is_any = true;
            let name = ClusterName { service: service.clone(), port: port.port };
            let layer = usize::from(plugin.protocol == Layer::Tcp);
            self.by_port.entry(name).or_default()[layer].push(Arc::clone(plugin));
        }
        is_any
    }

    fn attach_to_rules(&mut self, names: &Names<'_>, reference: &RuleRef, plugin: &Arc<Plugin>) -> bool {
        let is_meant = |(document, _): &&(&Document, &Rules)| reference.documents.contains(&document.name);
        let mut is_any = false;
        for (document, rules) in names.rules.iter().filter(is_meant) {
            let is_named = |rule: &&Rule| match &reference.rule {
                None => true,
                Some(name) => rule.section.as_ref().is_some_and(|section| section.name.as_deref() == Some(name)),
            };
            for rule in rules.rules.iter().filter(is_named) {
                is_any = true;
                self.of_rule(&document.name, rule).push(Arc::clone(plugin));
            }
        }
        is_any
    }
}
