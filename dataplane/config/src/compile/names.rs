//! Finds documents by what refers to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_core::gateway::CertificateName;
use weir_core::name::{ClusterName, ObjectName, ServiceName};

use crate::document::{Document, DocumentSet};
use crate::kinds::Content;
use crate::kinds::authorization_policy::AuthorizationPolicy;
use crate::kinds::endpoint_slice::EndpointSlice;
use crate::kinds::gateway_api::{From, Gateway, ReferenceGrant};
use crate::kinds::namespace::Namespace;
use crate::kinds::peer_authentication::PeerAuthentication;
use crate::kinds::plugin::PluginFor;
use crate::kinds::pod::Pod;
use crate::kinds::rules::Rules;
use crate::kinds::service::{Service, ServicePort};
use crate::kinds::traffic_policy::PolicyFor;

/// A service and its document.
pub(super) struct Found<'s> {
    pub(super) document: &'s Document,
    pub(super) service: &'s Service,
}

/// A gateway and its document.
#[derive(Clone, Copy)]
pub(super) struct FoundGateway<'s> {
    pub(super) document: &'s Document,
    pub(super) gateway: &'s Gateway,
}

/// All documents by kind.
pub(super) struct Names<'s> {
    /// What the ids of all workloads begin with.
    pub(super) trust_domain: &'s str,
    services: BTreeMap<ServiceName, Found<'s>>,
    slices: HashMap<&'s ServiceName, Vec<(&'s Document, &'s EndpointSlice)>>,
    pub(super) pods: Vec<(&'s ObjectName, &'s Document, &'s Pod)>,
    pub(super) rules: Vec<(&'s Document, &'s Rules)>,
    pub(super) policies: Vec<(&'s Document, &'s PolicyFor)>,
    pub(super) plugins: Vec<(&'s Document, &'s PluginFor)>,
    pub(super) authorizations: Vec<(&'s Document, &'s AuthorizationPolicy)>,
    pub(super) authentications: Vec<(&'s Document, &'s PeerAuthentication)>,
    namespaces: HashMap<&'s str, &'s Namespace>,
    gateways: BTreeMap<&'s ObjectName, FoundGateway<'s>>,
    /// Each with its namespace.
    grants: Vec<(&'s str, &'s ReferenceGrant)>,
}

impl<'s> Names<'s> {
    pub(super) fn new(set: &'s DocumentSet, trust_domain: &'s str) -> Self {
        let mut names = Self {
            trust_domain,
            services: BTreeMap::new(),
            slices: HashMap::new(),
            pods: Vec::new(),
            rules: Vec::new(),
            policies: Vec::new(),
            plugins: Vec::new(),
            authorizations: Vec::new(),
            authentications: Vec::new(),
            namespaces: HashMap::new(),
            gateways: BTreeMap::new(),
            grants: Vec::new(),
        };
        for document in set.iter().map(Arc::as_ref) {
            let name = &document.name;
            match &document.content {
                Content::Service(service) => {
                    let key = ServiceName { namespace: Arc::clone(&name.namespace), name: Arc::clone(&name.name) };
                    names.services.insert(key, Found { document, service });
                }
                Content::EndpointSlice(slice) => {
                    if let Some(service) = &slice.service {
                        names.slices.entry(service).or_default().push((document, slice));
                    }
                }
                Content::Pod(pod) => names.pods.push((name, document, pod)),
                Content::Namespace(namespace) => {
                    names.namespaces.insert(&name.name, namespace);
                }
                Content::Rules(rules) => names.rules.push((document, rules)),
                Content::TrafficPolicy(policy) => names.policies.push((document, policy)),
                Content::Plugin(plugin) => names.plugins.push((document, plugin)),
                Content::Authorization(policy) => names.authorizations.push((document, policy)),
                Content::Authentication(policy) => names.authentications.push((document, policy)),
                Content::Gateway(gateway) => {
                    names.gateways.insert(name, FoundGateway { document, gateway });
                }
                Content::ReferenceGrant(grant) => names.grants.push((&name.namespace, grant)),
            }
        }
        names
    }

    pub(super) fn service(&self, name: &ServiceName) -> Option<&Found<'s>> {
        self.services.get(name)
    }

    pub(super) fn services(&self) -> impl Iterator<Item = (&ServiceName, &Found<'s>)> {
        self.services.iter()
    }

    pub(super) fn services_in(&self, namespace: &str) -> impl Iterator<Item = (&ServiceName, &Found<'s>)> {
        let from = ServiceName::new(namespace, "");
        let own = from.namespace.clone();
        self.services.range(from..).take_while(move |(name, _)| name.namespace == own)
    }

    /// Every port of every service.
    pub(super) fn ports(&self) -> impl Iterator<Item = (ClusterName, &'s ServicePort)> {
        self.services.iter().flat_map(|(name, found)| {
            ports_of(found.service).map(|port| (ClusterName { service: name.clone(), port: port.port }, port))
        })
    }

    pub(super) fn slices(&self, service: &ServiceName) -> &[(&'s Document, &'s EndpointSlice)] {
        self.slices.get(service).map_or(&[], Vec::as_slice)
    }

    pub(super) fn all_slices(&self) -> impl Iterator<Item = (&'s ServiceName, &'s Document, &'s EndpointSlice)> {
        self.slices.iter().flat_map(|(name, slices)| slices.iter().map(|(document, slice)| (*name, *document, *slice)))
    }

    pub(super) fn namespace(&self, name: &str) -> Option<&'s Namespace> {
        self.namespaces.get(name).copied()
    }

    pub(super) fn gateway(&self, name: &ObjectName) -> Option<FoundGateway<'s>> {
        self.gateways.get(name).copied()
    }

    /// All gateways, the one first that was there first.
    pub(super) fn gateways(&self) -> impl Iterator<Item = FoundGateway<'s>> {
        let mut all: Vec<_> = self.gateways.values().copied().collect();
        let age = |found: &FoundGateway<'s>| (found.gateway.created.is_none(), found.gateway.created.clone());
        // Stable: among those of one age it is the order of the names.
        all.sort_by_key(age);
        all.into_iter()
    }

    /// Whether a gateway's route of this name may lead to a service.
    pub(super) fn is_granted(&self, route: &ObjectName, service: &ServiceName) -> bool {
        self.grants(route, &service.namespace, ("Service", &service.name))
    }

    /// Whether a gateway of this name may show a certificate.
    pub(super) fn may_show(&self, gateway: &ObjectName, certificate: &CertificateName) -> bool {
        self.grants(gateway, &certificate.namespace, ("Secret", &certificate.name))
    }

    /// Whether something may name what is of a namespace and has this kind and name there.
    fn grants(&self, from: &ObjectName, namespace: &str, to: (&str, &str)) -> bool {
        let mut grants = self.grants.iter().filter(|(of, _)| *of == namespace);
        *from.namespace == *namespace || grants.any(|(_, grant)| grant.allows((&from.kind, &from.namespace), to))
    }

    /// Whether a namespace is among those that a gateway of the namespace `own` takes routes from.
    pub(super) fn is_from(&self, from: &From, own: &str, namespace: &str) -> bool {
        let label = |key: &str| match key {
            // Which every namespace has in a cluster.
            "kubernetes.io/metadata.name" => Some(namespace.to_owned()),
            key => self.namespace(namespace).and_then(|found| found.labels.get(key)).cloned(),
        };
        match from {
            From::Same => own == namespace,
            From::All => true,
            From::None => false,
            From::Selected(requirements) => requirements.iter().all(|one| one.is_met_by(label)),
        }
    }

    /// Where a service is written, ` (file:line)`; empty when nobody knows.
    pub(super) fn place(&self, name: &ServiceName) -> String {
        let origin = self.service(name).map(|found| &found.document.origin);
        match origin.map(|origin| (&origin.file, origin.line)) {
            Some((Some(file), Some(line))) => format!(" ({}:{line})", file.display()),
            _ => String::new(),
        }
    }
}

/// The ports of a service, each number once: where a number is there for TCP and for UDP, the model names the TCP port.
pub(super) fn ports_of(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let is_shadowed = |port: &ServicePort| port.is_udp() && service.tcp_ports().any(|tcp| tcp.port == port.port);
    service.ports.iter().filter(move |port| !is_shadowed(port))
}
