//! The decisions about a request, all made from one snapshot: rule, destination, endpoint, mirrors, timeouts.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, Method, Version, request};
use weir_core::filter::Filters;
use weir_core::gateway::{Bind, Port};
use weir_core::mirror::Mirror;
use weir_core::name::{ClusterName, ObjectName, OriginalDst, PeerAddr};
use weir_core::retry::Retry;
use weir_core::route::{Decision, Outcome, Request, RouteTable, Rule, Source, Timeouts};
use weir_core::snapshot::{Frontend, Protocol, Snapshot};
use weir_core::split::{Destination, Split, Target, Unresolved};
use weir_plugin_host::Routing;
use weir_telemetry::{Cause, MirrorEvent};

use crate::downstream::Downstream;
use crate::filters::{self, Answer, FilterChain};
use crate::headers::{self, Upgrading};
use crate::mirror::Planned;
use crate::plugins::route;
use crate::record::Record;
use crate::session::Kept;
use crate::upstream::{Counted, Picked};
use crate::worker::Worker;

/// Which frontend a connection was made to.
#[derive(Clone, Debug)]
pub(crate) enum Meant {
    /// The one with this address.
    Address(OriginalDst),
    /// The one of this name.
    Service(ClusterName),
    /// One of those that gateways have here: which, each request's host says.
    Gateway(Entrance),
    /// None: a workload itself, at an address of which no service knows.
    Workload(SocketAddr),
}

/// Where a client from outside came in.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    pub(crate) bind: Bind,
    /// `None` in the clear.
    pub(crate) tls: Option<Tls>,
}

/// What a client in TLS has said.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// The name that it connected to, in lower case; empty where it said none.
    pub(crate) server_name: Box<str>,
    /// The version of TLS.
    pub(crate) version: &'static str,
}

impl Entrance {
    /// The frontend for a request, as a snapshot has it.
    fn frontend<'s>(&self, snapshot: &'s Snapshot, headers: &HeaderMap) -> Result<&'s Arc<Frontend>, Cause> {
        // What is to go in TLS from now on does not, on a connection that was made before.
        let is_same = |port: &&Arc<Port>| port.is_tls == self.tls.is_some();
        let port = snapshot.gateway_port(&self.bind).filter(is_same).ok_or(Cause::UnknownService)?;
        let host = headers::host(headers);
        if self.tls.as_ref().is_some_and(|tls| port.is_misdirected(&tls.server_name, &host)) {
            return Err(Cause::Misdirected);
        }
        port.frontend(&host).ok_or(Cause::NoRoute)
    }
}

impl Meant {
    /// The service's frontend, as a snapshot has it; `None` at a gateway.
    pub(crate) fn service<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Arc<Frontend>> {
        match self {
            Self::Address(address) => snapshot.frontend_at(*address),
            Self::Service(name) => snapshot.frontend(name),
            Self::Gateway(_) | Self::Workload(_) => None,
        }
    }

    /// What is spoken there, as a snapshot has it.
    pub(crate) fn protocol(&self, snapshot: &Snapshot) -> Option<Protocol> {
        match self {
            Self::Address(_) | Self::Service(_) => self.service(snapshot).map(|frontend| frontend.protocol),
            Self::Gateway(at) => snapshot.gateway_port(&at.bind).map(|_| Protocol::Http),
            Self::Workload(_) => Some(Protocol::Opaque),
        }
    }

    /// The frontend for a request, as a snapshot has it.
    pub(crate) fn frontend<'s>(&self, snapshot: &'s Snapshot, headers: &HeaderMap) -> Result<&'s Arc<Frontend>, Cause> {
        match self {
            Self::Address(_) | Self::Service(_) => self.service(snapshot).ok_or(Cause::UnknownService),
            Self::Gateway(at) => at.frontend(snapshot, headers),
            Self::Workload(_) => Err(Cause::UnknownService),
        }
    }

    /// Whether clients are outside the mesh: what they say about others is not believed.
    pub(crate) fn is_outside(&self) -> bool {
        matches!(self, Self::Gateway(_))
    }

    /// Whether clients speak TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Gateway(Entrance { tls: Some(_), .. }))
    }
}

/// What is done with a request.
pub(crate) struct Plan {
    /// An error only where another try may go elsewhere.
    pub(crate) chosen: Result<Chosen, Cause>,
    pub(crate) timeouts: Timeouts,
    pub(crate) mirrors: Vec<Planned>,
    /// Set when the rule has requests tried again.
    pub(crate) retrying: Option<Box<Retrying>>,
}

/// The endpoint for a try.
pub(crate) struct Chosen {
    pub(crate) picked: Picked,
    /// What it speaks.
    pub(crate) protocol: Protocol,
}

/// What the choice of another destination is made from.
pub(crate) struct Retrying {
    how: How,
    /// Where in the split the first one is.
    destination: usize,
}

/// Who says how a request is tried again.
enum How {
    Rule(Arc<Rule>),
    Plugin(Box<(Retry, Split)>),
}

impl Retrying {
    /// How it is tried again, where it may go, and where it goes first.
    pub(crate) fn parts(&self) -> Option<(&Retry, &Split, &Destination)> {
        let (retry, split) = match &self.how {
            How::Rule(rule) => (rule.retry.as_deref()?, &rule.split),
            How::Plugin(own) => (&own.0, &own.1),
        };
        Some((retry, split, split.destinations.get(self.destination)?))
    }
}

/// What the client gets from the proxy itself.
pub(crate) enum Local {
    /// The request cannot be passed on.
    Failure(Cause),
    /// Its rule answers it.
    Answer(Box<Answer>),
}

impl From<Cause> for Local {
    fn from(cause: Cause) -> Self {
        Self::Failure(cause)
    }
}

/// What rules look at.
pub(crate) fn request<'r>(
    downstream: &Downstream,
    snapshot: &'r Snapshot,
    head: &'r request::Parts,
    routing: Option<&'r Routing>,
) -> Request<'r> {
    Request {
        method: &head.method,
        path: if head.method == Method::CONNECT { "/" } else { head.uri.path() },
        query: head.uri.query(),
        headers: &head.headers,
        source: source(downstream, snapshot),
        attributes: routing.map_or(&[], |routing| &routing.attributes),
    }
}

fn source<'s>(downstream: &Downstream, snapshot: &'s Snapshot) -> Source<'s> {
    let address = downstream.peer.0.ip();
    Source { address, workload: snapshot.workload(address).map(|workload| &**workload) }
}

/// The table that decides about a client's requests.
pub(crate) fn table<'s>(downstream: &Downstream, snapshot: &Snapshot, frontend: &'s Frontend) -> &'s RouteTable {
    frontend.table(&source(downstream, snapshot))
}

/// Decides about a request with the snapshot that it pinned.
pub(crate) fn plan(
    worker: &Worker,
    snapshot: &Snapshot,
    meant: &Meant,
    peer: PeerAddr,
    head: &request::Parts,
    record: &mut Record,
) -> Result<Plan, Local> {
    let routing = record.routing.take();
    let met = record.chain.as_ref().and_then(|chain| chain.entry());
    let request = request(record.downstream(), snapshot, head, routing.as_deref());
    if let Some(entry) = &mut record.entry {
        entry.revision = Some(snapshot.sequence);
    }
    let frontend = meant.frontend(snapshot, &head.headers)?;
    if let Some(entry) = &mut record.entry {
        entry.service = Some(frontend.name.clone());
    }
    let decision = match &met {
        Some(entry) => entry.decide(&request, worker.random.next()),
        None => frontend.decide(&request, worker.random.next()),
    };
    let (decision, wanted) = match &routing {
        Some(routing) => wanted(worker, snapshot, frontend, (routing, decision), record)?,
        None => (decision, None),
    };
    record.filters = FilterChain::new(&decision, &head.headers);
    limit_and_fault(worker, frontend, &decision, &request, record)?;
    let destination = match decision.outcome {
        Outcome::Destination(destination, _) => destination,
        _ => return Err(answered(frontend, &decision, head, record)),
    };
    // Where a plugin sends it comes before where it has been.
    let kept =
        routing.as_ref().is_none_or(|routing| !routing.is_placed()).then(|| session(&decision, &request, record));
    let (destination, endpoint) = match kept.flatten() {
        Some((destination, endpoint)) => (destination, Some(endpoint)),
        None => (destination, None),
    };
    let version = routing.as_ref().and_then(|routing| routing.version.as_deref());
    let chosen = choose(worker, peer, &request, (destination, endpoint, version, &decision), record);
    let retrying = retrying(&decision, destination, routing.as_ref().and_then(|routing| routing.retries));
    // That it has no endpoint, or no place, is a failure like others; that it does not exist is the configuration's.
    if let Err(cause) = chosen
        && (retrying.is_none() || cause == Cause::Unresolved)
    {
        return Err(cause.into());
    }
    let mirrors = wanted.as_deref().unwrap_or_else(|| decision.mirrors());
    let mirrors = match mirrors {
        [] => Vec::new(),
        mirrors => {
            let rule = decision.rule().map_or_else(|| frontend.name.service.object(), |rule| rule.name.clone());
            self::mirrors(worker, record.downstream(), &rule, mirrors, head)
        }
    };
    if let Some(entry) = &mut record.entry {
        entry.mirrors = mirrors.iter().map(|planned| Arc::clone(&planned.cluster)).collect();
    }
    let mut timeouts = decision.timeouts();
    timeouts.request = routing.and_then(|routing| routing.timeout).or(timeouts.request);
    Ok(Plan { chosen, timeouts, mirrors, retrying })
}

/// The decision about a request that plugins have a word about, and the mirrors that they want.
fn wanted<'s>(
    worker: &Worker,
    snapshot: &'s Snapshot,
    frontend: &Frontend,
    (routing, decision): (&Routing, Decision<'s>),
    record: &mut Record,
) -> Result<(Decision<'s>, Option<Vec<Mirror>>), Local> {
    let decided = route::decide(routing, snapshot, decision, worker.random.next());
    let all = decided.and_then(|decision| Ok((decision, route::mirrors(routing, snapshot, frontend)?)));
    all.map_err(|mistake| {
        record.detail = Some(format!("{mistake}\n").into());
        Cause::Unresolved.into()
    })
}

fn retrying(decision: &Decision<'_>, destination: &Destination, wanted: Option<u32>) -> Option<Box<Retrying>> {
    let rule = decision.rule();
    let position = |rule: &&Arc<Rule>| rule.split.destinations.iter().position(|one| std::ptr::eq(one, destination));
    let retrying = match (wanted, rule.and_then(|rule| rule.retry.as_deref())) {
        (Some(0), _) | (None, None) => return None,
        (None, Some(_)) => {
            Retrying { how: How::Rule(Arc::clone(rule?)), destination: rule.as_ref().and_then(position)? }
        }
        (Some(attempts), of_rule) => {
            let retry = route::retry(of_rule, attempts);
            let (split, destination) = match rule.and_then(|rule| Some((rule, position(&rule)?))) {
                Some((rule, position)) => (rule.split.clone(), position),
                None => (route::only(destination), 0),
            };
            Retrying { how: How::Plugin(Box::new((retry, split))), destination }
        }
    };
    Some(Box::new(retrying))
}

/// Applies the rate limit and the faults of a request's rule: it may have to wait, or be refused.
fn limit_and_fault(
    worker: &Worker,
    frontend: &Frontend,
    decision: &Decision<'_>,
    request: &Request<'_>,
    record: &mut Record,
) -> Result<(), Local> {
    let (Some(rule), Some(Filters { limit, fault, .. })) = (decision.rule(), decision.filters()) else { return Ok(()) };
    let refused = limit.as_ref().and_then(|limit| worker.buckets.take(limit, rule, request).err());
    let answer = match (refused, fault) {
        (Some(wait), _) => {
            record.retry_after = Some(wait);
            Some(Local::Failure(Cause::RateLimited))
        }
        (None, Some(fault)) => {
            record.delay = fault.delay(worker.random.next());
            fault.abort(worker.random.next()).map(|abort| filters::failed(abort, record.is_call))
        }
        (None, None) => None,
    };
    answer.map_or(Ok(()), |answer| {
        on_own_answer(frontend, decision, record);
        Err(answer)
    })
}

/// Where a request belongs that brings a session along: the destination, and the id of the endpoint.
fn session<'s>(decision: &Decision<'s>, request: &Request<'_>, record: &mut Record) -> Option<(&'s Destination, u64)> {
    let split = &decision.entry?.rule.split;
    let session = split.session.as_ref()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let token = session.token(request, now);
    record.session = Some(Box::new(Kept { session: Arc::clone(session), now, brought: token, at: None }));
    let token = token?;
    // One that the client would be sent away from is not gone back to.
    let is_open = |one: &&Destination| one.filters.as_ref().is_none_or(|filters| filters.redirect.is_none());
    split.of_session(&token).filter(is_open).map(|destination| (destination, token.endpoint))
}

/// What a request gets that goes to no endpoint.
fn answered(frontend: &Frontend, decision: &Decision<'_>, head: &request::Parts, record: &mut Record) -> Local {
    on_own_answer(frontend, decision, record);
    match filters::answer(decision, frontend, record.downstream().client.scheme, head) {
        Ok(answer) => Local::Answer(Box::new(answer)),
        Err(cause) => Local::Failure(cause),
    }
}

/// Counts a request that goes to no endpoint.
fn on_own_answer(frontend: &Frontend, decision: &Decision<'_>, record: &mut Record) {
    if let Some(entry) = &mut record.entry {
        entry.rule = decision.rule().cloned();
    }
    record.on_route(decision.rule().map_or(frontend.service.stats, |rule| rule.stats));
}

fn choose(
    worker: &Worker,
    peer: PeerAddr,
    request: &Request<'_>,
    (destination, kept, version, decision): (&Destination, Option<u64>, Option<&str>, &Decision<'_>),
    record: &mut Record,
) -> Result<Chosen, Cause> {
    if let Some(entry) = &mut record.entry {
        entry.rule = decision.rule().cloned();
        entry.destination = Some(destination.name.clone());
    }
    if let Some(chain) = &record.chain {
        chain.on_destination(decision.rule(), &destination.name);
    }
    record.on_route(destination.stats);
    match &destination.target {
        Target::Unresolved(reason) => {
            record.detail = Some(unresolved(decision, destination, *reason).into());
            Err(Cause::Unresolved)
        }
        Target::Cluster(cluster) => {
            let (key, roll) = (cluster.policy.key(request), worker.random.next());
            let permit = worker.pools.admit(cluster, peer, Counted::Request).map_err(|_| Cause::Overflow)?;
            let kept = kept.and_then(|id| worker.pools.pick_kept(cluster, peer, id));
            let others = route::excluded(cluster, version, peer.0.ip());
            let picked = kept.or_else(|| match &others[..] {
                [] => worker.pools.pick(cluster, peer, key, roll),
                others => worker.pools.pick_other(cluster, peer, roll, others),
            });
            let picked = picked.ok_or(Cause::NoEndpoint)?;
            record.on_endpoint(cluster, picked.endpoint.address());
            Ok(Chosen { picked: Picked { permit, ..picked }, protocol: cluster.protocol })
        }
    }
}

/// The version of HTTP that an endpoint gets a request in. Where nobody says what endpoints speak, they speak what their
/// clients do; gRPC cannot go by HTTP/1.1 at all, and a change of the protocol only by that.
pub(crate) fn version(protocol: Protocol, head: &request::Parts, upgrading: Upgrading, is_call: bool) -> Version {
    match protocol {
        _ if upgrading == Upgrading::Yes => Version::HTTP_11,
        Protocol::Http2 => Version::HTTP_2,
        Protocol::Http if is_call => Version::HTTP_2,
        Protocol::Http => Version::HTTP_11,
        Protocol::Detect | Protocol::Opaque | Protocol::Udp => head.version,
    }
}

/// Tells whoever asked what the rule's author has to look at. It names nothing that the rule does not name.
fn unresolved(decision: &Decision<'_>, destination: &Destination, reason: Unresolved) -> String {
    let ClusterName { service, port } = &destination.name;
    let rule = decision.rule().map(|rule| format!(" of {}", rule.title()));
    let rule = rule.unwrap_or_default();
    format!("the destination {}.{}:{port}{rule} does not resolve: {reason}\n", service.name, service.namespace)
}

fn mirrors(
    worker: &Worker,
    downstream: &Downstream,
    rule: &ObjectName,
    mirrors: &[Mirror],
    head: &request::Parts,
) -> Vec<Planned> {
    let wanted = |mirror: &&Mirror| mirror.wants(&head.method, worker.random.next());
    let planned = |mirror: &Mirror| match &mirror.target {
        Target::Cluster(cluster) => {
            let Downstream { peer, account, .. } = downstream;
            let (cluster, account) = (Arc::clone(cluster), Rc::clone(account));
            Some(Planned { rule: rule.clone(), cluster, peer: *peer, account, stats: mirror.stats })
        }
        Target::Unresolved(_) => {
            let counters = worker.shard.mirror(mirror.stats);
            counters.on_start();
            counters.on_end(MirrorEvent::Unresolved);
            None
        }
    };
    mirrors.iter().filter(wanted).filter_map(planned).collect()
}
