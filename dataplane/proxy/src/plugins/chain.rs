//! The plugins of one request: those of the service that it is for, and then those of the rule that it meets.

use std::cell::{OnceCell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, request, response};
use hyper::body::Body as _;
use weir_core::cluster::Cluster;
use weir_core::name::ClusterName;
use weir_core::route::{Entry, Rule};
use weir_core::snapshot::{Frontend, Snapshot};
use weir_plugin_host::{Decided, Direction, LocalReply, Reached, Routing, Step};
use weir_telemetry::{Cause, RequestEnd};

use super::LONGEST_PAUSE;
use super::body::Passage;
use super::link::{Link, Next};
use crate::body::Incoming;
use crate::downstream::Downstream;
use crate::filters::Answer;
use crate::grpc;
use crate::plan::{self, Local};

/// The plugins that see a request, in the order in which they see it.
#[derive(Debug)]
pub(crate) struct Chain {
    of_service: Vec<Link>,
    of_rule: OnceCell<OfRule>,
    /// What the proxy has decided so far.
    decided: RefCell<Decided>,
    /// What a plugin answered when nobody could be told at once.
    reply: RefCell<Option<Box<LocalReply>>>,
}

/// The plugins of the rule that a request meets. It stays the one, whatever they change.
#[derive(Debug)]
struct OfRule {
    entry: Arc<Entry>,
    links: Vec<Link>,
}

/// Why an exchange goes no further.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// A plugin answers.
    Reply(Box<LocalReply>),
    /// It fails.
    Failed(Cause),
}

impl From<Cause> for Stopped {
    fn from(cause: Cause) -> Self {
        Self::Failed(cause)
    }
}

impl From<Stopped> for Local {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Reply(reply) => Self::Answer(Box::new(answer(*reply))),
            Stopped::Failed(cause) => Self::Failure(cause),
        }
    }
}

fn answer(reply: LocalReply) -> Answer {
    let LocalReply { status, mut headers, body, grpc_status, .. } = reply;
    if !body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    if let Some(code) = grpc_status {
        headers.insert(grpc::STATUS, HeaderValue::from(code));
    }
    Answer { status, headers, body, cause: None, has_cors: true }
}

/// The plugins of a list that a request meets.
fn links(
    downstream: &Downstream,
    snapshot: &Snapshot,
    frontend: &Frontend,
    head: &request::Parts,
    plugins: &[Arc<weir_core::plugin::Plugin>],
) -> Result<Vec<Link>, Cause> {
    let link = |plugin| Link::begin(downstream, snapshot, frontend, head, plugin).transpose();
    plugins.iter().filter_map(link).collect()
}

impl Chain {
    /// The plugins that a request meets; `None` where there are none, and none of a rule's.
    pub(crate) fn begin(
        downstream: &Downstream,
        snapshot: &Snapshot,
        frontend: &Frontend,
        head: &request::Parts,
    ) -> Result<Option<Rc<Self>>, Cause> {
        let of_service = links(downstream, snapshot, frontend, head, &frontend.plugins)?;
        if of_service.is_empty() && !frontend.has_rule_plugins() {
            return Ok(None);
        }
        let (decided, reply) = (RefCell::default(), RefCell::default());
        Ok(Some(Rc::new(Self { of_service, of_rule: OnceCell::new(), decided, reply })))
    }

    /// Shows the head of a request, and as much of its body as they want first, to all of them, and waits for those that
    /// want to think. What the rest of the body passes, if any of them looks at bodies.
    pub(crate) async fn on_request(
        self: &Rc<Self>,
        (downstream, snapshot, frontend): (&Downstream, &Snapshot, &Frontend),
        head: &mut request::Parts,
        incoming: &mut Incoming,
    ) -> Result<Option<Box<Passage>>, Stopped> {
        let at = (downstream, snapshot, frontend);
        let mut passage = Passage::new(self, Direction::Request).filter(|_| !incoming.is_end_stream());
        self.show(0, downstream, head, incoming, &mut passage).await?;
        self.meet_rule(at, head)?;
        let count = self.of_service.len();
        if self.len() > count {
            if let Some(passage) = &mut passage {
                passage.on_longer();
            } else if !incoming.is_end_stream() {
                // Those before it look at no body: it need not pass them.
                passage = Passage::new(self, Direction::Request);
                (0..count).try_for_each(|_| passage.as_mut().map_or(Ok(()), |passage| passage.open()))?;
            }
            self.show(count, downstream, head, incoming, &mut passage).await?;
        }
        if let Some(passage) = &mut passage {
            passage.begin(&head.headers)?;
        }
        Ok(passage)
    }

    /// Shows the head to all of them from this place on.
    async fn show(
        self: &Rc<Self>,
        from: usize,
        downstream: &Downstream,
        head: &mut request::Parts,
        incoming: &mut Incoming,
        passage: &mut Option<Box<Passage>>,
    ) -> Result<(), Stopped> {
        for place in from..self.len() {
            let Some(link) = self.link(Direction::Request, place) else { break };
            let is_end = incoming.is_end_stream();
            let next = link.on_request(head, is_end, downstream)?;
            if let Some(passage) = passage {
                passage.open()?;
            }
            match (next, &mut *passage) {
                (Next::Continue, _) => {}
                (Next::Wait, Some(passage)) if link.wants_body_first() => {
                    in_time(passage.fill(incoming)).await?;
                    link.take_request(head);
                }
                (Next::Wait, _) => self.request_resumed(link, head, is_end, downstream).await?,
            }
        }
        Ok(())
    }

    /// Waits until a plugin lets the head of a request go on that it holds back.
    async fn request_resumed(
        &self,
        link: &Link,
        head: &mut request::Parts,
        is_end: bool,
        downstream: &Downstream,
    ) -> Result<(), Stopped> {
        let mut step = self.resumed(link, Direction::Request).await?;
        if let Step::Failed = step
            && let Some(next) = link.on_request_again(head, is_end, downstream)
        {
            match next? {
                Next::Continue => return Ok(()),
                Next::Wait => step = self.resumed(link, Direction::Request).await?,
            }
        }
        link.next(step)?;
        link.take_request(head);
        Ok(())
    }

    /// Adds those of the rule that the request meets, as it is now.
    fn meet_rule(
        &self,
        (downstream, snapshot, frontend): (&Downstream, &Snapshot, &Frontend),
        head: &request::Parts,
    ) -> Result<(), Cause> {
        if !frontend.has_rule_plugins() {
            return Ok(());
        }
        let table = plan::table(downstream, snapshot, frontend);
        let routing = self.routing();
        let request = plan::request(downstream, snapshot, head, routing.as_deref());
        let Some(entry) = table.find(&request).filter(|entry| !entry.rule.plugins.is_empty()) else { return Ok(()) };
        let known = |plugin: &&Arc<_>| !self.of_service.iter().any(|link| Arc::ptr_eq(link.plugin(), *plugin));
        let new: Vec<_> = entry.rule.plugins.iter().filter(known).cloned().collect();
        let links = links(downstream, snapshot, frontend, head, &new)?;
        let _ = self.of_rule.set(OfRule { entry: Arc::clone(entry), links });
        Ok(())
    }

    /// What the request met before the plugins of its rule saw it.
    pub(crate) fn entry(&self) -> Option<Arc<Entry>> {
        self.of_rule.get().map(|of_rule| Arc::clone(&of_rule.entry))
    }

    fn links(&self) -> impl DoubleEndedIterator<Item = &Link> {
        self.of_service.iter().chain(self.of_rule.get().into_iter().flat_map(|of_rule| &of_rule.links))
    }

    /// What they decided about where the request goes, if anything.
    pub(crate) fn routing(&self) -> Option<Box<Routing>> {
        let mut routing = Routing::default();
        self.links().for_each(|link| link.add_routing(&mut routing));
        (!routing.is_empty()).then(|| Box::new(routing))
    }

    /// The destination of the request is decided.
    pub(crate) fn on_destination(&self, rule: Option<&Arc<Rule>>, destination: &ClusterName) {
        let mut decided = self.decided.borrow_mut();
        decided.rule = rule.cloned();
        decided.destination = Some(destination.clone());
    }

    /// A try of it goes to this endpoint.
    pub(crate) fn on_endpoint(&self, cluster: &Cluster, address: SocketAddr) {
        let mut decided = self.decided.borrow_mut();
        let endpoint = cluster.endpoint_at(address);
        decided.endpoint = Some(Reached {
            version: endpoint.and_then(|endpoint| endpoint.version.clone()),
            zone: endpoint.and_then(|endpoint| endpoint.zone.clone()),
            among: cluster.endpoints().len(),
            ..Reached::at(address)
        });
        decided.tries += 1;
    }

    /// Shows the head of an endpoint's response to all of them, in the opposite order.
    pub(crate) async fn on_response(
        &self,
        downstream: &Downstream,
        head: &mut response::Parts,
        is_end: bool,
    ) -> Result<(), Stopped> {
        if let Some(endpoint) = &mut self.decided.borrow_mut().endpoint {
            endpoint.latency = Some(endpoint.since.elapsed());
        }
        self.show_response(downstream, head, is_end).await
    }

    async fn show_response(
        &self,
        downstream: &Downstream,
        head: &mut response::Parts,
        is_end: bool,
    ) -> Result<(), Stopped> {
        self.links().for_each(|link| link.set_decided(&self.decided.borrow()));
        for link in self.links().rev() {
            if let Next::Wait = link.on_response(head, is_end, downstream)? {
                let step = self.resumed(link, Direction::Response).await?;
                link.next(step)?;
                link.take_response(head);
            }
        }
        Ok(())
    }

    /// Shows what the proxy answers itself to those that have seen the request. What they make of its body.
    pub(crate) async fn on_answer(
        self: &Rc<Self>,
        downstream: &Downstream,
        head: &mut response::Parts,
        body: Bytes,
    ) -> Result<Bytes, Stopped> {
        self.links().for_each(|link| link.expect_answer(downstream));
        // Its own, whatever they say about it.
        let connection = head.headers.remove(CONNECTION);
        if !body.is_empty() {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        self.show_response(downstream, head, body.is_empty()).await?;
        let body = match Passage::new(self, Direction::Response).filter(|_| !body.is_empty()) {
            Some(mut passage) => {
                // Whatever they make of it, its length is told.
                passage.begin(&HeaderMap::new())?;
                in_time(passage.pass(body)).await?
            }
            None => body,
        };
        // It is told by whoever sends it.
        head.headers.remove(CONTENT_LENGTH);
        head.headers.extend(connection.map(|value| (CONNECTION, value)));
        Ok(body)
    }

    /// Waits until a plugin lets a head go on, or does not.
    async fn resumed(&self, link: &Link, direction: Direction) -> Result<Step, Stopped> {
        in_time(std::future::poll_fn(|context| link.poll_resumed(direction, context).map(Ok))).await
    }

    /// Whether the plugin at this place lets a head go on.
    pub(super) fn poll_resumed(
        &self,
        direction: Direction,
        place: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Stopped>> {
        let Some(link) = self.link(direction, place) else { return Poll::Ready(Ok(())) };
        link.poll_resumed(direction, context).map(|step| link.next(step).map(drop))
    }

    /// Whether any of them looks at bodies.
    pub(crate) fn wants_body(&self, direction: Direction) -> bool {
        self.links().any(|link| link.wants_body(direction))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.of_service.len() + self.of_rule.get().map_or(0, |of_rule| of_rule.links.len())
    }

    /// The plugin at this place of the way.
    fn link(&self, direction: Direction, place: usize) -> Option<&Link> {
        let place = match direction {
            Direction::Request => place,
            Direction::Response => self.len().checked_sub(place + 1)?,
        };
        let of_rule = || self.of_rule.get()?.links.get(place - self.of_service.len());
        self.of_service.get(place).or_else(of_rule)
    }

    /// Shows a piece of a body to the plugin at this place. `None` when it holds it back.
    pub(super) fn on_data(
        &self,
        direction: Direction,
        place: usize,
        data: Bytes,
        is_end: bool,
    ) -> Result<Option<Bytes>, Stopped> {
        match self.link(direction, place) {
            Some(link) => link.on_data(direction, data, is_end),
            None => Ok(Some(data)),
        }
    }

    /// Shows trailers to the plugin at this place. Whether it holds them back.
    pub(super) fn on_trailers(
        &self,
        direction: Direction,
        place: usize,
        trailers: &mut HeaderMap,
    ) -> Result<bool, Stopped> {
        self.link(direction, place).map_or(Ok(false), |link| link.on_trailers(direction, trailers))
    }

    /// Takes trailers that were held back.
    pub(super) fn take_trailers(&self, direction: Direction, place: usize, trailers: &mut HeaderMap) {
        if let Some(link) = self.link(direction, place) {
            link.take_trailers(direction, trailers);
        }
    }

    /// Whether the plugin at this place holds something back.
    pub(super) fn is_holding(&self, direction: Direction, place: usize) -> bool {
        self.link(direction, place).is_some_and(|link| link.holding(direction).get())
    }

    /// What the plugin at this place lets go of, when it does.
    pub(super) fn poll_released(
        &self,
        direction: Direction,
        place: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<Bytes, Stopped>> {
        let link = self.link(direction, place);
        link.map_or(Poll::Ready(Ok(Bytes::new())), |link| link.poll_released(direction, context))
    }

    /// A plugin answered while the body was on its way: whoever waits for an endpoint is to take this instead.
    pub(super) fn set_reply(&self, reply: Box<LocalReply>) {
        *self.reply.borrow_mut() = Some(reply);
    }

    /// What a plugin answered while the body was on its way.
    pub(crate) fn take_reply(&self) -> Option<Stopped> {
        self.reply.borrow_mut().take().map(Stopped::Reply)
    }

    /// Ends all of them, with what became of the exchange. Where somebody wants to know, how long each took.
    pub(crate) fn end(&self, end: &RequestEnd, downstream: &Downstream, is_told: bool) -> Vec<(Arc<str>, Duration)> {
        let mut decided = self.decided.borrow_mut();
        decided.status = end.status;
        decided.cause = end.cause.map(Cause::name);
        (decided.request_bytes, decided.response_bytes) = (end.request_bytes, end.response_bytes);
        let mut spent = Vec::new();
        for link in self.links() {
            if is_told {
                spent.push((link.name().into(), link.spent()));
            }
            if link.end(&decided) {
                downstream.worker.plugins.on_success(link.plugin());
            }
        }
        spent
    }
}

/// Waits for a plugin, but not for ever.
async fn in_time<T>(resumed: impl Future<Output = Result<T, Stopped>>) -> Result<T, Stopped> {
    let Ok(resumed) = tokio::time::timeout(LONGEST_PAUSE, pin!(resumed)).await else {
        return Err(Cause::PluginTimeout.into());
    };
    resumed
}
