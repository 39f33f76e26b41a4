//! Health checks of endpoints: asked from a thread of their own, so that no worker's load delays them, and told to all
//! workers at once.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderValue, TE, USER_AGENT};
use http::{HeaderMap, Method, Request, Uri, Version};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use weir_core::balance::{Health, HealthCheck, Question};
use weir_core::cluster::Cluster;
use weir_core::name::{ClusterName, PeerAddr};
use weir_core::snapshot::{Protocol, Snapshot};
use weir_core::split::Target;
use weir_telemetry::{Shard, WorkerEvent};

use crate::account::Account;
use crate::body::{Incoming, RequestBody};
use crate::drain::Phase;
use crate::grpc;
use crate::listener::OwnAddresses;
use crate::settings::{OwnIdentity, Settings};
use crate::socket::SocketOptions;
use crate::tunnel::{Caller, Way, way};
use crate::upstream::{Endpoint, Lease, Pools, Sender};
use crate::watch::Clock;

/// The addresses that fail their checks.
pub(crate) type Failing = Arc<ArcSwap<HashSet<SocketAddr>>>;

/// How often it is looked whether the configuration has changed.
const LOOK: Duration = Duration::from_millis(250);

/// Bytes of an answer that are read.
const ANSWER_BYTES: usize = 4_096;

/// What the checks are made of.
pub(crate) struct Parts {
    pub(crate) settings: Arc<Settings>,
    pub(crate) snapshots: Arc<ArcSwap<Snapshot>>,
    pub(crate) shard: Arc<Shard>,
    pub(crate) own: Arc<OwnAddresses>,
    pub(crate) failing: Failing,
    pub(crate) drain: watch::Receiver<Phase>,
}

/// Checks what the configuration says is to be checked, until the proxy drains.
pub(crate) async fn run(parts: Parts) {
    let Parts { settings, snapshots, shard, own, failing, mut drain } = parts;
    let clock = Clock::new([settings.upstream.idle_timeout]);
    let options = SocketOptions::new(&settings);
    let breakers = Arc::default();
    let pools = Pools::new(&settings, &settings.upstream, breakers, options, own, Arc::clone(&shard), clock);
    let account = Account::of_node(&settings.downstream, &shard);
    let ways = Ways { own: settings.identity.clone(), snapshots: Arc::clone(&snapshots) };
    let found = Rc::new(Found { failing: RefCell::default(), told: failing, account, ways, shard });
    let mut checks = Checks { pools, found, running: HashMap::new() };
    let mut seen = None;
    let mut ended = pin!(drain.wait_for(|phase| matches!(phase, Phase::Finishing(_))));
    loop {
        let current = snapshots.load_full();
        if seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &current)) {
            checks.follow(&current);
            seen = Some(current);
        }
        if tokio::time::timeout(LOOK, ended.as_mut()).await.is_ok() {
            return;
        }
    }
}

/// An endpoint of a cluster.
type Checked = (ClusterName, SocketAddr);

struct Running {
    check: Arc<HealthCheck>,
    protocol: Protocol,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the checks have found.
struct Found {
    failing: RefCell<HashSet<Checked>>,
    told: Failing,
    /// That of the node itself.
    account: Rc<Account>,
    ways: Ways,
    shard: Arc<Shard>,
}

/// How endpoints are connected to.
struct Ways {
    own: Option<OwnIdentity>,
    snapshots: Arc<ArcSwap<Snapshot>>,
}

/// In nobody's name but the node's.
const NOBODY: PeerAddr = PeerAddr(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));

impl Ways {
    fn to(&self, endpoint: SocketAddr) -> Way {
        way(self.own.as_ref(), &self.snapshots.load(), Caller { peer: NOBODY, proven: None }, endpoint)
    }
}

impl Found {
    /// An endpoint is well, or not, from now on.
    fn set(&self, checked: &Checked, is_well: bool) {
        let (cluster, endpoint) = checked;
        if is_well {
            self.failing.borrow_mut().remove(checked);
            self.shard.on(WorkerEvent::EndpointHealthy);
            tracing::info!(%cluster, %endpoint, "an endpoint passes its health checks again");
        } else {
            self.failing.borrow_mut().insert(checked.clone());
            self.shard.on(WorkerEvent::EndpointUnhealthy);
            tracing::warn!(%cluster, %endpoint, "an endpoint fails its health checks");
        }
        self.tell();
    }

    /// Who is not checked any more is not known to fail.
    fn keep(&self, is_checked: impl Fn(&Checked) -> bool) {
        let mut failing = self.failing.borrow_mut();
        let before = failing.len();
        failing.retain(is_checked);
        let is_changed = failing.len() < before;
        drop(failing);
        if is_changed {
            self.tell();
        }
    }

    fn tell(&self) {
        self.told.store(Arc::new(self.failing.borrow().iter().map(|(_, address)| *address).collect()));
    }
}

struct Checks {
    pools: Pools,
    found: Rc<Found>,
    running: HashMap<Checked, Running>,
}

impl Checks {
    /// Starts and ends checks as the configuration says. One that stays goes on with what it knows.
    fn follow(&mut self, snapshot: &Snapshot) {
        let mut wanted: HashMap<Checked, (&Arc<HealthCheck>, &Cluster)> = HashMap::new();
        for frontend in snapshot.frontends() {
            let Target::Cluster(cluster) = &frontend.service.target else { continue };
            let Some(check) = &cluster.policy.health else { continue };
            for address in cluster.endpoints().iter().flat_map(|endpoint| endpoint.addresses.iter()) {
                wanted.insert((cluster.name.clone(), address), (check, cluster));
            }
        }
        self.running.retain(|checked, running| {
            let is_wanted = wanted.get(checked);
            is_wanted.is_some_and(|(check, cluster)| **check == running.check && cluster.protocol == running.protocol)
        });
        for (checked, (check, cluster)) in wanted {
            if !self.running.contains_key(&checked) {
                let running = self.start(&checked, check, cluster.protocol);
                self.running.insert(checked, running);
            }
        }
        self.found.keep(|checked| self.running.contains_key(checked));
    }

    fn start(&self, checked: &Checked, check: &Arc<HealthCheck>, protocol: Protocol) -> Running {
        let (endpoint, found) = (self.pools.endpoint(checked.1), Rc::clone(&self.found));
        let asking = keep_asking(endpoint, checked.clone(), Arc::clone(check), protocol, found);
        let task = tokio::task::spawn_local(asking).abort_handle();
        Running { check: Arc::clone(check), protocol, task }
    }
}

async fn keep_asking(
    endpoint: Rc<Endpoint>,
    checked: Checked,
    check: Arc<HealthCheck>,
    protocol: Protocol,
    found: Rc<Found>,
) {
    let mut health = Health::default();
    let mut ticks = tokio::time::interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let way = found.ways.to(endpoint.address());
        let sender = Sender { account: &found.account, way: &way, client: NOBODY };
        let asked = tokio::time::timeout(check.timeout, ask((&endpoint, sender), &check.question, protocol)).await;
        if health.on_answer(asked.unwrap_or(false), &check) {
            found.set(&checked, health.is_well());
        }
    }
}

/// Whether an endpoint gives a good answer.
async fn ask((endpoint, sender): (&Rc<Endpoint>, Sender<'_>), question: &Question, protocol: Protocol) -> bool {
    match question {
        Question::Tcp => endpoint.lease_raw(sender.way, sender.client).await.is_ok(),
        Question::Http { method, path, host, .. } => {
            let version = if protocol == Protocol::Http2 { Version::HTTP_2 } else { Version::HTTP_11 };
            let request = request(endpoint, method, path, host.as_ref(), RequestBody::Empty);
            let Some(request) = request else { return false };
            let Ok(mut lease) = endpoint.lease_fresh(version, sender).await else { return false };
            let response = lease.send(&mut Some(request)).await;
            response.is_ok_and(|response| question.is_good(response.status().as_u16()))
        }
        Question::Grpc { service } => {
            let body = RequestBody::Fixed { data: Some(health_request(service)), trailers: HeaderMap::new() };
            let request = request(endpoint, &Method::POST, "/grpc.health.v1.Health/Check", None, body);
            let Some(mut request) = request else { return false };
            request.headers_mut().insert(CONTENT_TYPE, grpc::TYPE);
            request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
            let Ok(mut lease) = endpoint.lease_fresh(Version::HTTP_2, sender).await else { return false };
            let Ok(response) = lease.send(&mut Some(request)).await else { return false };
            let is_good = question.is_good(response.status().as_u16());
            is_good && is_serving(&read(&mut lease, response.into_body()).await)
        }
    }
}

fn request(
    endpoint: &Endpoint,
    method: &Method,
    path: &str,
    host: Option<&HeaderValue>,
    body: RequestBody,
) -> Option<Request<RequestBody>> {
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = path.parse::<Uri>().ok()?;
    let headers = request.headers_mut();
    let own = || HeaderValue::try_from(endpoint.address().to_string()).ok();
    headers.insert(HOST, host.cloned().or_else(own)?);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("weir-health/", env!("CARGO_PKG_VERSION"))));
    Some(request)
}

/// The start of a response's body.
async fn read(lease: &mut Lease, mut body: Incoming) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < ANSWER_BYTES {
        match std::future::poll_fn(|context| lease.poll_frame(context, &mut body)).await {
            Some(Ok(frame)) => all.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Some(Err(_)) | None => break,
        }
    }
    all
}

/// A `HealthCheckRequest` as a message of gRPC: field 1 is the service, as text of at most 127 bytes.
fn health_request(service: &str) -> Bytes {
    let service = &service.as_bytes()[..service.len().min(127)];
    let length = if service.is_empty() { 0 } else { service.len() + 2 };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(length as u32);
    if !service.is_empty() {
        message.put_slice(&[0x0a, service.len() as u8]);
        message.put_slice(service);
    }
    message.freeze()
}

/// Whether a `HealthCheckResponse` says that the service serves: field 1 is 1.
fn is_serving(message: &[u8]) -> bool {
    matches!(message, [0, 0, 0, 0, _, 0x08, 0x01, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_health_protocol() {
        assert_eq!(&health_request("")[..], b"\0\0\0\0\0");
        assert_eq!(&health_request("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
        assert_eq!(health_request(&"x".repeat(500)).len(), 5 + 2 + 127);
        for (message, expected) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], true),
            (b"\0\0\0\0\x02\x08\x02", false),
            (b"\0\0\0\0\0", false),
            (b"\x01\0\0\0\x02\x08\x01", false),
            (b"", false),
        ] {
            assert_eq!(is_serving(message), expected, "{message:?}");
        }
    }
}
