//! What is kept of a request for its line in the access log.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{HOST, HeaderMap, HeaderName, USER_AGENT};
use http::{Method, Version, request};
use weir_core::cluster::Cluster;
use weir_core::name::{ClusterName, PeerAddr};
use weir_core::revision::Sequence;
use weir_core::route::Rule;
use weir_core::share::Share;
use weir_core::workload::Workload;
use weir_telemetry::RequestEnd;
use weir_telemetry::access::{self, AccessRecord, Sink};

use crate::headers;
use crate::random::Random;

/// The access log of a worker.
#[derive(Debug)]
pub(crate) struct Access {
    sink: RefCell<Sink>,
    sampled: Share,
}

impl Access {
    pub(crate) fn new(sink: Sink, sampled: Share) -> Self {
        Self { sink: RefCell::new(sink), sampled }
    }

    /// Hands over what was written since.
    pub(crate) fn flush(&self) {
        self.sink.borrow_mut().flush();
    }

    /// Writes a line about a request that has ended, if it is to have one.
    pub(crate) fn write(&self, entry: &Entry, end: &RequestEnd, client: PeerAddr, retries: u32, random: &Random) {
        if access::is_notable(end.status, end.call, end.cause) || self.sampled.contains(random.next()) {
            self.sink.borrow_mut().write(&entry.record(end, client, retries));
        }
    }
}

/// What is kept of a request. Nothing of it keeps the buffer alive that the request was read into.
#[derive(Debug)]
pub(crate) struct Entry {
    method: Method,
    host: Option<Box<str>>,
    path: Box<str>,
    protocol: Version,
    user_agent: Option<Box<str>>,
    request_id: Option<Box<str>>,
    trace_id: Option<Box<str>>,
    response_time: Option<Duration>,
    pub(crate) revision: Option<Sequence>,
    source: Option<Arc<Workload>>,
    pub(crate) service: Option<ClusterName>,
    pub(crate) rule: Option<Arc<Rule>>,
    pub(crate) destination: Option<ClusterName>,
    version: Option<Arc<str>>,
    endpoint: Option<SocketAddr>,
    pub(crate) mirrors: Vec<Arc<Cluster>>,
    /// The plugins that saw it, and how long each took.
    pub(crate) plugins: Vec<(Arc<str>, Duration)>,
}

impl Entry {
    /// Of a request as it came, from this workload. Known before anything is refused.
    pub(crate) fn new(head: &request::Parts, source: Option<&Arc<Workload>>) -> Box<Self> {
        let host = head.uri.authority().map(|authority| authority.as_str().into());
        Box::new(Self {
            method: head.method.clone(),
            host: host.or_else(|| text(&head.headers, &HOST)),
            path: head.uri.path().into(),
            protocol: head.version,
            user_agent: text(&head.headers, &USER_AGENT),
            request_id: text(&head.headers, &headers::REQUEST_ID),
            trace_id: headers::trace_id(&head.headers).map(Into::into),
            response_time: None,
            revision: None,
            source: source.cloned(),
            service: None,
            rule: None,
            destination: None,
            version: None,
            endpoint: None,
            mirrors: Vec::new(),
            plugins: Vec::new(),
        })
    }

    /// The request is ready to be sent: it may have got an id and a trace.
    pub(crate) fn on_request(&mut self, head: &HeaderMap) {
        if self.request_id.is_none() {
            self.request_id = text(head, &headers::REQUEST_ID);
        }
        self.trace_id = headers::trace_id(head).map(Into::into);
    }

    /// It is sent to this endpoint.
    pub(crate) fn on_endpoint(&mut self, cluster: &Cluster, address: SocketAddr) {
        self.destination = Some(cluster.name.clone());
        self.version = cluster.endpoint_at(address).and_then(|endpoint| endpoint.version.clone());
        self.endpoint = Some(address);
    }

    /// The head of an endpoint's response came.
    pub(crate) fn on_response(&mut self, begun: Instant) {
        self.response_time = Some(begun.elapsed());
    }

    fn record(&self, end: &RequestEnd, client: PeerAddr, retries: u32) -> AccessRecord<'_> {
        let now = SystemTime::now();
        AccessRecord {
            began: now.checked_sub(end.duration).unwrap_or(now),
            revision: self.revision.map(|sequence| sequence.0),
            source: self.source.as_ref().map(|source| (&*source.namespace, &*source.name)),
            client: client.0,
            method: self.method.as_str(),
            host: self.host.as_deref(),
            path: &self.path,
            protocol: if self.protocol == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
            service: self.service.as_ref(),
            rule: self.rule.as_ref().map(|rule| rule.title()),
            destination: self.destination.as_ref(),
            version: self.version.as_deref(),
            endpoint: self.endpoint,
            mirrors: self.mirrors.iter().map(|cluster| &cluster.name).collect(),
            plugins: &self.plugins,
            status: end.status,
            call: end.call,
            cause: end.cause,
            retries,
            duration: end.duration,
            response_time: self.response_time,
            request_bytes: end.request_bytes,
            response_bytes: end.response_bytes,
            request_id: self.request_id.as_deref(),
            trace_id: self.trace_id.as_deref(),
            user_agent: self.user_agent.as_deref(),
        }
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<Box<str>> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(Into::into)
}
