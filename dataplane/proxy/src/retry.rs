//! Requests that are tried again, as their rule says (`weir_core::retry`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, request};
use tokio::time::Instant;
use weir_core::name::ClusterName;
use weir_core::retry::{self, Failure, Retry};
use weir_core::split::{Destination, Target};
use weir_telemetry::{CallStatus, Cause, RetryEvent};

use crate::body::{Budget, Incoming, Replay, RequestBody, Streamed};
use crate::downstream::Downstream;
use crate::exchange::{Failed, exchange, outgoing};
use crate::grpc;
use crate::headers::Upgrading;
use crate::observe::{Observation, retry_after};
use crate::plan::{self, Chosen, Retrying};
use crate::record::Record;
use crate::settings::RetryLimits;
use crate::upstream::{Counted, Lease, Permit, Picked};

/// What a worker keeps for further tries.
pub(crate) struct Retries {
    limits: RetryLimits,
    memory: Arc<Budget>,
    budgets: RefCell<HashMap<ClusterName, Kept, foldhash::fast::RandomState>>,
}

/// The budget of a destination, and when it was last used.
struct Kept {
    budget: retry::Budget,
    used_ms: u64,
}

/// For how long a budget is kept that nobody uses: what was saved up is lost then.
const KEPT_MS: u64 = 10_000;

impl Retries {
    pub(crate) fn new(limits: &RetryLimits) -> Self {
        Self { limits: limits.clone(), memory: Budget::new(limits.total_bytes), budgets: RefCell::default() }
    }

    fn with_budget<T>(&self, name: &ClusterName, now_ms: u64, use_it: impl FnOnce(&mut retry::Budget) -> T) -> T {
        let mut budgets = self.budgets.borrow_mut();
        let kept = match budgets.get_mut(name) {
            Some(kept) => kept,
            None => {
                budgets.entry(name.clone()).or_insert_with(|| Kept { budget: retry::Budget::new(now_ms), used_ms: 0 })
            }
        };
        kept.used_ms = now_ms;
        use_it(&mut kept.budget)
    }

    /// A request is sent to a destination.
    fn on_request(&self, name: &ClusterName, now_ms: u64) {
        self.with_budget(name, now_ms, retry::Budget::on_request);
    }

    /// Whether a destination may have one of its requests again.
    fn may_retry(&self, name: &ClusterName, now_ms: u64) -> bool {
        self.with_budget(name, now_ms, |budget| budget.take(now_ms))
    }

    /// Forgets budgets that nobody uses.
    pub(crate) fn sweep(&self, now_ms: u64) {
        self.budgets.borrow_mut().retain(|_, kept| now_ms.saturating_sub(kept.used_ms) <= KEPT_MS);
    }
}

/// Bytes of a response that is not passed on which are read so that its connection can be used again, and for how long.
const DISCARDED_BYTES: u64 = 65_536;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// A request on its way to a response that is good enough.
pub(crate) struct Tries<'a> {
    pub(crate) downstream: &'a Rc<Downstream>,
    pub(crate) retrying: Retrying,
    /// As the rule's filters have left it.
    pub(crate) head: request::Parts,
    pub(crate) upgrading: Upgrading,
    /// When the whole request has to be done.
    pub(crate) deadline: Option<Instant>,
    pub(crate) per_try: Option<Duration>,
}

type Tried = Result<(Response<Incoming>, Lease), Failed>;

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
        let replay = body.map(|body| Replay::new(body, limits.body_bytes, memory, &self.downstream.account.kept));
        let rule = &*self.retrying.rule;
        let split = &rule.split;
        let Some(retry) = &rule.retry else { return Err(Cause::NoDestination) };
        let mut destination = &split.destinations[self.retrying.destination];
        let mut tried: Vec<SocketAddr> = Vec::new();
        // Of the request and of the retry that it is: kept until the response has ended, and free for the next try.
        let mut permits = [None, None];
        worker.retries.on_request(&destination.name, worker.clock.millis());
        loop {
            let number = record.retries;
            if let (true, Some(replay)) = (number == retry.attempts, &replay) {
                replay.forget();
            }
            let tried_now = match chosen {
                Ok(mut chosen) => {
                    tried.push(chosen.picked.endpoint.address());
                    permits[0] = chosen.picked.permit.take();
                    self.try_at(&chosen, replay.as_ref(), record).await
                }
                // What the configuration does not have will not be there the next time.
                Err(cause) => Err(Failed { cause, is_unseen: cause != Cause::Unresolved }),
            };
            let failure = failure(&tried_now, record.is_call).filter(|one| retry.wants(*one, &self.head.method));
            let Some(failure) = failure else { return ended(tried_now, permits) };
            let next = retry.destination(split, destination);
            let delay = self.delay(retry, number + 1, &tried_now);
            if let Some(event) = self.withheld(retry, (destination, next), number, replay.as_deref(), delay) {
                record.on_retry(event);
                return ended(tried_now, permits);
            }
            permits[1] = None;
            match self.admit(next) {
                Ok(permit) => permits = [None, permit],
                Err(event) => {
                    record.on_retry(event);
                    return ended(tried_now, permits);
                }
            }
            record.on_retry(event(failure));
            discard(tried_now, replay.as_ref().is_none_or(|replay| replay.is_sent()));
            tokio::time::sleep(delay.unwrap_or_default()).await;
            record.retries += 1;
            if std::ptr::eq(destination, next) {
                record.on_retry(RetryEvent::Retried);
            } else {
                worker.retries.on_request(&next.name, worker.clock.millis());
                record.on_other_route(next.stats);
                record.on_retry(RetryEvent::TakenOver);
                if let Some(filters) = &mut record.filters {
                    filters.set_destination(next.filters.clone());
                }
                destination = next;
            }
            chosen = self.choose(destination, &tried, record);
        }
    }

    async fn try_at(&self, chosen: &Chosen, replay: Option<&Rc<Replay>>, record: &Record) -> Tried {
        let mut head = self.head.clone();
        if let Some(filters) = &record.filters {
            filters.on_way_out(&mut head);
        }
        let version = plan::version(chosen.protocol, &head, self.upgrading, record.is_call);
        let body = replay.map_or(RequestBody::Empty, Replay::body);
        let observation = Observation::begin(&chosen.picked);
        let request = outgoing(head, body);
        let tried = exchange(self.downstream, &chosen.picked.endpoint, version, request, self.per_try).await;
        match &tried {
            Ok((response, _)) => observation.answered(response),
            Err(failed) => observation.failed(failed.cause),
        }
        tried
    }

    /// The endpoint for another try: one that was not tried yet, if there is one.
    fn choose(&self, destination: &Destination, tried: &[SocketAddr], record: &mut Record) -> Result<Chosen, Cause> {
        let Target::Cluster(cluster) = &destination.target else { return Err(Cause::Unresolved) };
        let Downstream { worker, peer, .. } = &**self.downstream;
        let permit = worker.pools.admit(cluster, *peer, Counted::Request).map_err(|_| Cause::Overflow)?;
        let picked = worker.pools.pick_other(cluster, *peer, worker.random.next(), tried).ok_or(Cause::NoEndpoint)?;
        let picked = Picked { permit, ..picked };
        record.on_endpoint(cluster, picked.endpoint.address());
        Ok(Chosen { picked, protocol: cluster.protocol })
    }

    /// A place for a retry at a destination, where there is a bound.
    fn admit(&self, next: &Destination) -> Result<Option<Permit>, RetryEvent> {
        let Target::Cluster(cluster) = &next.target else { return Ok(None) };
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
        retry: &Retry,
        (failed, next): (&Destination, &Destination),
        number: u32,
        replay: Option<&Replay>,
        delay: Option<Duration>,
    ) -> Option<RetryEvent> {
        let worker = &self.downstream.worker;
        let is_in_time = |delay| self.deadline.is_none_or(|deadline| Instant::now() + delay < deadline);
        if number >= retry.attempts {
            Some(RetryEvent::Exhausted)
        } else if replay.is_some_and(|replay| !replay.is_whole()) {
            Some(RetryEvent::BodyTooLong)
        } else if !delay.is_some_and(is_in_time) {
            Some(RetryEvent::TooLate)
        } else if std::ptr::eq(failed, next) && !worker.retries.may_retry(&next.name, worker.clock.millis()) {
            // Only where the same endpoints get more: another destination gets what it would have got without this one.
            Some(RetryEvent::OverBudget)
        } else {
            None
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_destination_has_a_budget_for_as_long_as_it_is_used() {
        let retries = Retries::new(&RetryLimits::default());
        let name = |port| ClusterName { service: weir_core::name::ServiceName::new("default", "a"), port };
        while retries.may_retry(&name(1), 0) {}
        assert!(retries.may_retry(&name(2), 0));
        (0..100).for_each(|_| retries.on_request(&name(1), 0));
        assert!(retries.may_retry(&name(1), 0));
        retries.on_request(&name(1), KEPT_MS);
        retries.sweep(KEPT_MS + 1);
        assert_eq!(retries.budgets.borrow().keys().collect::<Vec<_>>(), [&name(1)]);
    }
}
