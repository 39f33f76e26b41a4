//! The record of one request: begun with its head, ended with its response, then counted and, if wanted, told in the access log.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, response};
use weir_core::cluster::Cluster;
use weir_core::stats::StatsId;
use weir_plugin_host::Routing;
use weir_telemetry::{CallStatus, Cause, RequestEnd, RetryEvent, RowId};

use crate::access::Entry;
use crate::account::Asking;
use crate::body::Meter;
use crate::downstream::Downstream;
use crate::filters::FilterChain;
use crate::grpc;
use crate::plugins::Chain;
use crate::session::Kept;
use crate::watch::{Phase, Verdict, Watched};

/// What became of a request so far. Dropping it ends and counts the request.
pub(crate) struct Record {
    downstream: Rc<Downstream>,
    /// What bounds its waits: that of the connection or, where that has several requests at a time, one of its own.
    watched: Rc<Watched>,
    /// Its place among the requests of its workload; `None` when there was none.
    asking: Option<Asking>,
    /// Where it is found among the worker's streams; `None` in HTTP/1.1.
    stream: Option<usize>,
    /// Whether it is a call of gRPC, whose failures are told in another way.
    pub(crate) is_call: bool,
    started: Instant,
    route: Option<RowId>,
    status: Option<u16>,
    call_status: CallStatus,
    cause: Option<Cause>,
    is_complete: bool,
    /// Tries after the first.
    pub(crate) retries: u32,
    /// Set when the request has a body.
    pub(crate) meter: Option<Rc<Meter>>,
    pub(crate) response_bytes: u64,
    /// What the client is told where a cause's own text would not say enough.
    pub(crate) detail: Option<Box<str>>,
    /// Set when there are filters for the request.
    pub(crate) filters: Option<Box<FilterChain>>,
    /// How long its rule lets it wait.
    pub(crate) delay: Option<Duration>,
    /// When a client that is refused may come again.
    pub(crate) retry_after: Option<Duration>,
    /// What plugins decided about where it goes, until it is decided.
    pub(crate) routing: Option<Box<Routing>>,
    /// Set when it meets plugins.
    pub(crate) chain: Option<Rc<Chain>>,
    /// Set when its rule keeps clients at their endpoints.
    pub(crate) session: Option<Box<Kept>>,
    /// Set when there is an access log.
    pub(crate) entry: Option<Box<Entry>>,
}

impl Record {
    /// A request begins.
    pub(crate) fn begin(downstream: &Rc<Downstream>) -> Self {
        downstream.watched.enter(Phase::Busy);
        Self::new(downstream, Rc::clone(&downstream.watched), None)
    }

    /// A request begins that is one of several on its connection.
    pub(crate) fn begin_stream(downstream: &Rc<Downstream>) -> Self {
        let worker = &downstream.worker;
        let watched = Watched::new(Rc::clone(&worker.clock));
        watched.enter(Phase::Busy);
        downstream.watched.begin_stream();
        let key = worker.streams.add(Rc::clone(&watched));
        Self::new(downstream, watched, Some(key))
    }

    fn new(downstream: &Rc<Downstream>, watched: Rc<Watched>, stream: Option<usize>) -> Self {
        Self {
            downstream: Rc::clone(downstream),
            watched,
            asking: downstream.account.ask(),
            stream,
            is_call: false,
            started: Instant::now(),
            route: None,
            status: None,
            call_status: CallStatus::NONE,
            cause: None,
            is_complete: false,
            retries: 0,
            meter: None,
            response_bytes: 0,
            detail: None,
            filters: None,
            delay: None,
            retry_after: None,
            routing: None,
            chain: None,
            session: None,
            entry: None,
        }
    }

    /// What bounds its waits.
    pub(crate) fn watched(&self) -> &Rc<Watched> {
        &self.watched
    }

    /// When it has to be done if it may take this long.
    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> Option<tokio::time::Instant> {
        self.started.checked_add(timeout?).map(tokio::time::Instant::from_std)
    }

    /// Whose it is.
    pub(crate) fn downstream(&self) -> &Downstream {
        &self.downstream
    }

    /// Whether its workload may have it.
    pub(crate) fn is_admitted(&self) -> bool {
        self.asking.is_some()
    }

    /// Whether it is one of several on its connection.
    pub(crate) fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// The destination is decided.
    pub(crate) fn on_route(&mut self, route: StatsId) {
        let shard = &self.downstream.worker.shard;
        let row = shard.row(route, self.downstream.account.source);
        shard.route(row).on_start();
        self.route = Some(row);
    }

    /// It goes on to another destination, after its try at the first one has failed.
    pub(crate) fn on_other_route(&mut self, route: StatsId) {
        if let Some(left) = self.route {
            self.downstream.worker.shard.route(left).on_leave();
        }
        self.on_route(route);
    }

    /// A try of it goes to this endpoint.
    pub(crate) fn on_endpoint(&mut self, cluster: &Cluster, address: SocketAddr) {
        if let Some(session) = &mut self.session {
            session.on_endpoint(cluster, address);
        }
        if let Some(chain) = &self.chain {
            chain.on_endpoint(cluster, address);
        }
        if let Some(entry) = &mut self.entry {
            entry.on_endpoint(cluster, address);
        }
    }

    /// Something happened about trying it again, at the destination where it is.
    pub(crate) fn on_retry(&self, event: RetryEvent) {
        if let Some(route) = self.route {
            self.downstream.worker.shard.route(route).on_retry(event);
        }
    }

    /// The head of the response is made or received.
    pub(crate) fn on_status(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// The head of an endpoint's response came.
    pub(crate) fn on_response(&mut self, head: &response::Parts) {
        self.on_status(head.status.as_u16());
        self.on_fields(&head.headers);
        if let Some(entry) = &mut self.entry {
            entry.on_response(self.started);
        }
    }

    /// Headers or trailers of a response came, or were made: of a call they may have its status.
    pub(crate) fn on_fields(&mut self, fields: &HeaderMap) {
        if self.is_call
            && let Some(status) = fields.get(grpc::STATUS)
        {
            self.call_status = CallStatus::parse(status.as_bytes());
        }
    }

    /// The proxy answers itself, or ends what an endpoint began to answer.
    pub(crate) fn on_local_reply(&mut self, cause: Cause) {
        self.cause = Some(cause);
    }

    /// The response is whole.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }

    /// The response is cut off.
    pub(crate) fn abort(&mut self, cause: Cause) {
        self.cause = Some(cause);
        self.status = None;
        self.is_complete = true;
        self.downstream.aborted.set(true);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_complete {
            self.status = None;
            self.downstream.aborted.set(true);
            let failure = self.meter.as_ref().and_then(|meter| meter.failure.get());
            // A response that the client does not take is not looked at any more, so that nobody else says this.
            // Of a connection that it shares, that it would soon have ended for want of requests is not why it ended.
            let shared = || self.downstream.watched.verdict().filter(|one| *one != Verdict::KeepAliveTimeout);
            let verdict = self.watched.verdict().or_else(shared);
            let ended = verdict.map_or(Cause::DownstreamGone, Verdict::cause);
            self.cause = Some(self.cause.or(failure).unwrap_or(ended));
        }
        match self.stream {
            None => self.watched.enter(Phase::Between),
            Some(key) => {
                self.downstream.worker.streams.remove(key);
                self.downstream.watched.end_stream();
            }
        }
        let end = RequestEnd {
            status: self.status,
            // Where there was no response at all, that is counted already.
            call: self.status.filter(|_| self.is_call).map(|_| self.call_status),
            cause: self.cause,
            duration: self.started.elapsed(),
            request_bytes: self.meter.as_ref().map_or(0, |meter| meter.bytes.get()),
            response_bytes: self.response_bytes,
        };
        let shard: &Arc<_> = &self.downstream.worker.shard;
        match (self.route, self.cause) {
            (Some(route), _) => shard.route(route).on_end(&end),
            (None, Some(cause)) => shard.on_unrouted(cause),
            (None, None) => {}
        }
        if let Some(chain) = self.chain.take() {
            let spent = chain.end(&end, &self.downstream, self.entry.is_some());
            if let Some(entry) = &mut self.entry {
                entry.plugins = spent;
            }
        }
        let Downstream { worker, peer, .. } = &*self.downstream;
        if let (Some(access), Some(entry)) = (&worker.access, &self.entry) {
            access.write(entry, &end, *peer, self.retries, &worker.random);
        }
    }
}
