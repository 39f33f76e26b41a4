//! What must be compiled anew.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use weir_core::name::{ObjectName, ServiceName};
use weir_core::route::Precedence;

use super::Last;
use super::names::Names;
use super::plugins::Plugins;
use super::world::World;
use crate::document::{Document, DocumentSet};
use crate::kinds::Content;
use crate::kinds::rules::Rules;

/// What a set of documents does not have in common with the one before.
#[derive(Debug)]
pub(super) enum Difference {
    /// There is none before.
    Everything,
    /// Only this.
    Of {
        /// Documents with rules: they come, go, say something else, or refer to a service that is another.
        rules: HashSet<ObjectName>,
        /// Services that are others, or that other rules concern than before; each with the places in the order of those
        /// rules as they were.
        services: HashMap<ServiceName, Vec<Precedence>>,
        /// Whether gateways, or what is attached to them, are not what they were.
        gateways: bool,
    },
}

impl Difference {
    /// The world of the new set, and what must be compiled anew in it.
    pub(super) fn find(last: &Last, set: &DocumentSet, names: &Names<'_>, plugins: &Plugins) -> (Arc<World>, Self) {
        let (gone, new) = last.documents.differences(set);
        let changed: Vec<&Arc<Document>> = gone.into_iter().chain(new).collect();
        let (world, services) = world(last, &changed, names);
        let own = changed.iter().filter(|document| matches!(document.content, Content::Rules(_)));
        let mut rules: HashSet<ObjectName> = own.map(|document| document.name.clone()).collect();
        if !services.is_empty() {
            let referring =
                names.rules.iter().filter(|(document, rules)| rules.refer_to(&document.name.namespace, &services));
            rules.extend(referring.map(|(document, _)| document.name.clone()));
        }
        rules.extend(plugins.different_rules(&last.plugins).into_iter().cloned());
        let mut concerned: HashMap<ServiceName, Vec<Precedence>> =
            services.into_iter().map(|service| (service, Vec::new())).collect();
        for service in plugins.different_services(&last.plugins) {
            concerned.entry(service.clone()).or_default();
        }
        for name in &rules {
            if let Some((document, rules)) = rules_of(&last.documents, name) {
                let before: Vec<_> = rules.precedences(name).collect();
                for service in applied(document, rules, last, names) {
                    concerned.entry(service).or_default().extend_from_slice(&before);
                }
            }
            if let Some((document, rules)) = rules_of(set, name) {
                for service in applied(document, rules, last, names) {
                    concerned.entry(service).or_default();
                }
            }
        }
        let is_attached = |name: &ObjectName| {
            let both = [rules_of(&last.documents, name), rules_of(set, name)];
            both.into_iter().flatten().any(|(_, rules)| !rules.attached().is_empty())
        };
        let is_of_gateways = |document: &&Arc<Document>| {
            matches!(document.content, Content::Gateway(_) | Content::ReferenceGrant(_) | Content::Namespace(_))
        };
        let gateways = changed.iter().any(is_of_gateways)
            || rules.iter().any(is_attached)
            || plugins.has_different_gateways(&last.plugins);
        (world, Self::Of { rules, services: concerned, gateways })
    }

    /// Whether the rules of this document must be compiled anew, or are gone.
    pub(super) fn has_rules(&self, document: &ObjectName) -> bool {
        match self {
            Self::Everything => true,
            Self::Of { rules, .. } => rules.contains(document),
        }
    }

    /// What rules must be compiled anew.
    pub(super) fn rules<'s>(&self, set: &'s DocumentSet, names: &Names<'s>) -> Vec<(&'s Document, &'s Rules)> {
        match self {
            Self::Everything => names.rules.clone(),
            Self::Of { rules, .. } => {
                // In their order, in which numbers are given to counters.
                let rules: BTreeSet<_> = rules.iter().collect();
                rules.into_iter().filter_map(|name| rules_of(set, name)).collect()
            }
        }
    }

    /// Whether gateways must be compiled anew.
    pub(super) fn concerns_gateways(&self) -> bool {
        match self {
            Self::Everything => true,
            Self::Of { gateways, .. } => *gateways,
        }
    }

    /// The places whose entries go from the tables of this service; `None` if its ports are what they were.
    pub(super) fn gone(&self, service: &ServiceName) -> Option<&[Precedence]> {
        match self {
            Self::Everything => Some(&[]),
            Self::Of { services, .. } => services.get(service).map(Vec::as_slice),
        }
    }
}

/// The world after these documents changed, and the services that are not what they were.
fn world(last: &Last, changed: &[&Arc<Document>], names: &Names<'_>) -> (Arc<World>, BTreeSet<ServiceName>) {
    let is_no_part = |document: &&Arc<Document>| {
        matches!(
            document.content,
            Content::Rules(_) | Content::Gateway(_) | Content::ReferenceGrant(_) | Content::Plugin(_)
        )
    };
    if changed.iter().all(is_no_part) {
        return (Arc::clone(&last.world), BTreeSet::new());
    }
    let world = World::new(names, Some(&last.world));
    let mut services: BTreeSet<_> = world.differences(&last.world).into_iter().collect();
    services.extend(changed.iter().filter_map(|document| match &document.content {
        Content::Service(_) => {
            let ObjectName { namespace, name, .. } = &document.name;
            Some(ServiceName { namespace: Arc::clone(namespace), name: Arc::clone(name) })
        }
        Content::EndpointSlice(slice) => slice.service.clone(),
        Content::Pod(_)
        | Content::Namespace(_)
        | Content::Rules(_)
        | Content::TrafficPolicy(_)
        | Content::Gateway(_)
        | Content::ReferenceGrant(_)
        | Content::Plugin(_)
        | Content::Authorization(_)
        | Content::Authentication(_) => None,
    }));
    (Arc::new(world), services)
}

fn rules_of<'s>(set: &'s DocumentSet, name: &ObjectName) -> Option<(&'s Document, &'s Rules)> {
    let document = set.document(name)?;
    match &document.content {
        Content::Rules(rules) => Some((document, rules)),
        _ => None,
    }
}

/// The services, of now and of before, whose tables can have entries of these rules; each once.
fn applied(document: &Document, rules: &Rules, last: &Last, names: &Names<'_>) -> BTreeSet<ServiceName> {
    match &rules.applies_to {
        Some(named) => named.iter().map(|one| one.service.clone()).collect(),
        None => {
            let namespace = &document.name.namespace;
            let before = last.frontends.keys().map(|name| &name.service);
            let before = before.filter(|service| service.namespace == *namespace);
            names.services_in(namespace).map(|(name, _)| name).chain(before).cloned().collect()
        }
    }
}
