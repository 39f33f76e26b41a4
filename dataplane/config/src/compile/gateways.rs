//! Gateways, and the routes that are attached to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_core::gateway::{self, Bind, CertificateName, Hostname, Port};
use weir_core::name::{ClusterName, ServiceName};
use weir_core::route::{self, Entry, RouteTable};
use weir_core::snapshot::{Frontend, Protocol};
use weir_core::split::{Destination, Target, Unresolved};
use weir_core::stats::{StatsId, StatsKey, StatsTable};

use super::clusters::Clusters;
use super::names::{FoundGateway, Names};
use super::plan::TooMany;
use super::plugins::Plugins;
use super::rules::Resolver;
use crate::diagnostic::Diagnostic;
use crate::document::Document;
use crate::kinds::gateway_api::Listener;
use crate::kinds::rules::{AttachesTo, Rule, Rules};
use crate::limits;
use crate::place::Segment;

/// The ports that gateways listen at.
pub(super) type Ports = BTreeMap<Bind, Arc<Port>>;

/// Gateways as compiled.
#[derive(Debug)]
pub(super) struct Gateways {
    pub(super) ports: Ports,
    diagnostics: Vec<Diagnostic>,
}

/// Gateways before they are compiled.
pub(super) enum Candidate<'s> {
    /// They are what they were.
    Same(Arc<Gateways>),
    New(Planned<'s>),
}

/// What is served, and by which routes.
pub(super) struct Planned<'s> {
    places: Vec<Place<'s>>,
    diagnostics: Vec<Diagnostic>,
}

/// A listener that is served.
struct Place<'s> {
    gateway: FoundGateway<'s>,
    listener: &'s Listener,
    /// Where nobody came before it.
    binds: Vec<Bind>,
    /// Those that it may show.
    certificates: Arc<[CertificateName]>,
    routes: Vec<Attached<'s>>,
}

/// The rules of a document, and the host names that it and a listener have in common.
struct Attached<'s> {
    document: &'s Document,
    rules: &'s Rules,
    hostnames: Vec<Hostname>,
}

impl Candidate<'_> {
    /// About gateways and what is attached to them.
    pub(super) fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Same(gateways) => &gateways.diagnostics,
            Self::New(planned) => &planned.diagnostics,
        }
    }

    /// The gateways.
    ///
    /// # Errors
    /// When there are more routes than are kept.
    pub(super) fn build(
        self,
        names: &Names<'_>,
        clusters: &Clusters,
        plugins: &Plugins,
        stats: &mut StatsTable,
    ) -> Result<Arc<Gateways>, TooMany> {
        match self {
            Self::Same(gateways) => Ok(gateways),
            Self::New(planned) => {
                let ports = planned.ports(names, clusters, plugins, stats)?;
                Ok(Arc::new(Gateways { ports, diagnostics: planned.diagnostics }))
            }
        }
    }
}

/// Finds what gateways listen at and which routes are attached to them, and reports what is wrong with that.
pub(super) fn plan<'s>(names: &Names<'s>) -> Planned<'s> {
    let mut planned = Planned { places: Vec::new(), diagnostics: Vec::new() };
    planned.listeners(names);
    for (document, rules) in &names.rules {
        for attached in rules.attached() {
            planned.attach(names, document, rules, attached);
        }
        if !rules.attached().is_empty() {
            planned.check_grants(names, document, rules);
        }
    }
    planned
}

/// The entries of a route for one host name.
struct OfRoute<'s> {
    document: &'s Document,
    entries: Vec<Arc<Entry>>,
}

impl<'s> Planned<'s> {
    fn listeners(&mut self, names: &Names<'s>) {
        let mut taken: BTreeMap<(Bind, &Hostname), (FoundGateway<'s>, &'s Listener)> = BTreeMap::new();
        // Whoever opens a port says whether TLS is spoken there.
        let mut is_tls: BTreeMap<Bind, bool> = BTreeMap::new();
        for found in names.gateways().filter(|found| found.gateway.is_own) {
            for listener in &found.gateway.listeners {
                let all = [None];
                let addresses = found.gateway.addresses.iter().copied().map(Some);
                let ips = addresses.chain(all.into_iter().filter(|_| found.gateway.addresses.is_empty()));
                let (mut binds, own) = (Vec::new(), listener.certificates.is_some());
                for bind in ips.map(|ip| Bind { ip, port: listener.port }) {
                    if let Some((other, same)) = taken.get(&(bind, &listener.hostname)) {
                        let path = listener.path();
                        let message = format!(
                            "the listener `{}` of {} has this port and host name; this one is left out",
                            same.name, other.document.name
                        );
                        self.diagnostics.push(found.document.scope().warning(&path, message));
                        continue;
                    }
                    if *is_tls.entry(bind).or_insert(own) != own {
                        let [here, there] = if own { ["HTTPS", "HTTP"] } else { ["HTTP", "HTTPS"] };
                        let message = format!(
                            "another listener has this port for {there}; this one, of {here}, is left out there"
                        );
                        let path = [&listener.path()[..], &[Segment::Key("protocol")]].concat();
                        self.diagnostics.push(found.document.scope().warning(&path, message));
                        continue;
                    }
                    taken.insert((bind, &listener.hostname), (found, listener));
                    binds.push(bind);
                }
                let certificates = self.certificates(names, found, listener);
                self.places.push(Place { gateway: found, listener, binds, certificates, routes: Vec::new() });
            }
        }
    }

    /// The certificates that a listener may show; the others are reported.
    fn certificates(
        &mut self,
        names: &Names<'_>,
        FoundGateway { document, .. }: FoundGateway<'_>,
        listener: &Listener,
    ) -> Arc<[CertificateName]> {
        let mut granted = Vec::new();
        for certificate in listener.certificates.iter().flatten() {
            let name = &certificate.name;
            if names.may_show(&document.name, name) {
                granted.push(name.clone());
                continue;
            }
            let path = [Segment::Key("tls"), Segment::Key("certificateRefs"), Segment::Index(certificate.position)];
            let path = [&listener.path()[..], &path, &[Segment::Key("namespace")]].concat();
            let message = format!(
                "no ReferenceGrant of the namespace `{}` lets a Gateway of `{}` show this certificate: it is left out",
                name.namespace, document.name.namespace
            );
            self.diagnostics.push(document.scope().warning(&path, message));
        }
        granted.into()
    }

    /// Attaches a route to the listeners that it names and that take it.
    fn attach(&mut self, names: &Names<'s>, document: &'s Document, rules: &'s Rules, attached: &AttachesTo) {
        let mut warn = |message: String| self.diagnostics.push(document.scope().warning(&attached.path(), message));
        let Some(found) = names.gateway(&attached.gateway) else {
            return warn(format!("there is no {}; the route has no effect on it", attached.gateway));
        };
        if !found.gateway.is_own {
            return;
        }
        let is_named = |listener: &Listener| {
            attached.listener.as_ref().is_none_or(|name| *name == listener.name)
                && attached.port.is_none_or(|port| port == listener.port)
        };
        let of_gateway = self.places.iter_mut().filter(|place| place.gateway.document.name == attached.gateway);
        let mut why_not = "has no listener that this names";
        let mut is_attached = false;
        for place in of_gateway.filter(|place| is_named(place.listener)) {
            if !place.takes(document, names) {
                why_not = "takes no routes of this kind and namespace";
                continue;
            }
            let hostnames = rules.hostnames();
            let own = &place.listener.hostname;
            let common: Vec<_> = match hostnames {
                [] => vec![own.clone()],
                several => several.iter().filter_map(|hostname| hostname.intersection(own)).collect(),
            };
            if common.is_empty() {
                why_not = "has no listener with a host name of the route's";
                continue;
            }
            is_attached = true;
            place.routes.push(Attached { document, rules, hostnames: common });
        }
        if !is_attached {
            warn(format!("{} {why_not}; the route has no effect on it", attached.gateway));
        }
    }

    /// Reports backends of other namespaces that a gateway's routes may not lead to.
    fn check_grants(&mut self, names: &Names<'_>, document: &Document, rules: &Rules) {
        let mut check = |path: Vec<Segment<'_>>, service: &ServiceName| {
            if names.is_granted(&document.name, service) {
                return;
            }
            let path = [path.as_slice(), &[Segment::Key("namespace")]].concat();
            let message = format!(
                "no ReferenceGrant of the namespace `{}` lets a gateway's {} of `{}` lead there: what comes by a \
                 gateway is answered with 500",
                service.namespace, document.name.kind, document.name.namespace
            );
            self.diagnostics.push(document.scope().warning(&path, message));
        };
        let syntax = rules.syntax;
        for rule in &rules.rules {
            for (position, one) in rule.route.iter().flat_map(|route| route.destinations.iter().enumerate()) {
                check(syntax.destination_path(rule, position), &one.to.service);
            }
            for mirror in &rule.mirrors {
                check(syntax.mirror_path(rule, mirror), &mirror.to.service);
            }
        }
    }

    /// The ports with their routes.
    fn ports(
        &self,
        names: &Names<'_>,
        clusters: &Clusters,
        plugins: &Plugins,
        stats: &mut StatsTable,
    ) -> Result<Ports, TooMany> {
        let mut ports: BTreeMap<Bind, (bool, Vec<(Hostname, gateway::Listener)>)> = BTreeMap::new();
        let mut count = 0;
        for place in &self.places {
            let frontends = place.frontends(names, clusters, plugins, stats, &mut count)?;
            for bind in &place.binds {
                let listener = gateway::Listener {
                    gateway: place.gateway.document.name.clone(),
                    name: (&*place.listener.name).into(),
                    certificates: Arc::clone(&place.certificates),
                    frontends: frontends.iter().cloned().collect(),
                };
                let is_tls = place.listener.certificates.is_some();
                let (_, listeners) = ports.entry(*bind).or_insert_with(|| (is_tls, Vec::new()));
                listeners.push((place.listener.hostname.clone(), listener));
            }
        }
        let port = |(bind, (is_tls, listeners)): (Bind, (bool, Vec<_>))| {
            (bind, Arc::new(Port { bind, is_tls, listeners: listeners.into_iter().collect() }))
        };
        Ok(ports.into_iter().map(port).collect())
    }
}

impl Place<'_> {
    /// Whether the listener takes a route, as far as its kind and namespace are concerned.
    fn takes(&self, route: &Document, names: &Names<'_>) -> bool {
        let kind = self.listener.kinds.iter().any(|kind| **kind == *route.name.kind);
        let own = &self.gateway.document.name.namespace;
        kind && names.is_from(&self.listener.from, own, &route.name.namespace)
    }

    /// For each host name what decides about requests for it: the routes for that name, then those for less specific ones
    /// that mean it as well.
    fn frontends(
        &self,
        names: &Names<'_>,
        clusters: &Clusters,
        plugins: &Plugins,
        stats: &mut StatsTable,
        count: &mut usize,
    ) -> Result<Vec<(Hostname, Arc<Frontend>)>, TooMany> {
        let gateway = &self.gateway.document.name;
        let service = ServiceName { namespace: Arc::clone(&gateway.namespace), name: Arc::clone(&gateway.name) };
        let name = ClusterName { service, port: self.listener.port };
        let mut by_host: BTreeMap<&Hostname, Vec<OfRoute<'_>>> = BTreeMap::new();
        for attached in &self.routes {
            let document = &attached.document.name;
            let mut resolver = Resolver { names, clusters, plugins, stats, document, is_gateway: true };
            let rules: Vec<_> =
                attached.rules.rules.iter().map(|rule| (rule, resolver.shared(attached.rules, rule, &name))).collect();
            for hostname in &attached.hostnames {
                let entries = rules.iter().flat_map(|(rule, compiled)| entries(rule, compiled, hostname)).collect();
                by_host.entry(hostname).or_default().push(OfRoute { document: attached.document, entries });
            }
        }
        let mut frontends = Vec::new();
        for hostname in by_host.keys() {
            let means_it = |other: &&Hostname| other.intersection(hostname).as_ref() == Some(*hostname);
            // Of the host names of one route the most specific counts; the others would bring the same rules again.
            let mut routes: BTreeMap<*const Document, (u32, &[Arc<Entry>])> = BTreeMap::new();
            for other in by_host.keys().copied().filter(means_it) {
                for OfRoute { document, entries } in &by_host[other] {
                    let key = std::ptr::from_ref(*document);
                    let specificity = other.specificity();
                    if routes.get(&key).is_none_or(|(known, _)| *known < specificity) {
                        routes.insert(key, (specificity, entries));
                    }
                }
            }
            let entries: Vec<_> = routes.into_values().flat_map(|(_, entries)| entries).cloned().collect();
            *count += entries.len();
            if *count > limits::ROUTE_ENTRIES {
                return Err(TooMany);
            }
            let counted = stats.id(StatsKey::Route { rule: None, destination: name.clone() });
            let nowhere = Destination::new(name.clone(), Target::Unresolved(Unresolved::NotAService), 1, counted);
            let routes = RouteTable::default().updated(&[], entries);
            let plugins = plugins.of_gateway(gateway);
            let mirrored = match &plugins[..] {
                [] => StatsId(0),
                _ => stats.id(StatsKey::Mirror { rule: gateway.clone(), destination: name.clone() }),
            };
            let frontend =
                Frontend { routes, plugins, mirrored, ..Frontend::new(name.clone(), Protocol::Http, nowhere) };
            frontends.push(((*hostname).clone(), Arc::new(frontend)));
        }
        Ok(frontends)
    }
}

fn entries<'r>(
    rule: &'r Rule,
    compiled: &'r Arc<route::Rule>,
    hostname: &'r Hostname,
) -> impl Iterator<Item = Arc<Entry>> {
    let matchers = rule.matchers.iter().enumerate();
    matchers.map(|(at, matcher)| Arc::new(Entry::new(Arc::clone(compiled), at, Arc::clone(matcher)).for_host(hostname)))
}
