//! A request on its way to an answer that is good enough: one try after the other, and, where its rule says so, one
//! beside another that takes long.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Response, request};
use tokio::time::Instant;
use weir_core::cluster::Cluster;
use weir_core::retry::{Failure, Retry};
use weir_core::split::{Destination, Split, Target};
use weir_telemetry::{CallStatus, Cause, RetryEvent};

use super::Retries;
use crate::authorize;
use crate::body::{Incoming, Replay, RequestBody, Streamed};
use crate::downstream::Downstream;
use crate::exchange::{Failed, exchange, outgoing};
use crate::grpc;
use crate::headers::Upgrading;
use crate::observe::{Observation, retry_after};
use crate::plan::{self, Chosen, Retrying};
use crate::record::Record;
use crate::upstream::{Counted, Lease, Permit, Picked};

/// Bytes of a response that is not passed on which are read so that its connection can be used again, and for how long.
const DISCARDED_BYTES: u64 = 65_536;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// A request on its way to a response that is good enough.
pub(crate) struct Tries<'a> {
    pub(crate) downstream: &'a Rc<Downstream>,
    pub(crate) retrying: Retrying,
    /// As the rule's filters have left it.
    pub(crate) head: &'a request::Parts,
    pub(crate) upgrading: Upgrading,
    /// When the whole request has to be done.
    pub(crate) deadline: Option<Instant>,
    pub(crate) per_try: Option<Duration>,
}

type Tried = Result<(Response<Incoming>, Lease), Failed>;

/// Where a request is on its way.
struct Course<'t> {
    retry: &'t Retry,
    split: &'t Split,
    replay: Option<Rc<Replay>>,
    /// Where the try whose answer may count is.
    destination: &'t Destination,
    /// Everybody who has been asked.
    tried: Vec<SocketAddr>,
    /// Of the request and of the retry that it is: kept until the response has ended, and free for the next try.
    permits: [Option<Permit>; 2],
}

impl Course<'_> {
    /// How a try failed that is worth another one; `None` for one that counts.
    fn failure(&self, tries: &Tries<'_>, tried: &Tried, record: &Record) -> Option<Failure> {
        failure(tried, record.is_call).filter(|one| self.retry.wants(*one, &tries.head.method))
    }
}

/// A try beside another one.
struct Beside<'t> {
    destination: &'t Destination,
    chosen: Chosen,
    permit: Option<Permit>,
}

impl Tries<'_> {
    /// Sends the request until there is an answer that the rule lets pass, or it may not be tried again. The last answer
    /// is the one that counts.
    pub(crate) async fn run(
        self,
        mut chosen: Result<Chosen, Cause>,
        body: Option<Box<Streamed>>,
        record: &mut Record,
    ) -> Result<(Response<Incoming>, Lease), Cause> {
        let worker = &self.downstream.worker;
        let Retries { limits, memory, .. } = &worker.retries;
        let Some((retry, split, destination)) = self.retrying.parts() else { return Err(Cause::NoDestination) };
        let mut course = Course {
            retry,
            split,
            replay: body.map(|body| Replay::new(body, limits.body_bytes, memory, &self.downstream.account.kept)),
            destination,
            tried: Vec::new(),
            permits: [None, None],
        };
        worker.retries.on_request(&course.destination.name, worker.clock.millis());
        loop {
            if let (true, Some(replay)) = (record.retries == retry.attempts, &course.replay) {
                replay.forget();
            }
            let tried = match chosen {
                Ok(mut chosen) => {
                    course.tried.push(chosen.picked.endpoint.address());
                    course.permits[0] = chosen.picked.permit.take();
                    let sent = self.begin(&chosen, &course, record);
                    match retry.hedge_after {
                        None => sent.await,
                        // Boxed: it has room for two.
                        Some(after) => Box::pin(self.hedge(sent, after, &mut course, record)).await,
                    }
                }
                // What the configuration does not have will not be there the next time.
                Err(cause) => Err(Failed { cause, is_unseen: cause != Cause::Unresolved }),
            };
            let Some(failure) = course.failure(&self, &tried, record) else { return ended(tried, course.permits) };
            let next = retry.destination(course.split, course.destination);
            let delay = self.delay(retry, record.retries + 1, &tried);
            let admitted = match self.withheld(&course, next, record.retries, delay) {
                Some(event) => Err(event),
                None => {
                    course.permits[1] = None;
                    self.admit(next)
                }
            };
            match admitted {
                Ok(permit) => course.permits = [None, permit],
                Err(event) => {
                    record.on_retry(event);
                    return ended(tried, course.permits);
                }
            }
            record.on_retry(event(failure));
            discard(tried, course.replay.as_ref().is_none_or(|replay| replay.is_sent()));
            tokio::time::sleep(delay.unwrap_or_default()).await;
            record.retries += 1;
            let event = self.go_on(&mut course, next, record);
            record.on_retry(event);
            chosen = self.choose(next, &course.tried).inspect(|chosen| on_endpoint(next, chosen, record));
        }
    }

    /// The request is at this destination from now on.
    fn go_on<'t>(&self, course: &mut Course<'t>, next: &'t Destination, record: &mut Record) -> RetryEvent {
        if std::ptr::eq(course.destination, next) {
            return RetryEvent::Retried;
        }
        let worker = &self.downstream.worker;
        worker.retries.on_request(&next.name, worker.clock.millis());
        record.on_other_route(next.stats);
        if let Some(filters) = &mut record.filters {
            filters.set_destination(next.filters.clone());
        }
        course.destination = next;
        RetryEvent::TakenOver
    }

    /// Sends the request to an endpoint, with what the destination changes of it that the record has.
    fn begin(&self, chosen: &Chosen, course: &Course<'_>, record: &Record) -> impl Future<Output = Tried> + use<'_> {
        let mut head = self.head.clone();
        if let Some(filters) = &record.filters {
            filters.on_way_out(&mut head);
        }
        let endpoint = chosen.picked.endpoint.address();
        let allowed = authorize::request(self.downstream, endpoint, &head);
        record.watched().reach(self.downstream.reached(endpoint, false));
        let version = plan::version(chosen.protocol, &head, self.upgrading, record.is_call);
        let body = course.replay.as_ref().map_or(RequestBody::Empty, Replay::body);
        let observation = Observation::begin(&chosen.picked);
        let (mut parcel, endpoint) = (Some(outgoing(&mut head, body)), Rc::clone(&chosen.picked.endpoint));
        async move {
            allowed?;
            let tried = exchange(self.downstream, &endpoint, version, &mut parcel, self.per_try).await;
            match &tried {
                Ok((response, _)) => observation.answered(response),
                Err(failed) => observation.failed(failed.cause),
            }
            tried
        }
    }

    /// Waits for a try to be answered, and has the request sent to somebody else as well when that takes long. The first
    /// answer that counts is the one, and the other try is given up; if there is none, the last.
    async fn hedge<'t>(
        &self,
        first: impl Future<Output = Tried>,
        after: Duration,
        course: &mut Course<'t>,
        record: &mut Record,
    ) -> Tried {
        let mut first = pin!(first);
        if let Ok(tried) = tokio::time::timeout(after, first.as_mut()).await {
            return tried;
        }
        let beside = match self.beside(course, record) {
            Ok(Some(beside)) => beside,
            Ok(None) => return first.await,
            Err(event) => {
                record.on_retry(event);
                return first.await;
            }
        };
        record.on_retry(RetryEvent::Hedged);
        record.retries += 1;
        let Beside { destination, mut chosen, permit } = beside;
        course.tried.push(chosen.picked.endpoint.address());
        let set_filters = |of: &Destination, record: &mut Record| {
            if let Some(filters) = &mut record.filters {
                filters.set_destination(of.filters.clone());
            }
        };
        set_filters(destination, record);
        let mut second = pin!(self.begin(&chosen, course, record));
        set_filters(course.destination, record);
        let mut is_over = [false; 2];
        let (tried, is_second) = std::future::poll_fn(|context| {
            for at in 0..2 {
                if is_over[at] {
                    continue;
                }
                let polled = if at == 0 { first.as_mut().poll(context) } else { second.as_mut().poll(context) };
                let Poll::Ready(tried) = polled else { continue };
                is_over[at] = true;
                match course.failure(self, &tried, record) {
                    Some(failure) if is_over != [true; 2] => {
                        // What is counted is counted where the request is.
                        if at == 0 || std::ptr::eq(course.destination, destination) {
                            record.on_retry(event(failure));
                        }
                        discard(tried, true);
                    }
                    _ => return Poll::Ready((tried, at == 1)),
                }
            }
            Poll::Pending
        })
        .await;
        if is_second {
            course.permits = [chosen.picked.permit.take(), permit];
            if course.failure(self, &tried, record).is_none() {
                record.on_retry(RetryEvent::HedgeWon);
            }
            self.go_on(course, destination, record);
            on_endpoint(destination, &chosen, record);
        }
        tried
    }

    /// Where a request goes that is to be sent a second time beside its first; `None` if that makes no sense.
    ///
    /// # Errors
    /// When there would be too many.
    fn beside<'t>(&self, course: &Course<'t>, record: &Record) -> Result<Option<Beside<'t>>, RetryEvent> {
        let worker = &self.downstream.worker;
        // Two read it at a time: all of it must be there.
        let is_there = course.replay.as_ref().is_none_or(|replay| replay.is_sent() && replay.is_whole());
        let may_be_twice = course.retry.methods.contains(&self.head.method) && self.upgrading == Upgrading::No;
        if record.retries >= course.retry.attempts || !is_there || !may_be_twice {
            return Ok(None);
        }
        let destination = course.retry.destination(course.split, course.destination);
        let Ok(chosen) = self.choose(destination, &course.tried) else { return Ok(None) };
        if course.tried.contains(&chosen.picked.endpoint.address()) {
            return Ok(None);
        }
        // Whoever gets it would not have got it without this.
        if !worker.retries.may_retry(&destination.name, worker.clock.millis()) {
            return Err(RetryEvent::OverBudget);
        }
        Ok(Some(Beside { destination, chosen, permit: self.admit(destination)? }))
    }

    /// The endpoint for another try: one that was not tried yet, if there is one.
    fn choose(&self, destination: &Destination, tried: &[SocketAddr]) -> Result<Chosen, Cause> {
        let cluster = cluster(destination).ok_or(Cause::Unresolved)?;
        let Downstream { worker, peer, .. } = &**self.downstream;
        let permit = worker.pools.admit(cluster, *peer, Counted::Request).map_err(|_| Cause::Overflow)?;
        let picked = worker.pools.pick_other(cluster, *peer, worker.random.next(), tried).ok_or(Cause::NoEndpoint)?;
        Ok(Chosen { picked: Picked { permit, ..picked }, protocol: cluster.protocol })
    }

    /// A place for a retry at a destination, where there is a bound.
    fn admit(&self, next: &Destination) -> Result<Option<Permit>, RetryEvent> {
        let Some(cluster) = cluster(next) else { return Ok(None) };
        let Downstream { worker, peer, .. } = &**self.downstream;
        worker.pools.admit(cluster, *peer, Counted::Retry).map_err(|_| RetryEvent::OverBudget)
    }

    /// How long another try waits; `None` when the endpoint wants more time than the rule gives.
    fn delay(&self, retry: &Retry, number: u32, tried: &Tried) -> Option<Duration> {
        let delay = retry.backoff.delay(number, self.downstream.worker.random.next());
        let asked = tried.as_ref().ok().and_then(|(response, _)| retry_after(response.headers()));
        match asked {
            Some(asked) if asked > delay => (asked <= retry.backoff.max).then_some(asked),
            _ => Some(delay),
        }
    }

    /// Why a request that failed is not tried again, if it is not.
    fn withheld(
        &self,
        course: &Course<'_>,
        next: &Destination,
        number: u32,
        delay: Option<Duration>,
    ) -> Option<RetryEvent> {
        let worker = &self.downstream.worker;
        let is_in_time = |delay| self.deadline.is_none_or(|deadline| Instant::now() + delay < deadline);
        if number >= course.retry.attempts {
            Some(RetryEvent::Exhausted)
        } else if course.replay.as_ref().is_some_and(|replay| !replay.is_whole()) {
            Some(RetryEvent::BodyTooLong)
        } else if !delay.is_some_and(is_in_time) {
            Some(RetryEvent::TooLate)
        } else if std::ptr::eq(course.destination, next) && !worker.retries.may_retry(&next.name, worker.clock.millis())
        {
            // Only where the same endpoints get more: another destination gets what it would have got without this one.
            Some(RetryEvent::OverBudget)
        } else {
            None
        }
    }
}

fn cluster(destination: &Destination) -> Option<&Arc<Cluster>> {
    match &destination.target {
        Target::Cluster(cluster) => Some(cluster),
        Target::Unresolved(_) => None,
    }
}

/// The try whose answer may count is at this endpoint.
fn on_endpoint(destination: &Destination, chosen: &Chosen, record: &mut Record) {
    if let Some(cluster) = cluster(destination) {
        record.on_endpoint(cluster, chosen.picked.endpoint.address());
    }
}

/// The last try: its response keeps its places until it has ended.
fn ended(tried: Tried, permits: [Option<Permit>; 2]) -> Result<(Response<Incoming>, Lease), Cause> {
    let (response, mut lease) = tried.map_err(|failed| failed.cause)?;
    lease.hold(permits);
    Ok((response, lease))
}

/// How a try failed; `None` if it did not, or if that is not the endpoint's fault.
fn failure(tried: &Tried, is_call: bool) -> Option<Failure> {
    match tried {
        Ok((response, _)) => {
            let status = response.headers().get(grpc::STATUS).filter(|_| is_call);
            match status.map(|status| CallStatus::parse(status.as_bytes()).number()) {
                Some(0) => None,
                Some(code) => Some(Failure::Call(code)),
                None => Some(Failure::Status(response.status())),
            }
        }
        Err(Failed { is_unseen: true, .. }) => Some(Failure::Connect),
        Err(Failed { cause: Cause::UpstreamClosed | Cause::UpstreamGarbage, .. }) => Some(Failure::Reset),
        Err(Failed { cause: Cause::PerTryTimeout, .. }) => Some(Failure::Timeout),
        Err(_) => None,
    }
}

fn event(failure: Failure) -> RetryEvent {
    match failure {
        Failure::Connect => RetryEvent::FailedConnect,
        Failure::Reset => RetryEvent::FailedReset,
        Failure::Timeout => RetryEvent::FailedTimeout,
        Failure::Status(status) if status.is_server_error() => RetryEvent::Failed5xx,
        Failure::Status(_) => RetryEvent::Failed4xx,
        Failure::Call(_) => RetryEvent::FailedCall,
    }
}

/// Does away with a response that is not passed on. One whose request may still be on its way is cancelled: the body has
/// to be there for the next try.
fn discard(tried: Tried, is_sent: bool) {
    if let Ok((response, lease)) = tried
        && is_sent
    {
        let discarded = lease.discard(response.into_body(), DISCARDED_BYTES);
        tokio::task::spawn_local(tokio::time::timeout(DISCARD_TIME, discarded));
    }
}
