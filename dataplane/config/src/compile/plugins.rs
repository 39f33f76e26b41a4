//! Which plugins see the requests of which service.

use std::collections::HashMap;
use std::sync::Arc;

use weir_core::name::{ClusterName, ObjectName, ServiceName};
use weir_core::plugin::Plugin;
use weir_core::revision::DocumentHash;

use super::names::Names;
use crate::diagnostic::Diagnostic;
use crate::kinds::plugin::PluginFor;
use crate::place::Segment;

/// The plugins of every port that has some, in the order in which they see requests.
#[derive(Debug, Default)]
pub(super) struct Plugins {
    by_port: HashMap<ClusterName, Arc<[Arc<Plugin>]>>,
    /// What each document says, and what was made of it.
    by_document: HashMap<ObjectName, (DocumentHash, Arc<Plugin>)>,
}

impl Plugins {
    /// Finds them and reports what is wrong with what they are for. Those whose documents say what they said before are
    /// the same, so that they need not be loaded again.
    pub(super) fn new(names: &Names<'_>, before: Option<&Self>, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut by_document = HashMap::new();
        let mut by_port: HashMap<ClusterName, Vec<Arc<Plugin>>> = HashMap::new();
        for (document, PluginFor { applies_to, plugin }) in &names.plugins {
            let before = before.and_then(|before| before.by_document.get(&document.name));
            let plugin = match before {
                Some((hash, plugin)) if *hash == document.hash => plugin,
                _ => plugin,
            };
            by_document.insert(document.name.clone(), (document.hash, Arc::clone(plugin)));
            let mut add = |service: &ServiceName, port: Option<u16>| {
                let Some(found) = names.service(service) else { return false };
                let ports = found.service.tcp_ports().filter(|one| port.is_none_or(|port| one.port == port));
                let ports: Vec<_> = ports.filter(|port| port.protocol.may_be_http()).collect();
                for port in &ports {
                    let name = ClusterName { service: service.clone(), port: port.port };
                    by_port.entry(name).or_default().push(Arc::clone(plugin));
                }
                !ports.is_empty()
            };
            match applies_to {
                None => names.services_in(&document.name.namespace).for_each(|(name, _)| {
                    add(name, None);
                }),
                Some(services) => {
                    for one in services.iter().filter(|one| !add(&one.service, one.port)) {
                        let path = [Segment::Key("spec"), Segment::Key("services"), Segment::Index(one.position)];
                        let port = one.port.map_or_else(String::new, |port| format!(":{port}"));
                        let message = match names.service(&one.service) {
                            None => format!("there is no Service {}; the plugin has no effect on it", one.service),
                            Some(_) => format!("Service {}{port} has no such port that carries HTTP", one.service),
                        };
                        diagnostics.push(document.scope().warning(&path, message));
                    }
                }
            }
        }
        let in_order = |mut plugins: Vec<Arc<Plugin>>| -> Arc<[Arc<Plugin>]> {
            plugins.sort_by(|one, other| (one.order, &one.name).cmp(&(other.order, &other.name)));
            plugins.into()
        };
        let by_port = by_port.into_iter().map(|(name, plugins)| (name, in_order(plugins))).collect();
        Self { by_port, by_document }
    }

    /// Those of a port.
    pub(super) fn find(&self, name: &ClusterName) -> Arc<[Arc<Plugin>]> {
        self.by_port.get(name).cloned().unwrap_or_default()
    }

    /// The services that do not have the same ones as before.
    pub(super) fn differences<'p>(&'p self, before: &'p Self) -> impl Iterator<Item = &'p ServiceName> {
        let is_same = |one: &[Arc<Plugin>], other: &[Arc<Plugin>]| {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
        };
        let differs = move |one: &Self, other: &Self, name: &ClusterName| !is_same(&one.find(name), &other.find(name));
        let gone = before.by_port.keys().filter(move |name| !self.by_port.contains_key(name));
        self.by_port.keys().filter(move |name| differs(self, before, name)).chain(gone).map(|name| &name.service)
    }
}
