//! What documents refer to, and what refers to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_core::name::{ObjectName, ServiceName};

use crate::document::{Document, DocumentSet};
use crate::kinds::Content;
use crate::kinds::endpoint_slice::{PodRef, SERVICE_LABEL};
use crate::kinds::plugin::Attached;
use crate::kinds::rules::{AttachesTo, Rules, To};
use crate::kinds::selector::Selector;
use crate::kinds::traffic_policy::Target;
use crate::place::{Segment, written};

impl DocumentSet {
    /// The documents that a document names, each with the field that names it. They need not be in the set, except for
    /// what is named by saying nothing: a rule without `services` refers to every service of its namespace that there is.
    pub fn references(&self, of: &ObjectName) -> Vec<(String, ObjectName)> {
        let Some(document) = self.document(of) else {
            return Vec::new();
        };
        match &document.content {
            Content::Rules(rules) => self.of_rules(&of.namespace, rules),
            Content::EndpointSlice(slice) => {
                let label = [Segment::Key("metadata"), Segment::Key("labels"), Segment::Key(SERVICE_LABEL)];
                let service = slice.service.iter().map(|service| (written(&label), object(service)));
                let pods = slice.pods.iter().map(|(position, pod)| {
                    (format!("endpoints[{position}].targetRef"), ObjectName::new("Pod", &pod.namespace, &pod.name))
                });
                service.chain(pods).collect()
            }
            Content::Pod(_) => {
                let namespace = ObjectName::new("Namespace", "", &of.namespace);
                let known = self.document(&namespace).is_some();
                known.then(|| ("metadata.namespace".to_owned(), namespace)).into_iter().collect()
            }
            Content::TrafficPolicy(policy) => {
                let name = |one: &Target| format!("{}.name", written(&one.path()));
                policy.targets.iter().map(|one| (name(one), object(&one.service))).collect()
            }
            Content::Plugin(plugin) => match &plugin.attached {
                Some(attached) => self.of_plugin(attached),
                None => self.all_services(&of.namespace),
            },
            Content::Authorization(policy) => self.chosen_pods(&of.namespace, &policy.selector),
            Content::Authentication(policy) => self.chosen_pods(&of.namespace, &policy.selector),
            Content::Service(_) | Content::Namespace(_) | Content::Gateway(_) | Content::ReferenceGrant(_) => {
                Vec::new()
            }
        }
    }

    /// The pods that a policy is for, as far as it chooses any.
    fn chosen_pods(&self, namespace: &str, selector: &Selector) -> Vec<(String, ObjectName)> {
        if selector.is_empty() {
            return Vec::new();
        }
        let first = ObjectName::new("Pod", namespace, "");
        let all = self.from(&first).take_while(|one| *one.name.kind == *"Pod" && *one.name.namespace == *namespace);
        let is_chosen = |document: &&Arc<Document>| match &document.content {
            Content::Pod(pod) => selector.is_for(&pod.labels),
            _ => false,
        };
        all.filter(is_chosen).map(|document| ("spec.selector".to_owned(), document.name.clone())).collect()
    }

    /// The services of a namespace, as they are named by naming none.
    fn all_services(&self, namespace: &str) -> Vec<(String, ObjectName)> {
        let first = ObjectName::new("Service", namespace, "");
        let all = self.from(&first).map(|document| &document.name);
        let all = all.take_while(|name| *name.kind == *"Service" && *name.namespace == *namespace);
        all.map(|name| ("spec.services".to_owned(), name.clone())).collect()
    }

    fn of_plugin(&self, Attached { services, gateways, rules }: &Attached) -> Vec<(String, ObjectName)> {
        let services = services.iter().map(|one| (format!("spec.services[{}]", one.position), object(&one.service)));
        let gateways = gateways.iter().enumerate();
        let gateways = gateways.map(|(position, name)| (format!("spec.gateways[{position}]"), name.clone()));
        let rules = rules.iter().enumerate().flat_map(|(position, reference)| {
            // Where no kind is said, those are meant that there are.
            let is_one = reference.documents.len() == 1;
            let known = reference.documents.iter().filter(move |name| is_one || self.document(name).is_some());
            known.map(move |name| (format!("spec.rules[{position}]"), name.clone()))
        });
        services.chain(gateways).chain(rules).collect()
    }

    fn of_rules(&self, namespace: &str, rules: &Rules) -> Vec<(String, ObjectName)> {
        let mut references = Vec::new();
        let syntax = rules.syntax;
        match &rules.applies_to {
            Some(services) => {
                references
                    .extend(services.iter().map(|one| (written(&syntax.applies_path(one)), object(&one.service))));
            }
            None => references = self.all_services(namespace),
        }
        let gateway = |one: &AttachesTo| (format!("{}.name", written(&one.path())), one.gateway.clone());
        references.extend(rules.attached().iter().map(gateway));
        let mut refer = |path: Vec<Segment<'_>>, to: &To| {
            if to.is_service {
                references.push((format!("{}.{}", written(&path), syntax.name_key()), object(&to.service)));
            }
        };
        for rule in &rules.rules {
            for (position, destination) in rule.route.iter().flat_map(|route| route.destinations.iter().enumerate()) {
                refer(syntax.destination_path(rule, position), &destination.to);
            }
            if let Some(to) = rule.retry_destination() {
                refer(syntax.retry_path(rule), to);
            }
            for mirror in &rule.mirrors {
                refer(syntax.mirror_path(rule, mirror), &mirror.to);
            }
        }
        for rule in &rules.rules {
            let named = rule.plugins.iter();
            references.extend(named.map(|(position, name)| {
                (format!("{}.name", written(&syntax.filter_path(rule, *position))), name.clone())
            }));
        }
        references
    }

    /// The documents that refer to any of these objects.
    pub fn referrers(&self, objects: &BTreeSet<ObjectName>) -> Vec<ObjectName> {
        let meant = Meant::of(objects);
        if meant.is_nothing() {
            return Vec::new();
        }
        let referring = self.iter().filter(|document| document.refers_to(&meant));
        referring.map(|document| document.name.clone()).collect()
    }
}

/// The objects that documents can refer to.
#[derive(Debug, Default)]
struct Meant {
    services: BTreeSet<ServiceName>,
    pods: BTreeSet<PodRef>,
    namespaces: BTreeSet<String>,
    /// Gateways, plugins, and what has rules.
    others: BTreeSet<ObjectName>,
}

impl Meant {
    fn of(objects: &BTreeSet<ObjectName>) -> Self {
        let mut meant = Self::default();
        for object in objects {
            let ObjectName { kind, namespace, name } = object;
            match &**kind {
                "Service" => {
                    meant.services.insert(ServiceName { namespace: namespace.clone(), name: name.clone() });
                }
                "Pod" => {
                    meant.pods.insert(PodRef { namespace: namespace.to_string(), name: name.to_string() });
                }
                "Namespace" => {
                    meant.namespaces.insert(name.to_string());
                }
                "Gateway" | "Plugin" | "RouteRule" | "HTTPRoute" | "GRPCRoute" => {
                    meant.others.insert(object.clone());
                }
                _ => {}
            }
        }
        meant
    }

    fn is_nothing(&self) -> bool {
        let Self { services, pods, namespaces, others } = self;
        services.is_empty() && pods.is_empty() && namespaces.is_empty() && others.is_empty()
    }
}

impl Document {
    /// Whether it chooses among the pods of its namespace, some of which are meant.
    fn may_choose(&self, selector: &Selector, meant: &Meant) -> bool {
        let mut pods = meant.pods.iter().filter(|pod| pod.namespace == *self.name.namespace);
        !selector.is_empty() && pods.next().is_some()
    }

    fn refers_to(&self, meant: &Meant) -> bool {
        match &self.content {
            Content::Rules(rules) => {
                let mut plugins = rules.rules.iter().flat_map(|rule| rule.plugins.iter());
                rules.attached().iter().any(|attached| meant.others.contains(&attached.gateway))
                    || plugins.any(|(_, name)| meant.others.contains(name))
                    || rules.refer_to(&self.name.namespace, &meant.services)
            }
            Content::EndpointSlice(slice) => {
                slice.service.as_ref().is_some_and(|service| meant.services.contains(service))
                    || slice.pods.iter().any(|(_, pod)| meant.pods.contains(pod))
            }
            Content::Authorization(policy) => self.may_choose(&policy.selector, meant),
            Content::Authentication(policy) => self.may_choose(&policy.selector, meant),
            Content::Pod(_) => meant.namespaces.contains(&*self.name.namespace),
            Content::TrafficPolicy(policy) => policy.targets.iter().any(|one| meant.services.contains(&one.service)),
            Content::Plugin(plugin) => match &plugin.attached {
                Some(Attached { services, gateways, rules }) => {
                    let mut rules = rules.iter().flat_map(|reference| &reference.documents);
                    services.iter().any(|one| meant.services.contains(&one.service))
                        || gateways.iter().any(|name| meant.others.contains(name))
                        || rules.any(|name| meant.others.contains(name))
                }
                None => meant.services.iter().any(|service| service.namespace == self.name.namespace),
            },
            Content::Service(_) | Content::Namespace(_) | Content::Gateway(_) | Content::ReferenceGrant(_) => false,
        }
    }
}

fn object(service: &ServiceName) -> ObjectName {
    ObjectName { kind: "Service".into(), namespace: service.namespace.clone(), name: service.name.clone() }
}
