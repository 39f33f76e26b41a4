//! The plugins of one request.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, request, response};
use hyper::body::Body as _;
use weir_core::name::ClusterName;
use weir_core::plugin::{OnFailure, Plugin};
use weir_core::route::Rule;
use weir_core::snapshot::Snapshot;
use weir_plugin_host::{Decided, Direction, HttpContext, LocalReply, Routing, Step};
use weir_telemetry::{Cause, RequestEnd};

use super::body::Passage;
use super::{LONGEST_PAUSE, facts};
use crate::body::Incoming;
use crate::downstream::Downstream;
use crate::filters::Answer;
use crate::grpc;
use crate::plan::Local;

/// The plugins that see a request, in the order in which they see it.
#[derive(Debug)]
pub(crate) struct Chain {
    links: Vec<Link>,
    /// What the proxy has decided so far.
    decided: RefCell<Decided>,
    /// What a plugin answered when nobody could be told at once.
    reply: RefCell<Option<Box<LocalReply>>>,
}

/// One of them.
#[derive(Debug)]
struct Link {
    plugin: Arc<Plugin>,
    /// `None` once the request goes on without it.
    context: RefCell<Option<HttpContext>>,
    /// Whether it holds a body back.
    is_holding: [Cell<bool>; 2],
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

/// What to do after a callback.
enum Next {
    Continue,
    Wait,
}

impl Link {
    /// What a step means, by the plugin's policy.
    fn next(&self, step: Step) -> Result<Next, Stopped> {
        match step {
            Step::Continue => Ok(Next::Continue),
            Step::Pause => Ok(Next::Wait),
            Step::Reply(reply) => Err(Stopped::Reply(reply)),
            Step::Reset => Err(Stopped::Failed(Cause::PluginReset)),
            Step::TooLarge => Err(Stopped::Failed(Cause::BodyTooLarge)),
            Step::Failed => match self.plugin.on_failure {
                OnFailure::Closed => Err(Stopped::Failed(Cause::PluginFailed)),
                OnFailure::Open => Ok(Next::Continue),
            },
        }
    }

    /// Whether it lets a head go on.
    fn poll_resumed(&self, direction: Direction, context: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        let polled = match &*self.context.borrow() {
            Some(of) => of.poll_resumed(direction, context),
            None => Poll::Ready(Step::Continue),
        };
        polled.map(|step| self.next(step).map(drop))
    }

    /// Whether it wants to see the body before its request goes on.
    fn wants_body_first(&self) -> bool {
        self.context.borrow().as_ref().is_some_and(HttpContext::wants_body_first)
    }

    fn holding(&self, direction: Direction) -> &Cell<bool> {
        &self.is_holding[usize::from(direction == Direction::Response)]
    }

    /// Whether it goes on with a body that it holds back, and with what.
    fn poll_released(&self, direction: Direction, context: &mut Context<'_>) -> Poll<Result<Bytes, Stopped>> {
        let of = self.context.borrow();
        let Some(of) = &*of else { return Poll::Ready(Ok(Bytes::new())) };
        let Poll::Ready(step) = of.poll_resumed(direction, context) else { return Poll::Pending };
        Poll::Ready(self.next(step).map(|_| {
            self.holding(direction).set(false);
            of.take_body(direction)
        }))
    }
}

impl Chain {
    /// The plugins that a request meets; `None` where there are none.
    pub(crate) fn begin(
        downstream: &Downstream,
        snapshot: &Snapshot,
        head: &request::Parts,
    ) -> Result<Option<Rc<Self>>, Cause> {
        let frontend = match downstream.meant.service(snapshot) {
            Some(frontend) if !frontend.plugins.is_empty() => frontend,
            _ => return Ok(None),
        };
        let worker = &downstream.worker;
        let mut links = Vec::with_capacity(frontend.plugins.len());
        for plugin in frontend.plugins.iter() {
            if !plugin.share.contains(worker.random.next()) {
                continue;
            }
            let vm = worker.plugins.of(plugin, worker.clock.millis());
            let context = vm.and_then(|vm| vm.open(facts::of(downstream, snapshot, frontend, Some(head.version))));
            match (context, plugin.on_failure) {
                (None, OnFailure::Closed) => return Err(Cause::PluginFailed),
                (None, OnFailure::Open) => {}
                (Some(context), _) => links.push(Link {
                    plugin: Arc::clone(plugin),
                    context: RefCell::new(Some(context)),
                    is_holding: [Cell::new(false), Cell::new(false)],
                }),
            }
        }
        let chain = |links| Rc::new(Self { links, decided: RefCell::default(), reply: RefCell::default() });
        Ok(Some(links).filter(|links: &Vec<Link>| !links.is_empty()).map(chain))
    }

    /// Shows the head of a request, and as much of its body as they want first, to all of them, and waits for those that
    /// want to think. What the rest of the body passes, if any of them looks at bodies.
    pub(crate) async fn on_request(
        self: &Rc<Self>,
        head: &mut request::Parts,
        incoming: &mut Incoming,
    ) -> Result<Option<Box<Passage>>, Stopped> {
        let is_end = incoming.is_end_stream();
        let mut passage = Passage::new(self, Direction::Request).filter(|_| !is_end);
        for link in &self.links {
            let step = match &*link.context.borrow() {
                Some(context) => context.on_request_headers(head, is_end),
                None => Step::Continue,
            };
            let has_failed = matches!(step, Step::Failed);
            let next = link.next(step)?;
            if let Some(passage) = &mut passage {
                passage.open()?;
            }
            match (next, &mut passage) {
                (Next::Wait, Some(passage)) if link.wants_body_first() => {
                    in_time(passage.fill(incoming)).await?;
                }
                (Next::Wait, _) => self.resumed(link, Direction::Request).await?,
                (Next::Continue, _) if !has_failed => continue,
                (Next::Continue, _) => {}
            }
            if let Some(context) = &*link.context.borrow() {
                context.take_request(head);
            }
        }
        if let Some(passage) = &mut passage {
            passage.begin(&head.headers)?;
        }
        Ok(passage)
    }

    /// What they decided about where the request goes, if anything.
    pub(crate) fn routing(&self) -> Option<Box<Routing>> {
        let mut routing = Routing::default();
        for link in &self.links {
            link.context.borrow().iter().for_each(|context| context.add_routing(&mut routing));
        }
        (!routing.is_empty()).then(|| Box::new(routing))
    }

    /// The destination of the request is decided.
    pub(crate) fn on_destination(&self, rule: Option<&Rule>, destination: &ClusterName) {
        let mut decided = self.decided.borrow_mut();
        decided.rule = rule.map(|rule| rule.title().into());
        decided.destination = Some(destination.to_string().into());
    }

    /// A try of it goes to this endpoint.
    pub(crate) fn on_endpoint(&self, address: SocketAddr) {
        let mut decided = self.decided.borrow_mut();
        decided.endpoint = Some(address);
        decided.tries += 1;
    }

    /// Shows the head of a response to all of them, in the opposite order.
    pub(crate) async fn on_response(&self, head: &mut response::Parts, is_end: bool) -> Result<(), Stopped> {
        for link in &self.links {
            link.context.borrow().iter().for_each(|context| context.set_decided(self.decided.borrow().clone()));
        }
        for link in self.links.iter().rev() {
            let step = match &*link.context.borrow() {
                Some(context) => context.on_response_headers(head, is_end),
                None => continue,
            };
            let has_failed = matches!(step, Step::Failed);
            if let Next::Wait = link.next(step)? {
                self.resumed(link, Direction::Response).await?;
            } else if !has_failed {
                continue;
            }
            if let Some(context) = &*link.context.borrow() {
                context.take_response(head);
            }
        }
        Ok(())
    }

    /// Waits until a plugin lets a head go on.
    async fn resumed(&self, link: &Link, direction: Direction) -> Result<(), Stopped> {
        in_time(std::future::poll_fn(|context| link.poll_resumed(direction, context))).await
    }

    /// Whether the plugin at this place lets a head go on.
    pub(super) fn poll_resumed(
        &self,
        direction: Direction,
        place: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Stopped>> {
        self.link(direction, place).poll_resumed(direction, context)
    }

    /// Whether any of them looks at bodies.
    pub(crate) fn wants_body(&self, direction: Direction) -> bool {
        let wants = |context: &HttpContext| context.wants_body(direction);
        self.links.iter().any(|link| link.context.borrow().as_ref().is_some_and(wants))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// The plugin at this place of the way.
    fn link(&self, direction: Direction, place: usize) -> &Link {
        match direction {
            Direction::Request => &self.links[place],
            Direction::Response => &self.links[self.links.len() - 1 - place],
        }
    }

    /// Shows a piece of a body to the plugin at this place. `None` when it holds it back.
    pub(super) fn on_data(
        &self,
        direction: Direction,
        place: usize,
        mut data: Bytes,
        is_end: bool,
    ) -> Result<Option<Bytes>, Stopped> {
        let link = self.link(direction, place);
        let context = link.context.borrow();
        let Some(context) = &*context else { return Ok(Some(data)) };
        let step = context.on_body(direction, &mut data, is_end);
        let has_failed = matches!(step, Step::Failed);
        let next = link.next(step)?;
        link.holding(direction).set(matches!(next, Next::Wait));
        Ok(match next {
            Next::Wait => None,
            Next::Continue if has_failed => {
                // What it held back comes first, unless what just came was added to that already.
                let held = context.take_body(direction);
                Some(match (held.is_empty(), data.is_empty()) {
                    (true, _) => data,
                    (false, true) => held,
                    (false, false) => [held, data].concat().into(),
                })
            }
            Next::Continue => Some(data),
        })
    }

    /// Shows trailers to the plugin at this place. Whether it holds them back.
    pub(super) fn on_trailers(
        &self,
        direction: Direction,
        place: usize,
        trailers: &mut HeaderMap,
    ) -> Result<bool, Stopped> {
        let link = self.link(direction, place);
        let context = link.context.borrow();
        let Some(context) = &*context else { return Ok(false) };
        let step = context.on_trailers(direction, trailers);
        if let Step::Failed = step {
            context.take_trailers(direction, trailers);
        }
        let is_held = matches!(link.next(step)?, Next::Wait);
        link.holding(direction).set(is_held);
        Ok(is_held)
    }

    /// Takes trailers that were held back.
    pub(super) fn take_trailers(&self, direction: Direction, place: usize, trailers: &mut HeaderMap) {
        if let Some(context) = &*self.link(direction, place).context.borrow() {
            context.take_trailers(direction, trailers);
        }
    }

    /// Whether the plugin at this place holds something back.
    pub(super) fn is_holding(&self, direction: Direction, place: usize) -> bool {
        self.link(direction, place).holding(direction).get()
    }

    /// What the plugin at this place lets go of, when it does.
    pub(super) fn poll_released(
        &self,
        direction: Direction,
        place: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<Bytes, Stopped>> {
        self.link(direction, place).poll_released(direction, context)
    }

    /// A plugin answered while the body was on its way: whoever waits for an endpoint is to take this instead.
    pub(super) fn set_reply(&self, reply: Box<LocalReply>) {
        *self.reply.borrow_mut() = Some(reply);
    }

    /// What a plugin answered while the body was on its way.
    pub(crate) fn take_reply(&self) -> Option<Stopped> {
        self.reply.borrow_mut().take().map(Stopped::Reply)
    }

    /// Ends all of them, with what became of the exchange.
    pub(crate) fn end(&self, end: &RequestEnd, downstream: &Downstream) {
        let mut decided = self.decided.borrow_mut();
        decided.status = end.status;
        decided.cause = end.cause.map(Cause::name);
        (decided.request_bytes, decided.response_bytes) = (end.request_bytes, end.response_bytes);
        for link in &self.links {
            let Some(context) = link.context.borrow_mut().take() else { continue };
            context.set_decided(decided.clone());
            let vm = Rc::clone(context.vm());
            drop(context);
            if vm.is_alive() {
                downstream.worker.plugins.on_success(&link.plugin);
            }
        }
    }
}

/// Waits for a plugin, but not for ever.
async fn in_time(resumed: impl Future<Output = Result<(), Stopped>>) -> Result<(), Stopped> {
    let Ok(resumed) = tokio::time::timeout(LONGEST_PAUSE, resumed).await else {
        return Err(Cause::PluginTimeout.into());
    };
    resumed
}
