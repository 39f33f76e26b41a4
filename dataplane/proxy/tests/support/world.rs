//! Configurations: services with endpoints, and rules for the service `a`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use weir_core::authorization::{self, Action, Guard, Mode, Operation, Policy, RuleName, Ruling, Stance, Tally};
use weir_core::balance::{TrafficPolicy, Weight};
use weir_core::cluster::{Cluster, Endpoint};
use weir_core::filter::Filters;
use weir_core::gateway::{Bind, CertificateName, Hostname, Hosts, Listener, Port};
use weir_core::methods::Methods;
use weir_core::mirror::Mirror;
use weir_core::name::{ClusterName, ObjectName, ServiceName};
use weir_core::plugin::Plugin;
use weir_core::retry::{Retry, RetryTo};
use weir_core::revision::{RevisionId, Sequence};
use weir_core::route::{Condition, Entry, Field, Matcher, RouteTable, Rule, TextMatch, Timeouts};
use weir_core::session::Session;
use weir_core::share::Share;
use weir_core::snapshot::{Frontend, Protocol, Snapshot};
use weir_core::split::{Destination, Split, Target, Unresolved};
use weir_core::stats::{StatsId, StatsKey, StatsTable};
use weir_core::workload::Workload;

/// A rule for the service `a`.
#[derive(Clone, Default)]
pub struct RuleOf {
    /// A header that must have this value; none: every request matches.
    pub header: Option<(&'static str, &'static str)>,
    /// Services with their weights.
    pub to: Vec<(&'static str, u32)>,
    /// Services that get copies.
    pub mirrors: Vec<&'static str>,
    pub timeouts: Timeouts,
    /// Whether requests that fail are tried again; places are names of services.
    pub retry: Option<Retry<&'static str>>,
    pub filters: Filters,
    pub session: Option<Arc<Session>>,
    /// What sees the requests that match.
    pub plugins: Vec<Arc<Plugin>>,
}

/// A configuration in the making.
pub struct World {
    pub services: BTreeMap<&'static str, Vec<SocketAddr>>,
    pub rules: Vec<RuleOf>,
    /// What the service `a` carries.
    pub protocol: Protocol,
    /// What the others do, where it is something else.
    pub protocols: BTreeMap<&'static str, Protocol>,
    /// How the endpoints of `a` are treated.
    pub policy: TrafficPolicy,
    /// The nodes that endpoints run on.
    pub nodes: BTreeMap<SocketAddr, &'static str>,
    /// The zones that they are in.
    pub zones: BTreeMap<SocketAddr, &'static str>,
    /// The versions that endpoints are of.
    pub versions: BTreeMap<SocketAddr, &'static str>,
    /// What endpoints weigh of which something is said.
    pub weights: BTreeMap<SocketAddr, Weight>,
    /// Pods that ask.
    pub pods: Vec<Arc<Workload>>,
    /// Where gateways listen whose routes are those of `a`, for every host.
    pub gateways: Vec<SocketAddr>,
    /// The hosts that they take in TLS, each with its certificate. None: they speak in the clear.
    pub hosts: BTreeMap<&'static str, &'static str>,
    /// Whether the configuration has no service at all.
    pub is_empty: bool,
    /// What sees the requests of `a`.
    pub plugins: Vec<Arc<Plugin>>,
    /// What sees the connections to `a` that are none of HTTP.
    pub tcp_plugins: Vec<Arc<Plugin>>,
    sequence: u64,
    stats: StatsTable,
}

impl World {
    /// A service `a` with these endpoints and no rule.
    pub fn new(endpoints: &[SocketAddr]) -> Self {
        Self {
            services: BTreeMap::from([("a", endpoints.to_vec())]),
            rules: Vec::new(),
            protocol: Protocol::Http,
            protocols: BTreeMap::new(),
            policy: TrafficPolicy::default(),
            nodes: BTreeMap::new(),
            zones: BTreeMap::new(),
            versions: BTreeMap::new(),
            weights: BTreeMap::new(),
            pods: Vec::new(),
            gateways: Vec::new(),
            hosts: BTreeMap::new(),
            is_empty: false,
            plugins: Vec::new(),
            tcp_plugins: Vec::new(),
            sequence: 0,
            stats: StatsTable::default(),
        }
    }

    #[must_use]
    pub fn service(mut self, name: &'static str, endpoints: &[SocketAddr]) -> Self {
        self.services.insert(name, endpoints.to_vec());
        self
    }

    #[must_use]
    pub fn rule(mut self, rule: RuleOf) -> Self {
        self.rules.push(rule);
        self
    }

    #[must_use]
    pub fn plugins(mut self, plugins: Vec<Arc<Plugin>>) -> Self {
        self.plugins = plugins;
        self
    }

    #[must_use]
    pub fn tcp_plugins(mut self, plugins: Vec<Arc<Plugin>>) -> Self {
        self.tcp_plugins = plugins;
        self
    }

    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    #[must_use]
    pub fn policy(mut self, policy: TrafficPolicy) -> Self {
        self.policy = policy;
        self
    }

    #[must_use]
    pub fn version(mut self, endpoint: SocketAddr, version: &'static str) -> Self {
        self.versions.insert(endpoint, version);
        self
    }

    /// A pod of an app that asks from this address.
    #[must_use]
    pub fn pod(mut self, name: &str, app: &str, address: &str) -> Self {
        self.pods.push(Arc::new(Workload {
            app: app.into(),
            addresses: vec![address.parse().unwrap()],
            ..Workload::new(&"default".into(), &name.into(), "default")
        }));
        self
    }

    /// Guards everything at an address by a policy of this action, whose one rule matches this.
    #[must_use]
    pub fn guarded(mut self, address: &str, action: Action, operation: Operation) -> Self {
        let ruling = |name| Arc::new(Ruling { name, tally: Tally::default() });
        let name = ObjectName::new("AuthorizationPolicy", "default", "policy");
        let rule = authorization::Rule {
            peers: Vec::new(),
            operations: vec![operation],
            conditions: Vec::new(),
            ruling: ruling(RuleName::Rule(name.clone(), 0)),
        };
        let policies = vec![Arc::new(Policy { name, action, rules: vec![rule] })];
        let unallowed = ruling(RuleName::Unallowed("default".into()));
        let guard = Guard::new(Mode::Enforce, Stance::Allow, policies, unallowed, "key".into());
        self.pods.push(Arc::new(Workload {
            addresses: vec![address.parse().unwrap()],
            guard: Some(Arc::new(guard)),
            ..Workload::new(&"default".into(), &"guarded".into(), "default")
        }));
        self
    }

    /// A service whose endpoints speak something else than those of `a`.
    #[must_use]
    pub fn speaking(mut self, name: &'static str, protocol: Protocol) -> Self {
        self.protocols.insert(name, protocol);
        self
    }

    pub fn keys(&self) -> &[StatsKey] {
        self.stats.keys()
    }

    /// The configuration as it is now.
    pub fn snapshot(&mut self) -> Snapshot {
        self.sequence += 1;
        let entries = self.rules.clone().iter().enumerate().map(|(number, rule)| self.entry(number, rule)).collect();
        let routes = RouteTable::new(entries);
        let service = self.destination(None, "a", 1);
        let plugins = self.plugins.clone().into();
        let tcp_plugins = self.tcp_plugins.clone().into();
        let frontend = Frontend { routes, plugins, tcp_plugins, ..Frontend::new(cluster("a"), self.protocol, service) };
        let frontend = Arc::new(frontend);
        let gateways = self.gateways.iter().map(|address| gateway(*address, &self.hosts, &frontend)).collect();
        let mut frontends = if self.is_empty { Vec::new() } else { vec![frontend] };
        // Plugins ask services by name.
        let of_rules = self.rules.iter().any(|rule| !rule.plugins.is_empty());
        if of_rules || !self.plugins.is_empty() || !self.tcp_plugins.is_empty() {
            for name in self.services.keys().copied().filter(|name| *name != "a").collect::<Vec<_>>() {
                let service = self.destination(None, name, 1);
                frontends.push(Arc::new(Frontend::new(cluster(name), Protocol::Http, service)));
            }
        }
        let snapshot = Snapshot::new(Sequence(self.sequence), RevisionId::of([]), frontends, &self.pods);
        let of_rules = self.rules.iter().flat_map(|rule| rule.plugins.iter().cloned());
        snapshot.with_gateways(gateways).with_plugins(of_rules)
    }

    fn entry(&mut self, number: usize, spec: &RuleOf) -> Entry {
        let name = ObjectName::new("RouteRule", "default", &format!("rule-{number}"));
        let to = spec.to.iter().map(|(to, weight)| self.destination(Some(&name), to, *weight));
        let destinations: Vec<Destination> = to.collect();
        let mirrors = spec.mirrors.iter().map(|to| self.mirror(&name, to)).collect();
        let condition = |(name, value): (&'static str, &'static str)| Condition {
            field: Field::Header(http::HeaderName::from_static(name)),
            text: TextMatch::Exact(value.into()),
        };
        let matcher =
            Matcher { path: None, methods: Vec::new(), conditions: spec.header.into_iter().map(condition).collect() };
        let stats = destinations.first().map_or(StatsId(0), |first| first.stats);
        let split = Split { session: spec.session.clone(), ..Split::to(destinations) };
        let retry = spec.retry.as_ref().map(|retry| Box::new(self.retry(&name, retry)));
        let filters = spec.filters.clone().shared();
        let plugins = spec.plugins.clone().into();
        let rule = Rule { mirrors, timeouts: spec.timeouts, retry, filters, plugins, ..Rule::new(name, split, stats) };
        Entry::new(Arc::new(rule), 0, matcher)
    }

    fn retry(&mut self, rule: &ObjectName, retry: &Retry<&'static str>) -> Retry {
        Retry {
            attempts: retry.attempts,
            on: retry.on.clone(),
            methods: retry.methods.clone(),
            backoff: retry.backoff,
            hedge_after: retry.hedge_after,
            to: match retry.to {
                RetryTo::First => RetryTo::First,
                RetryTo::Same => RetryTo::Same,
                RetryTo::Other(to) => RetryTo::Other(self.destination(Some(rule), to, 1)),
            },
        }
    }

    fn destination(&mut self, rule: Option<&ObjectName>, to: &str, weight: u32) -> Destination {
        let key = StatsKey::Route { rule: rule.cloned(), destination: cluster(to) };
        Destination::new(cluster(to), self.target(to), weight, self.stats.id(key))
    }

    fn mirror(&mut self, rule: &ObjectName, to: &str) -> Mirror {
        let key = StatsKey::Mirror { rule: rule.clone(), destination: cluster(to) };
        Mirror {
            destination: cluster(to),
            target: self.target(to),
            share: Share::ALL,
            methods: Methods::Any,
            stats: self.stats.id(key),
        }
    }

    fn target(&self, name: &str) -> Target {
        let Some(addresses) = self.services.get(name) else { return Target::Unresolved(Unresolved::NoSuchService) };
        let endpoint = |address: &SocketAddr| Endpoint {
            addresses: (*address).into(),
            workload: None,
            version: self.versions.get(address).map(|version| (*version).into()),
            node: self.nodes.get(address).map(|node| (*node).into()),
            zone: self.zones.get(address).copied().map(Into::into),
            weight: self.weights.get(address).copied().unwrap_or_default(),
        };
        let endpoints = addresses.iter().map(endpoint).collect();
        let protocol = self.protocols.get(name).copied().unwrap_or(self.protocol);
        let cluster = Cluster::new(cluster(name), protocol, endpoints);
        let policy = if name == "a" { self.policy.clone() } else { TrafficPolicy::default() };
        Target::Cluster(Arc::new(cluster.with_policy(Arc::new(policy))))
    }
}

fn gateway(
    address: SocketAddr,
    hosts: &BTreeMap<&'static str, &'static str>,
    frontend: &Arc<Frontend>,
) -> (Bind, Arc<Port>) {
    let bind = Bind { ip: Some(address.ip()), port: address.port() };
    let listener = |hostname: Hostname, certificate: Option<&str>| {
        let certificate = certificate.map(|name| CertificateName { namespace: "default".into(), name: name.into() });
        let listener = Listener {
            gateway: ObjectName::new("Gateway", "default", "edge"),
            name: "http".into(),
            certificates: certificate.into_iter().collect(),
            frontends: Hosts::from_iter([(hostname.clone(), Arc::clone(frontend))]),
        };
        (hostname, listener)
    };
    let mut listeners: Vec<_> =
        hosts.iter().map(|(host, certificate)| listener(Hostname::new(host), Some(certificate))).collect();
    if hosts.is_empty() {
        listeners.push(listener(Hostname::Any, None));
    }
    (bind, Arc::new(Port { bind, is_tls: !hosts.is_empty(), listeners: listeners.into_iter().collect() }))
}

fn cluster(name: &str) -> ClusterName {
    ClusterName { service: ServiceName::new("default", name), port: 80 }
}
