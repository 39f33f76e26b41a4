//! One copy of a request: admitted, sent, its response thrown away.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::{HeaderName, HeaderValue};
use http::{Request, Version, request};
use hyper::body::SizeHint;
use weir_core::cluster::Cluster;
use weir_core::name::{ObjectName, PeerAddr};
use weir_core::stats::StatsId;
use weir_telemetry::MirrorEvent;

use super::destination::Destination;
use super::queue::{self, Ending, Tee};
use crate::account::{Account, Metered};
use crate::authorize;
use crate::body::RequestBody;
use crate::headers::Upgrading;
use crate::tunnel::{Caller, Way};
use crate::upstream::{Endpoint, Picked, Seen, Sender};
use crate::worker::Worker;
use crate::{grpc, plan};

/// Marks a copy, with the rule that asks for it as `namespace/name`. A service that must not act on copies looks for it.
pub(crate) const MARKER: HeaderName = HeaderName::from_static("x-weir-mirror");

/// A copy that a rule asks for, with the endpoint that is to have it.
pub(crate) struct Planned {
    pub(crate) rule: ObjectName,
    pub(crate) cluster: Arc<Cluster>,
    /// Whose request it is.
    pub(crate) peer: PeerAddr,
    pub(crate) account: Rc<Account>,
    pub(crate) stats: StatsId,
}

/// Starts a copy of a request. Nothing of it happens before the caller next waits for something, except that the head
/// is copied. The returned end, if any, is to be fed with the request's body; `None` when it has no body or there is
/// no copy.
pub(crate) fn launch(
    worker: &Rc<Worker>,
    planned: &Planned,
    head: &request::Parts,
    size: Option<SizeHint>,
) -> Option<Tee> {
    let mirrors = &worker.mirrors;
    let counters = worker.shard.mirror(planned.stats);
    counters.on_start();
    let destination = mirrors.destination(&planned.cluster.name);
    if let Err(event) = destination.admit(&mirrors.limits, Instant::now()) {
        counters.on_end(event);
        return None;
    }
    let admitted =
        Admitted { worker: Rc::clone(worker), destination, stats: planned.stats, event: MirrorEvent::Aborted };
    let roll = worker.random.next();
    let Some(Picked { endpoint, .. }) = mirrors.pools.pick(&planned.cluster, planned.peer, None, roll) else {
        admitted.end(MirrorEvent::NoEndpoint);
        return None;
    };
    let caller = Caller { peer: planned.peer, proven: None };
    if authorize::head_from(worker, caller, endpoint.address(), head).is_err() {
        admitted.end(MirrorEvent::Denied);
        return None;
    }
    let (tee, body) = match size {
        None => (None, None),
        Some(size) => {
            let (tee, body) = queue::queue(&mirrors.limits, &mirrors.budget, &planned.account.copied, size);
            (Some(tee), Some(body))
        }
    };
    let ending = body.as_ref().map(queue::CopyBody::ending);
    let request = marked(head, &planned.rule, body.map_or(RequestBody::Empty, RequestBody::Copy));
    let is_call = head.version == Version::HTTP_2 && grpc::is_call(&head.headers);
    let version = plan::version(planned.cluster.protocol, head, Upgrading::No, is_call);
    let account = Rc::clone(&planned.account);
    let way = worker.way(caller, endpoint.address());
    let by = By { account, way, client: planned.peer };
    let task = run(admitted, by, endpoint, version, request, ending);
    tokio::task::spawn_local(Metered::new(&planned.account, task));
    tee
}

fn marked(head: &request::Parts, rule: &ObjectName, body: RequestBody) -> Request<RequestBody> {
    let mut copy = Request::new(body);
    *copy.method_mut() = head.method.clone();
    *copy.uri_mut() = head.uri.clone();
    *copy.headers_mut() = head.headers.clone();
    let marker = HeaderValue::try_from(format!("{}/{}", rule.namespace, rule.name));
    copy.headers_mut().insert(MARKER, marker.unwrap_or_else(|_| HeaderValue::from_static("unnamed")));
    copy
}

/// A copy that counts against its destination's limit, until it is dropped.
struct Admitted {
    worker: Rc<Worker>,
    destination: Rc<Destination>,
    stats: StatsId,
    event: MirrorEvent,
}

impl Admitted {
    fn end(mut self, event: MirrorEvent) {
        self.event = event;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.destination.on_end(self.event, &self.worker.mirrors.limits, Instant::now());
        self.worker.shard.mirror(self.stats).on_end(self.event);
    }
}

/// In whose name a copy is sent.
struct By {
    account: Rc<Account>,
    way: Way,
    client: PeerAddr,
}

impl By {
    fn sender(&self) -> Sender<'_> {
        Sender { account: &self.account, way: &self.way, client: self.client }
    }
}

async fn run(
    admitted: Admitted,
    by: By,
    endpoint: Rc<Endpoint>,
    version: Version,
    request: Request<RequestBody>,
    ending: Option<Ending>,
) {
    let worker = Rc::clone(&admitted.worker);
    let deadline = worker.mirrors.limits.deadline;
    let sending = send(&worker, (admitted.stats, by.sender()), &endpoint, version, request);
    let sent = tokio::time::timeout(deadline, async {
        let Some(ending) = &ending else { return sending.await };
        tokio::select! {
            biased;
            event = sending => event,
            event = ending.giving_up() => event,
        }
    });
    let event = sent.await.unwrap_or(MirrorEvent::Timeout);
    let given_up = ending.as_ref().and_then(Ending::given_up);
    if let Some(ending) = ending {
        worker.shard.mirror(admitted.stats).on_bytes(ending.taken());
    }
    // What the queue says is the reason behind what the connection says.
    admitted.end(if event == MirrorEvent::Sent { event } else { given_up.unwrap_or(event) });
}

async fn send(
    worker: &Worker,
    (stats, sender): (StatsId, Sender<'_>),
    endpoint: &Rc<Endpoint>,
    version: Version,
    request: Request<RequestBody>,
) -> MirrorEvent {
    let Ok(mut lease) = endpoint.lease(version, sender).await else { return MirrorEvent::Connect };
    let mut parcel = Some(request);
    let sent = match lease.send(&mut parcel).await {
        Ok(response) => Ok(response),
        Err(error) => match (error.seen, lease.is_reused()) {
            // The endpoint had closed a connection that was kept: that is nobody's fault.
            (Seen::Unsent, true) => match endpoint.lease_fresh(version, sender).await {
                Ok(fresh) => {
                    lease = fresh;
                    lease.send(&mut parcel).await.map_err(|_| MirrorEvent::Failed)
                }
                Err(_) => Err(MirrorEvent::Connect),
            },
            _ => Err(MirrorEvent::Failed),
        },
    };
    match sent {
        Ok(response) => {
            worker.shard.mirror(stats).on_status(response.status().as_u16());
            lease.discard(response.into_body(), worker.mirrors.limits.response_bytes).await;
            MirrorEvent::Sent
        }
        Err(event) => event,
    }
}
