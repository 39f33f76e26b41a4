//! One request and its response: decided, sent, answered.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version, request, response};
use hyper::body::Body;
use tokio::time::{Instant, Sleep};
use weir_core::snapshot::Snapshot;
use weir_plugin_host::Direction;
use weir_telemetry::{Cause, WorkerEvent};

use crate::access::Entry;
use crate::authorize;
use crate::body::{Incoming, Meter, RequestBody, ResponseBody, Streamed, Streaming};
use crate::downstream::{Downstream, Upgrade};
use crate::headers::{self, Upgrading};
use crate::observe::Observation;
use crate::plan::{self, Chosen, Local, Plan};
use crate::plugins::{Chain, Passage, Stopped};
use crate::record::Record;
use crate::retry::Tries;
use crate::upstream::{ConnectError, Endpoint, Lease, Parcel, Seen, SendError, Sender};
use crate::watch::Watched;
use crate::worker::Worker;
use crate::{grpc, mirror, reply};

/// Answers a request, one way or another.
pub(crate) async fn respond(
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
    mut record: Record,
) -> Result<Response<ResponseBody>, Infallible> {
    let (mut head, incoming) = request.into_parts();
    let is_stream = record.is_stream();
    let mut response = match forward(&downstream, &mut head, incoming, &mut record).await {
        Ok(forwarded) => forwarded.into_response(&downstream, record).await,
        Err(local) => answered(&downstream, local, record).await,
    };
    // Said here, because what is answered at once leaves no moment to tell the connection. In HTTP/2 the connection says it.
    if !is_stream && downstream.watched.is_ending() && !downstream.has_upgrade() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// What the client gets from the proxy itself, as the plugins leave it that have seen the request.
async fn answered(downstream: &Rc<Downstream>, local: Local, mut record: Record) -> Response<ResponseBody> {
    let response = own(local, &mut record);
    match record.chain.clone() {
        None => reply::sent(response, record),
        Some(chain) => Box::pin(shown(downstream, &chain, response, record)).await,
    }
}

async fn shown(
    downstream: &Rc<Downstream>,
    chain: &Rc<Chain>,
    response: Response<Bytes>,
    mut record: Record,
) -> Response<ResponseBody> {
    let (mut head, body) = response.into_parts();
    let shown = Box::pin(chain.on_answer(downstream, &mut head, body));
    let shown = within(record.watched(), None, pin!(shown)).await;
    match shown {
        Ok(body) => {
            record.on_status(head.status.as_u16());
            record.on_fields(&head.headers);
            reply::sent(Response::from_parts(head, body), record)
        }
        Err(stopped) => finally(stopped, record),
    }
}

/// What the client gets instead of a response that plugins have stopped. Nobody is shown that again.
fn finally(stopped: Stopped, mut record: Record) -> Response<ResponseBody> {
    let response = own(stopped.into(), &mut record);
    reply::sent(response, record)
}

fn own(local: Local, record: &mut Record) -> Response<Bytes> {
    match local {
        Local::Failure(cause) => reply::local(cause, record),
        Local::Answer(answer) => reply::answer(*answer, record),
    }
}

/// The head of an endpoint's response, and the connection that the rest comes on.
struct Forwarded {
    response: Response<Incoming>,
    lease: Lease,
    deadline: Option<Instant>,
    /// Whether the connection is something else's from here on.
    is_tunnel: bool,
}

/// Sends a request on to an endpoint. Its head is left behind, without what was sent of it.
async fn forward(
    downstream: &Rc<Downstream>,
    head: &mut request::Parts,
    mut incoming: Incoming,
    record: &mut Record,
) -> Result<Forwarded, Local> {
    let worker = &downstream.worker;
    record.entry = worker.access.as_ref().map(|_| {
        let snapshot = worker.snapshot();
        Entry::new(head, snapshot.workload(downstream.peer.0.ip()))
    });
    let passes_connect = worker.settings.downstream.connect && !downstream.client.is_outside;
    headers::normalise(head, passes_connect)?;
    let is_connect = head.method == Method::CONNECT;
    // Of HTTP/1.1 the parser has counted them.
    if record.is_stream() && head.headers.len() > worker.settings.downstream.headers {
        return Err(Cause::HeadTooLarge.into());
    }
    record.is_call = record.is_stream() && grpc::is_call(&head.headers);
    if !record.is_admitted() {
        return Err(Cause::FairShare.into());
    }
    let snapshot = worker.snapshot();
    let mut passage = None;
    if snapshot.has_plugins() {
        // Boxed: most requests meet none.
        passage = Box::pin(show(downstream, &snapshot, head, &mut incoming, record)).await?;
    }
    let planned = plan::plan(worker, &snapshot, &downstream.meant, downstream.peer, head, record);
    // All is decided: a request that takes long must not keep an old configuration alive.
    drop(snapshot);
    if let Some(delay) = record.delay.take() {
        let timeout = planned.as_ref().ok().and_then(|plan| plan.timeouts.request);
        Box::pin(wait(record.watched(), record.deadline(timeout), delay)).await?;
    }
    let plan = planned?;
    let asked = if record.is_call { grpc::timeout(&head.headers) } else { None };
    let deadline = record.deadline(plan.timeouts.request.into_iter().chain(asked).min());
    let limit = worker.settings.downstream.body_bytes;
    if limit.is_some_and(|limit| incoming.size_hint().lower() > limit) {
        return Err(Cause::BodyTooLarge.into());
    }
    let upgrading = headers::prepare_request(head, &downstream.client, worker.traces, &worker.random);
    record.entry.iter_mut().for_each(|entry| entry.on_request(&head.headers));
    if let Some(filters) = &record.filters {
        filters.on_request(head);
    }
    let Plan { chosen, timeouts, mirrors, retrying } = plan;
    let is_end = passage.as_ref().map_or_else(|| incoming.is_end_stream(), |passage| passage.is_end());
    let body = if is_end {
        if upgrading == Upgrading::No {
            mirrors.iter().for_each(|planned| drop(mirror::launch(worker, planned, head, None)));
        }
        None
    } else {
        let size = passage.as_ref().map_or_else(|| incoming.size_hint(), |passage| passage.size_hint());
        let copies = mirrors.into_iter().filter_map(|one| mirror::launch(worker, &one, head, Some(size)));
        let copies = copies.collect();
        let meter = Rc::new(Meter::default());
        record.meter = Some(Rc::clone(&meter));
        Some(Streamed::new(incoming, passage, meter, limit, copies))
    };
    let watched = Rc::clone(record.watched());
    let response = match retrying {
        None => {
            let Chosen { picked, protocol } = chosen?;
            if let Some(filters) = &record.filters {
                filters.on_way_out(head);
            }
            authorize::request(downstream, picked.endpoint.address(), head)?;
            watched.reach(downstream.reached(picked.endpoint.address(), false));
            let version = plan::version(protocol, head, upgrading, record.is_call);
            let body = body.map_or(RequestBody::Empty, RequestBody::Streamed);
            let observation = Observation::begin(&picked);
            let mut parcel = Some(outgoing(head, body));
            let sent = pin!(exchange(downstream, &picked.endpoint, version, &mut parcel, timeouts.per_try));
            let response = within(&watched, deadline, sent).await.map_err(|failed| failed.cause);
            match &response {
                Ok((response, _)) => observation.answered(response),
                Err(cause) => observation.failed(*cause),
            }
            response.map(|(response, mut lease)| {
                lease.hold([picked.permit, None]);
                (response, lease)
            })
        }
        Some(retrying) => {
            let tries = Tries { downstream, retrying: *retrying, head, upgrading, deadline, per_try: timeouts.per_try };
            let sent = Box::pin(tries.run(chosen, body, record));
            within(&watched, deadline, Pin::new(&mut { sent })).await
        }
    };
    let (response, lease) = response.map_err(|cause| {
        if let Some(stopped) = record.chain.as_ref().and_then(|chain| chain.take_reply()) {
            return Local::from(stopped);
        }
        // The body knows better why it broke off.
        let failure = record.meter.as_ref().and_then(|meter| meter.failure.get());
        failure.filter(|_| cause == Cause::RequestAborted).unwrap_or(cause).into()
    })?;
    let is_tunnel =
        response.status() == StatusCode::SWITCHING_PROTOCOLS || is_connect && response.status().is_success();
    Ok(Forwarded { response, lease, deadline, is_tunnel })
}

/// Shows the head of a request to the plugins that it meets. What its body passes then, if any of them looks at it.
async fn show(
    downstream: &Downstream,
    snapshot: &Snapshot,
    head: &mut request::Parts,
    incoming: &mut Incoming,
    record: &mut Record,
) -> Result<Option<Box<Passage>>, Local> {
    // Where it is for nobody, that is said when the rest is decided.
    let Ok(frontend) = downstream.meant.frontend(snapshot, &head.headers) else { return Ok(None) };
    let Some(chain) = Chain::begin(downstream, snapshot, frontend, head)? else { return Ok(None) };
    record.chain = Some(Rc::clone(&chain));
    let shown = pin!(chain.on_request((downstream, snapshot, frontend), head, incoming));
    let shown = within(record.watched(), None, shown).await;
    if shown.is_err() {
        // It goes nowhere: it counts as the service's own.
        record.on_route(frontend.service.stats);
    }
    record.routing = chain.routing();
    Ok(shown?)
}

/// The request that is sent, of a head that nobody needs any more.
pub(crate) fn outgoing(head: &mut request::Parts, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::new(body);
    *request.method_mut() = std::mem::take(&mut head.method);
    *request.uri_mut() = std::mem::take(&mut head.uri);
    *request.headers_mut() = std::mem::take(&mut head.headers);
    request
}

/// Waits as a rule says, no longer than the whole request may take.
async fn wait(watched: &Watched, deadline: Option<Instant>, delay: Duration) -> Result<(), Cause> {
    let waited = pin!(async {
        tokio::time::sleep(delay).await;
        Ok(())
    });
    within(watched, deadline, waited).await
}

/// Runs a future until it is done, the deadline passes, or there is a verdict. The future is pinned by the caller: as
/// an argument it would have room twice, before and while it is polled.
async fn within<T, E: From<Cause>>(
    watched: &Watched,
    deadline: Option<Instant>,
    mut future: Pin<&mut impl Future<Output = Result<T, E>>>,
) -> Result<T, E> {
    let mut sleep: Option<Pin<Box<Sleep>>> = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
    std::future::poll_fn(|context| {
        watched.set_waker(context.waker());
        if let Some(verdict) = watched.verdict() {
            return Poll::Ready(Err(verdict.cause().into()));
        }
        if let Poll::Ready(result) = future.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        match &mut sleep {
            Some(sleep) => sleep.as_mut().poll(context).map(|()| Err(Cause::RequestTimeout.into())),
            None => Poll::Pending,
        }
    })
    .await
}

/// A try that got no response.
pub(crate) struct Failed {
    pub(crate) cause: Cause,
    /// Whether the endpoint cannot have acted on the request.
    pub(crate) is_unseen: bool,
}

impl From<Cause> for Failed {
    fn from(cause: Cause) -> Self {
        Self { cause, is_unseen: false }
    }
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        Self { cause: error.cause(), is_unseen: true }
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Self {
        Self { cause: error.cause, is_unseen: matches!(error.seen, Seen::Unsent | Seen::Refused) }
    }
}

/// One try: sends a request to an endpoint and waits for the head of its response, no longer than this.
pub(crate) async fn exchange(
    downstream: &Downstream,
    endpoint: &Rc<Endpoint>,
    version: Version,
    parcel: &mut Parcel,
    limit: Option<Duration>,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let mut sent = pin!(send(downstream, endpoint, version, parcel));
    match limit {
        None => sent.await,
        // Boxed: every request's future would have to have room for the timer.
        Some(limit) => match Box::pin(tokio::time::timeout(limit, sent.as_mut())).await {
            Ok(result) => result,
            Err(_) => Err(Cause::PerTryTimeout.into()),
        },
    }
}

/// Sends a request to an endpoint, a second time when the endpoint had closed the connection that was kept open.
async fn send(
    downstream: &Downstream,
    endpoint: &Rc<Endpoint>,
    version: Version,
    parcel: &mut Parcel,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let way = downstream.worker.way(downstream.caller(), endpoint.address());
    let sender = Sender { account: &downstream.account, way: &way, client: downstream.peer };
    let mut lease = endpoint.lease(version, sender).await?;
    let spare = if lease.is_reused() { parcel.as_ref().and_then(spare) } else { None };
    let error = match lease.send(parcel).await {
        Ok(response) => return Ok((response, lease)),
        Err(error) => error,
    };
    if !may_be_sent_again(lease, &error.seen, spare, parcel) {
        return Err(error.into());
    }
    // Boxed: it is rare, and every request's future would have to have room for it.
    Box::pin(send_fresh(&downstream.worker, (endpoint, sender), version, parcel)).await
}

async fn send_fresh(
    worker: &Worker,
    (endpoint, sender): (&Rc<Endpoint>, Sender<'_>),
    version: Version,
    parcel: &mut Parcel,
) -> Result<(Response<Incoming>, Lease), Failed> {
    worker.shard.on(WorkerEvent::UpstreamRetried);
    let mut lease = endpoint.lease_fresh(version, sender).await?;
    let response = lease.send(parcel).await?;
    Ok((response, lease))
}

/// A second exemplar of a request that may be sent twice: one without a body whose method allows it (RFC 9110, section
/// 9.2.2).
fn spare(request: &Request<RequestBody>) -> Option<Request<()>> {
    if !request.method().is_idempotent() || !matches!(request.body(), RequestBody::Empty) {
        return None;
    }
    let mut spare = Request::new(());
    *spare.method_mut() = request.method().clone();
    *spare.uri_mut() = request.uri().clone();
    *spare.headers_mut() = request.headers().clone();
    Some(spare)
}

/// Whether a request that an endpoint did not answer is there again and may be sent again: nothing of it was sent, or the
/// connection was closed as idle ones are.
fn may_be_sent_again(lease: Lease, seen: &Seen, spare: Option<Request<()>>, parcel: &mut Parcel) -> bool {
    if !lease.is_reused() {
        return false;
    }
    match seen {
        Seen::Unsent => {}
        Seen::Refused | Seen::ClosedEarly => {
            let spare = spare.filter(|_| !lease.has_unread());
            *parcel = spare.map(|request| request.map(|()| RequestBody::Empty));
        }
        Seen::Perhaps => return false,
    }
    parcel.is_some()
}

impl Forwarded {
    async fn into_response(self, downstream: &Rc<Downstream>, mut record: Record) -> Response<ResponseBody> {
        let (mut head, incoming) = self.response.into_parts();
        record.on_response(&head);
        if let Some(session) = record.session.take() {
            session.on_response(&mut head.headers);
        }
        if self.is_tunnel {
            return Box::pin(tunnel(downstream, head, self.lease, self.deadline, record)).await;
        }
        headers::prepare_response(&mut head.headers, Upgrading::No);
        if let Some(filters) = record.filters.take() {
            filters.on_response(&mut head.headers);
        }
        let mut passage = None;
        if let Some(chain) = record.chain.clone() {
            let is_end = incoming.is_end_stream();
            let shown = Box::pin(chain.on_response(downstream, &mut head, is_end));
            if let Err(stopped) = within(record.watched(), self.deadline, pin!(shown)).await {
                return finally(stopped, record);
            }
            record.on_status(head.status.as_u16());
            passage = Passage::new(&chain, Direction::Response).filter(|_| !is_end);
            if let Some(Err(stopped)) = passage.as_mut().map(|passage| passage.begin(&head.headers)) {
                return finally(stopped, record);
            }
        }
        head.version = Version::HTTP_11;
        if incoming.is_end_stream() {
            self.lease.give_back();
            return Response::from_parts(head, ResponseBody::nothing(record));
        }
        let streaming = Streaming {
            incoming,
            passage,
            lease: Some(self.lease),
            deadline: self.deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline))),
            watched: Rc::clone(record.watched()),
        };
        Response::from_parts(head, ResponseBody::streaming(record, streaming))
    }
}

/// The connection is something else's from here on. Plugins see what it begins with, and may refuse it; that it begins is not theirs to
/// change.
async fn tunnel(
    downstream: &Rc<Downstream>,
    mut head: response::Parts,
    lease: Lease,
    deadline: Option<Instant>,
    record: Record,
) -> Response<ResponseBody> {
    headers::prepare_response(&mut head.headers, Upgrading::Yes);
    // Of the answer to `CONNECT` it says nothing (RFC 9110, section 9.3.6).
    head.headers.remove(CONTENT_LENGTH);
    if let Some(chain) = record.chain.clone() {
        let status = head.status;
        let shown = Box::pin(chain.on_response(downstream, &mut head, true));
        if let Err(stopped) = within(record.watched(), deadline, pin!(shown)).await {
            return finally(stopped, record);
        }
        head.status = status;
        head.headers.remove(CONTENT_LENGTH);
    }
    downstream.set_upgrade(Upgrade { lease });
    Response::from_parts(head, ResponseBody::nothing(record))
}
