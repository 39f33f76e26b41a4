//! One plugin of a request, and what is tried out beside it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, request, response};
use weir_core::plugin::{OnFailure, Plugin};
use weir_core::snapshot::{Frontend, Snapshot};
use weir_plugin_host::{Decided, Direction, Facts, HttpContext, Part, Routing, Step};
use weir_telemetry::Cause;

use super::chain::Stopped;
use super::facts;
use super::shadow::Shadow;
use crate::downstream::Downstream;

/// One of the plugins of a request.
#[derive(Debug)]
pub(super) struct Link {
    plugin: Arc<Plugin>,
    /// `None` once the request goes on without it.
    context: RefCell<Option<HttpContext>>,
    /// Whether it has begun a second time.
    is_second: Cell<bool>,
    /// Set once it has seen the request: whether the head was all of it.
    seen_head: Cell<Option<bool>>,
    /// Whether it has seen more of it than its head.
    has_seen_body: Cell<bool>,
    /// Whether it holds a body back.
    is_holding: [Cell<bool>; 2],
    shadow: Option<Box<Shadow>>,
}

/// What to do after a callback.
pub(super) enum Next {
    Continue,
    Wait,
}

/// A part of a plugin for an exchange.
fn open(downstream: &Downstream, plugin: &Arc<Plugin>, part: Part, facts: Facts) -> Option<HttpContext> {
    let worker = &downstream.worker;
    worker.plugins.of(plugin, part, Some(facts.source.ip()), worker.clock.millis())?.open(facts)
}

impl Link {
    /// The plugin for a request; `None` when it goes on without.
    pub(super) fn begin(
        downstream: &Downstream,
        snapshot: &Snapshot,
        frontend: &Frontend,
        head: &request::Parts,
        plugin: &Arc<Plugin>,
    ) -> Result<Option<Self>, Cause> {
        if !plugin.share.contains(downstream.worker.random.next()) {
            return Ok(None);
        }
        let open = |part| {
            let facts = facts::of(downstream, snapshot, frontend, Some(head.version));
            open(downstream, plugin, part, facts)
        };
        let Some(context) = open(Part::Plugin) else {
            return match plugin.on_failure {
                OnFailure::Open => Ok(None),
                OnFailure::Closed | OnFailure::Reload => Err(Cause::PluginFailed),
            };
        };
        let shadow = plugin.shadow.as_ref().and_then(|_| open(Part::Shadow));
        Ok(Some(Self {
            plugin: Arc::clone(plugin),
            context: RefCell::new(Some(context)),
            is_second: Cell::new(false),
            seen_head: Cell::new(None),
            has_seen_body: Cell::new(false),
            is_holding: [Cell::new(false), Cell::new(false)],
            shadow: shadow.map(|context| Box::new(Shadow::new(context, head))),
        }))
    }

    pub(super) fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.plugin.name.namespace, self.plugin.name.name)
    }

    /// How long its callbacks about this request have taken so far.
    pub(super) fn spent(&self) -> Duration {
        self.context.borrow().as_ref().map_or(Duration::ZERO, HttpContext::spent)
    }

    /// What a step means, by the plugin's policy.
    pub(super) fn next(&self, step: Step) -> Result<Next, Stopped> {
        match step {
            Step::Continue => Ok(Next::Continue),
            Step::Pause => Ok(Next::Wait),
            Step::Reply(reply) => Err(Stopped::Reply(reply)),
            Step::Reset => Err(Stopped::Failed(Cause::PluginReset)),
            Step::TooLarge => Err(Stopped::Failed(Cause::BodyTooLarge)),
            Step::Failed => match self.plugin.on_failure {
                OnFailure::Closed | OnFailure::Reload => Err(Stopped::Failed(Cause::PluginFailed)),
                OnFailure::Open => Ok(Next::Continue),
            },
        }
    }

    /// Puts another instance in the place of one that has failed, once, where that was not this exchange's fault, or the plugin's policy says
    /// so: what of the request it has seen, if it has, it is to see again.
    fn begin_again(&self, downstream: &Downstream) -> Option<Option<request::Parts>> {
        let mut context = self.context.borrow_mut();
        let before = context.as_ref().filter(|_| !self.has_seen_body.get() && !self.is_second.get())?;
        if before.is_to_blame() && self.plugin.on_failure != OnFailure::Reload {
            return None;
        }
        let (facts, head) = before.beginning()?;
        let again = open(downstream, &self.plugin, Part::Plugin, facts)?;
        self.is_second.set(true);
        *context = Some(again);
        Some(head)
    }

    /// Shows it the head of the request. The head is whole again when nothing is waited for.
    pub(super) fn on_request(
        &self,
        head: &mut request::Parts,
        is_end: bool,
        downstream: &Downstream,
    ) -> Result<Next, Stopped> {
        if let Some(shadow) = &self.shadow {
            shadow.on_request(head, is_end);
        }
        let mut step = self.show_request(head, is_end);
        if matches!(step, Step::Failed) && self.begin_again(downstream).is_some() {
            step = self.show_request(head, is_end);
        }
        if let Some(shadow) = &self.shadow {
            shadow.compare_step("the request", &step);
            if let Step::Continue = step {
                shadow.compare_request(head);
            }
        }
        self.next(step)
    }

    fn show_request(&self, head: &mut request::Parts, is_end: bool) -> Step {
        let context = self.context.borrow();
        let Some(context) = &*context else { return Step::Continue };
        self.seen_head.set(Some(is_end));
        let step = context.on_request_headers(head, is_end);
        if let Step::Failed = step {
            context.take_request(head);
        }
        step
    }

    /// It held the head of a request back, and its instance has failed meanwhile: shows it to another one. `None` where there is none.
    pub(super) fn on_request_again(
        &self,
        head: &mut request::Parts,
        is_end: bool,
        downstream: &Downstream,
    ) -> Option<Result<Next, Stopped>> {
        *head = self.begin_again(downstream)??;
        let step = self.show_request(head, is_end);
        Some(self.next(step))
    }

    /// It lets the head of a request go on that it held back.
    pub(super) fn take_request(&self, head: &mut request::Parts) {
        if let Some(context) = &*self.context.borrow() {
            context.take_request(head);
        }
        if let Some(shadow) = &self.shadow {
            shadow.compare_request(head);
        }
    }

    /// Shows it the head of the response.
    pub(super) fn on_response(
        &self,
        head: &mut response::Parts,
        is_end: bool,
        downstream: &Downstream,
    ) -> Result<Next, Stopped> {
        if let Some(shadow) = &self.shadow {
            shadow.on_response(head, is_end);
        }
        let mut step = self.show_response(head, is_end);
        if matches!(step, Step::Failed) && self.catch_up(downstream) {
            step = self.show_response(head, is_end);
        }
        if let Some(shadow) = &self.shadow {
            shadow.compare_step("the response", &step);
            if let Step::Continue = step {
                shadow.compare_response(head);
            }
        }
        self.next(step)
    }

    fn show_response(&self, head: &mut response::Parts, is_end: bool) -> Step {
        let context = self.context.borrow();
        let Some(context) = &*context else { return Step::Continue };
        let step = context.on_response_headers(head, is_end);
        if let Step::Failed = step {
            context.take_response(head);
        }
        step
    }

    /// Another instance sees the head of the request that the one before has seen, which is on its way already: whether it lets it
    /// go on as well.
    fn catch_up(&self, downstream: &Downstream) -> bool {
        let is_end = self.seen_head.get().unwrap_or(true);
        let Some(Some(mut head)) = self.begin_again(downstream) else { return false };
        matches!(self.show_request(&mut head, is_end), Step::Continue)
    }

    /// The proxy answers itself. Who has not seen the request does not see that, and nobody is asked whose instance has failed: the answer
    /// may be because of it.
    pub(super) fn expect_answer(&self, downstream: &Downstream) {
        let is_alive = || self.context.borrow().as_ref().is_some_and(|context| context.vm().is_alive());
        if self.seen_head.get().is_none() || !is_alive() && !self.catch_up(downstream) {
            let left = self.context.borrow_mut().take();
            drop(left);
        }
    }

    /// It lets the head of a response go on that it held back.
    pub(super) fn take_response(&self, head: &mut response::Parts) {
        if let Some(context) = &*self.context.borrow() {
            context.take_response(head);
        }
        if let Some(shadow) = &self.shadow {
            shadow.compare_response(head);
        }
    }

    /// Whether it lets a head go on.
    pub(super) fn poll_resumed(&self, direction: Direction, context: &mut Context<'_>) -> Poll<Step> {
        let of = self.context.borrow();
        of.as_ref().map_or(Poll::Ready(Step::Continue), |of| of.poll_resumed(direction, context))
    }

    /// Whether it wants to see bodies.
    pub(super) fn wants_body(&self, direction: Direction) -> bool {
        let wants = |context: &HttpContext| context.wants_body(direction);
        let shadow = self.shadow.as_ref().is_some_and(|shadow| shadow.wants_body(direction));
        shadow || self.context.borrow().as_ref().is_some_and(wants)
    }

    /// Whether it wants to see the body before its request goes on.
    pub(super) fn wants_body_first(&self) -> bool {
        self.context.borrow().as_ref().is_some_and(HttpContext::wants_body_first)
    }

    /// Adds what it has decided about where the request goes.
    pub(super) fn add_routing(&self, routing: &mut Routing) {
        let mut own = Routing::default();
        self.context.borrow().iter().for_each(|context| context.add_routing(&mut own));
        if let Some(shadow) = &self.shadow {
            shadow.compare_routing(&own);
        }
        routing.merge(own);
    }

    /// What the proxy has decided meanwhile.
    pub(super) fn set_decided(&self, decided: &Decided) {
        self.context.borrow().iter().for_each(|context| context.set_decided(decided.clone()));
        self.shadow.iter().for_each(|shadow| shadow.set_decided(decided));
    }

    pub(super) fn holding(&self, direction: Direction) -> &Cell<bool> {
        &self.is_holding[usize::from(direction == Direction::Response)]
    }

    /// Shows it a piece of a body. `None` when it holds it back.
    pub(super) fn on_data(
        &self,
        direction: Direction,
        mut data: Bytes,
        is_end: bool,
    ) -> Result<Option<Bytes>, Stopped> {
        let context = self.context.borrow();
        let Some(context) = &*context else { return Ok(Some(data)) };
        if let Some(shadow) = &self.shadow {
            shadow.on_data(direction, data.clone(), is_end);
        }
        if direction == Direction::Request {
            self.has_seen_body.set(true);
        }
        let step = context.on_body(direction, &mut data, is_end);
        let has_failed = matches!(step, Step::Failed);
        let next = self.next(step)?;
        self.holding(direction).set(matches!(next, Next::Wait));
        let passed = match next {
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
        };
        self.passed(direction, passed.as_ref(), is_end);
        Ok(passed)
    }

    fn passed(&self, direction: Direction, data: Option<&Bytes>, is_end: bool) {
        if let (Some(shadow), Some(data)) = (&self.shadow, data) {
            shadow.passed(direction, data, is_end);
        }
    }

    /// Whether it goes on with a body that it holds back, and with what.
    pub(super) fn poll_released(
        &self,
        direction: Direction,
        context: &mut Context<'_>,
    ) -> Poll<Result<Bytes, Stopped>> {
        let of = self.context.borrow();
        let Some(of) = &*of else { return Poll::Ready(Ok(Bytes::new())) };
        let Poll::Ready(step) = of.poll_resumed(direction, context) else { return Poll::Pending };
        Poll::Ready(self.next(step).map(|_| {
            self.holding(direction).set(false);
            let data = of.take_body(direction);
            self.passed(direction, Some(&data), false);
            data
        }))
    }

    /// Shows it trailers. Whether it holds them back.
    pub(super) fn on_trailers(&self, direction: Direction, trailers: &mut HeaderMap) -> Result<bool, Stopped> {
        let context = self.context.borrow();
        let Some(context) = &*context else { return Ok(false) };
        if let Some(shadow) = &self.shadow {
            shadow.on_trailers(direction, trailers);
        }
        let step = context.on_trailers(direction, trailers);
        if let Step::Failed = step {
            context.take_trailers(direction, trailers);
        }
        let is_held = matches!(self.next(step)?, Next::Wait);
        if !is_held && let Some(shadow) = &self.shadow {
            shadow.compare_trailers(direction, trailers);
        }
        self.holding(direction).set(is_held);
        Ok(is_held)
    }

    /// Takes trailers that were held back.
    pub(super) fn take_trailers(&self, direction: Direction, trailers: &mut HeaderMap) {
        if let Some(context) = &*self.context.borrow() {
            context.take_trailers(direction, trailers);
        }
        if let Some(shadow) = &self.shadow {
            shadow.compare_trailers(direction, trailers);
        }
    }

    /// The exchange is over. Whether the plugin has lived to see it.
    pub(super) fn end(&self, decided: &Decided) -> bool {
        self.shadow.iter().for_each(|shadow| shadow.end(decided));
        let Some(context) = self.context.borrow_mut().take() else { return false };
        context.set_decided(decided.clone());
        let vm = std::rc::Rc::clone(context.vm());
        drop(context);
        vm.is_alive()
    }
}
