//! The snapshot: the whole configuration, compiled and immutable. A request uses one from its first decision to its last.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::authorization::Guard;
use crate::cluster::{Cluster, Endpoint};
use crate::gateway::{Bind, Port};
use crate::name::{ClusterName, OriginalDst, ServiceName};
use crate::plugin::Plugin;
use crate::revision::{RevisionId, Sequence};
use crate::route::{Decision, Request, RouteTable, Source};
use crate::split::{Destination, Target};
use crate::stats::StatsId;
use crate::workload::Workload;

/// What a service port carries, as its documents say (`appProtocol`, else the port's name).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP, and its endpoints speak HTTP/1.1: anything else on it is a client error.
    Http,
    /// HTTP, and its endpoints speak HTTP/2 without TLS (`h2c`, `grpc`).
    Http2,
    /// Not said: looked at; what is not HTTP is passed on as it is.
    Detect,
    /// Something that HTTP rules do not concern (`tcp`, `https`, `mysql`, ...).
    Opaque,
    /// A UDP port.
    Udp,
}

impl Protocol {
    /// Whether HTTP rules can concern it.
    pub fn may_be_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Detect)
    }
}

/// One port of a service: what clients address.
#[derive(Clone, Debug)]
pub struct Frontend {
    /// Service and port.
    pub name: ClusterName,
    /// The service's virtual addresses with this port. Empty for headless services.
    pub addresses: Vec<SocketAddr>,
    /// What it carries.
    pub protocol: Protocol,
    /// The entries of every rule that concerns this port. Without entries, and without a policy for its endpoints, the
    /// port is none of the proxy's business.
    pub routes: RouteTable,
    /// What concerns callers of these namespaces instead: routes that they made for themselves.
    pub consumers: BTreeMap<Arc<str>, RouteTable>,
    /// The service itself: takes what no rule matches.
    pub service: Destination,
    /// What sees its requests before a rule is chosen, in their order.
    pub plugins: Arc<[Arc<Plugin>]>,
    /// What sees its connections that are none of HTTP, in their order.
    pub tcp_plugins: Arc<[Arc<Plugin>]>,
    /// Where the copies are counted that those ask for.
    pub mirrored: StatsId,
}

impl Frontend {
    /// A port without addresses and rules.
    pub fn new(name: ClusterName, protocol: Protocol, service: Destination) -> Self {
        Self {
            name,
            addresses: Vec::new(),
            protocol,
            routes: RouteTable::default(),
            consumers: BTreeMap::new(),
            service,
            plugins: Arc::default(),
            tcp_plugins: Arc::default(),
            mirrored: StatsId(0),
        }
    }

    /// Whether the proxy must see this port's connections.
    pub fn is_intercepted(&self) -> bool {
        let has_routes = !self.routes.entries().is_empty() || !self.consumers.is_empty();
        let is_http = self.protocol.may_be_http() && (has_routes || self.has_policy() || !self.plugins.is_empty());
        is_http || (self.protocol != Protocol::Udp && !self.tcp_plugins.is_empty())
    }

    /// Whether a policy says how its endpoints are treated.
    pub fn has_policy(&self) -> bool {
        matches!(&self.service.target, Target::Cluster(cluster) if cluster.needs_proxy())
    }

    /// Whether any of its rules has plugins.
    pub fn has_rule_plugins(&self) -> bool {
        self.routes.has_plugins() || self.consumers.values().any(RouteTable::has_plugins)
    }

    /// The table that decides about requests from there.
    pub fn table(&self, source: &Source<'_>) -> &RouteTable {
        if self.consumers.is_empty() {
            return &self.routes;
        }
        let namespace = source.workload.map(|workload| &workload.namespace);
        namespace.and_then(|namespace| self.consumers.get(namespace)).unwrap_or(&self.routes)
    }

    /// Decides about a request; see [`RouteTable::decide`].
    pub fn decide(&self, request: &Request<'_>, roll: u64) -> Decision<'_> {
        self.table(&request.source).decide(request, &self.service, roll)
    }
}

/// The whole configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// Its place in the version log.
    pub sequence: Sequence,
    /// The hash of its content.
    pub revision: RevisionId,
    frontends: BTreeMap<ClusterName, Arc<Frontend>>,
    by_address: HashMap<SocketAddr, Arc<Frontend>>,
    /// What is reached at the addresses of workloads themselves, where it takes a request to decide who may.
    guarded: HashMap<SocketAddr, Arc<Frontend>>,
    has_guards: bool,
    workloads: HashMap<IpAddr, Arc<Workload>>,
    gateways: BTreeMap<Bind, Arc<Port>>,
    /// Each once, in order of their names.
    plugins: Vec<Arc<Plugin>>,
}

impl Snapshot {
    /// A snapshot of these parts. Where two services claim one address the first by name has it; `weir-config`
    /// reports that as an error before it comes to this.
    pub fn new(
        sequence: Sequence,
        revision: RevisionId,
        frontends: Vec<Arc<Frontend>>,
        workloads: &[Arc<Workload>],
    ) -> Self {
        let frontends: BTreeMap<_, _> =
            frontends.into_iter().map(|frontend| (frontend.name.clone(), frontend)).collect();
        let mut by_address = HashMap::new();
        for frontend in frontends.values().filter(|frontend| frontend.protocol != Protocol::Udp) {
            for address in &frontend.addresses {
                by_address.entry(*address).or_insert_with(|| Arc::clone(frontend));
            }
        }
        let by_ip = |workload: &Arc<Workload>| {
            workload.addresses.iter().map(|ip| (*ip, Arc::clone(workload))).collect::<Vec<_>>()
        };
        let workloads: HashMap<_, _> = workloads.iter().flat_map(by_ip).collect();
        let guarded = guarded(&frontends, &workloads);
        let has_guards = workloads.values().any(|workload| workload.guard.is_some());
        let plugins = frontends.values().flat_map(|frontend| frontend.plugins.iter().chain(&*frontend.tcp_plugins));
        let plugins: BTreeMap<_, _> = plugins.map(|plugin| (&plugin.name, plugin)).collect();
        let plugins = plugins.into_values().cloned().collect();
        Self {
            sequence,
            revision,
            frontends,
            by_address,
            guarded,
            has_guards,
            workloads,
            gateways: BTreeMap::new(),
            plugins,
        }
    }

    /// The same with gateways.
    #[must_use]
    pub fn with_gateways(self, gateways: BTreeMap<Bind, Arc<Port>>) -> Self {
        Self { gateways, ..self }
    }

    /// A configuration without anything in it: what a node has before its first.
    pub fn empty() -> Self {
        Self::new(Sequence(0), RevisionId::of([]), Vec::new(), &[])
    }

    /// The same configuration at another place in the version log.
    #[must_use]
    pub fn at(mut self, sequence: Sequence) -> Self {
        self.sequence = sequence;
        self
    }

    /// The frontend that a client meant.
    pub fn frontend_at(&self, destination: OriginalDst) -> Option<&Arc<Frontend>> {
        self.by_address.get(&destination.0).or_else(|| self.guarded.get(&destination.0))
    }

    /// The addresses of workloads at which it takes a request to decide who may reach them.
    pub fn guarded_for_requests(&self) -> impl Iterator<Item = SocketAddr> {
        self.guarded.keys().copied()
    }

    /// Whether the proxy must see a frontend's connections: for what rules and policies say of it, or because it takes a
    /// request to decide who may reach its endpoints.
    pub fn is_intercepted(&self, frontend: &Frontend) -> bool {
        let is_guarded = |endpoint: &Endpoint| endpoint.addresses.iter().any(|at| self.guarded.contains_key(&at));
        frontend.is_intercepted()
            || (frontend.protocol.may_be_http()
                && !self.guarded.is_empty()
                && Self::endpoints_of(frontend).iter().any(is_guarded))
    }

    /// Whether connections to a frontend from this node may need a tunnel: some of its endpoints run elsewhere.
    pub fn needs_tunnels(&self, frontend: &Frontend, node: &str) -> bool {
        let is_tunnelled = |address: SocketAddr| {
            self.workloads.get(&address.ip()).is_some_and(|workload| workload.is_tunnelled_from(node, address.port()))
        };
        frontend.protocol != Protocol::Udp
            && Self::endpoints_of(frontend).iter().flat_map(|endpoint| endpoint.addresses.iter()).any(is_tunnelled)
    }

    /// Whether anybody is kept from reaching anything.
    pub fn has_guards(&self) -> bool {
        self.has_guards
    }

    /// All guards, each as often as workloads have it.
    pub fn guards(&self) -> impl Iterator<Item = &Arc<Guard>> {
        self.workloads.values().filter_map(|workload| workload.guard.as_ref())
    }

    /// What guards the workload with this address.
    pub fn guard(&self, address: IpAddr) -> Option<&Arc<Guard>> {
        self.workloads.get(&address).and_then(|workload| workload.guard.as_ref())
    }

    /// The frontend of a service's port.
    pub fn frontend(&self, name: &ClusterName) -> Option<&Arc<Frontend>> {
        self.frontends.get(name)
    }

    /// The frontends of a service, in order of port.
    pub fn service(&self, service: &ServiceName) -> impl Iterator<Item = &Arc<Frontend>> {
        let from = ClusterName { service: service.clone(), port: 0 };
        let of_service = service.clone();
        self.frontends
            .range(from..)
            .map(|(_, frontend)| frontend)
            .take_while(move |frontend| frontend.name.service == of_service)
    }

    /// All frontends, in order of name and port.
    pub fn frontends(&self) -> impl Iterator<Item = &Arc<Frontend>> {
        self.frontends.values()
    }

    /// The same with more plugins: those of gateways and of rules.
    #[must_use]
    pub fn with_plugins(self, plugins: impl IntoIterator<Item = Arc<Plugin>>) -> Self {
        let all = self.plugins.iter().cloned().chain(plugins).map(|plugin| (plugin.name.clone(), plugin));
        let all: BTreeMap<_, _> = all.collect();
        Self { plugins: all.into_values().collect(), ..self }
    }

    /// Whether any request meets a plugin.
    pub fn has_plugins(&self) -> bool {
        !self.plugins.is_empty()
    }

    /// Every plugin, each once, in order of their names.
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// The listeners of gateways that share this address and port.
    pub fn gateway_port(&self, bind: &Bind) -> Option<&Arc<Port>> {
        self.gateways.get(bind)
    }

    /// Every address and port at which gateways listen.
    pub fn gateway_ports(&self) -> impl Iterator<Item = &Arc<Port>> {
        self.gateways.values()
    }

    /// The workload with this address.
    pub fn workload(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.get(&address)
    }

    /// All addresses of workloads with their workloads.
    pub fn workloads(&self) -> impl Iterator<Item = (&IpAddr, &Arc<Workload>)> {
        self.workloads.iter()
    }

    /// The endpoints of a frontend's own service, empty when it resolves to nothing.
    pub fn endpoints_of(frontend: &Frontend) -> &[Endpoint] {
        match &frontend.service.target {
            Target::Cluster(cluster) => cluster.endpoints(),
            Target::Unresolved(_) => &[],
        }
    }
}

/// What is reached at the addresses of workloads whose guards ask for requests: each by itself, by no rule of its services.
fn guarded(
    frontends: &BTreeMap<ClusterName, Arc<Frontend>>,
    workloads: &HashMap<IpAddr, Arc<Workload>>,
) -> HashMap<SocketAddr, Arc<Frontend>> {
    let asks = |address: &SocketAddr| {
        let guard = workloads.get(&address.ip()).and_then(|workload| workload.guard.as_ref());
        guard.is_some_and(|guard| guard.asks_for_requests())
    };
    let mut guarded = HashMap::new();
    for frontend in frontends.values().filter(|frontend| frontend.protocol.may_be_http()) {
        let Target::Cluster(cluster) = &frontend.service.target else { continue };
        for endpoint in cluster.endpoints() {
            for address in endpoint.addresses.iter().filter(asks) {
                guarded.entry(address).or_insert_with(|| Arc::new(alone(frontend, cluster, endpoint, address)));
            }
        }
    }
    guarded
}

/// One endpoint as a frontend.
fn alone(frontend: &Frontend, cluster: &Cluster, endpoint: &Endpoint, address: SocketAddr) -> Frontend {
    let ClusterName { service, port } = &frontend.name;
    // Of another name, so that what is known of the cluster's endpoints together is not taken for that of this one.
    let service = ServiceName::new(&service.namespace, &format!("{}@{}", service.name, address.ip()));
    let name = ClusterName { service, port: *port };
    let endpoint = Endpoint { addresses: address.into(), ..endpoint.clone() };
    let cluster = Cluster::new(name.clone(), cluster.protocol, vec![endpoint]);
    let service = Destination::new(name, Target::Cluster(Arc::new(cluster)), 1, frontend.service.stats);
    Frontend::new(frontend.name.clone(), frontend.protocol, service)
}
