//! An exchange of HTTP as an instance has it.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, request, response};

use super::{Step, Vm};
use crate::abi::Direction;
use crate::exports::{Callback, HeadersFn};
use crate::routing::Routing;
use crate::stats::Ending;
use crate::stream::{Decided, Facts, Stream, no_request, no_response};

/// An exchange of an instance. Dropping it ends it: the plugin hears `proxy_on_log`, `proxy_on_done` and
/// `proxy_on_delete`.
#[derive(Debug)]
pub struct HttpContext {
    pub(super) vm: Rc<Vm>,
    pub(super) id: u32,
}

impl HttpContext {
    /// The instance.
    pub fn vm(&self) -> &Rc<Vm> {
        &self.vm
    }

    /// How long callbacks about it have taken so far.
    pub fn spent(&self) -> Duration {
        self.vm.recover(self.id, |stream| stream.spent).unwrap_or_default()
    }

    /// Whether its instance has failed with this exchange, and not with another.
    pub fn is_to_blame(&self) -> bool {
        self.vm.blamed.get().is_some_and(|(id, _)| id == self.id)
    }

    /// What it began with, for another context that is to take its place: the request's head as it was before the plugin changed it,
    /// where the plugin has seen one.
    pub fn beginning(&self) -> Option<(Facts, Option<request::Parts>)> {
        self.vm.recover(self.id, |stream| {
            let head = stream.unchanged.request.as_ref().or(stream.request.as_ref());
            (stream.facts.clone(), head.cloned())
        })
    }

    /// Whether the plugin wants to see the bodies of requests, or of responses.
    pub fn wants_body(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.vm.exports.request_body.is_some(),
            Direction::Response => self.vm.exports.response_body.is_some(),
        }
    }

    /// Whether the plugin has said, with the property `weir.body.before_route`, that it wants to see the body of a request
    /// whose head it holds back.
    pub fn wants_body_first(&self) -> bool {
        const PATH: &[u8] = b"weir\0body\0before_route";
        let is_it =
            |stream: &mut Stream| stream.properties.iter().any(|(path, value)| **path == *PATH && *value == "true");
        self.vm.with(self.id, is_it).unwrap_or(false)
    }

    /// Adds what the plugin has decided about where the request goes.
    pub fn add_routing(&self, routing: &mut Routing) {
        self.vm.with(self.id, |stream| {
            routing.add(stream.properties.iter().map(|(path, value)| (&**path, value)));
        });
    }

    /// What the proxy has decided meanwhile.
    pub fn set_decided(&self, decided: Decided) {
        self.vm.with(self.id, |stream| stream.facts.decided = decided);
    }

    /// The head of the request. While the plugin has it, `head` is empty; it is whole again after
    /// [`Step::Continue`], and after [`HttpContext::take_request`].
    pub fn on_request_headers(&self, head: &mut request::Parts, is_end: bool) -> Step {
        let Some(function) = &self.vm.exports.request_headers else { return Step::Continue };
        if !self.vm.is_alive() {
            return Step::Failed;
        }
        let taken = std::mem::replace(head, no_request());
        let count = self.vm.with(self.id, |stream| {
            stream.request = Some(taken);
            stream.request_way.is_open = true;
            stream.headers(Direction::Request).map_or(0, |fields| fields.len())
        });
        let Some(count) = count else { return Step::Failed };
        let result = self.headers(Callback::RequestHeaders, function, count, is_end);
        let step = self.vm.step(self.id, Direction::Request, result);
        if matches!(step, Step::Continue) {
            self.take_request(head);
        }
        step
    }

    /// Takes the request's head back: the plugin has decided. It can still read it. After a failure it is as it was
    /// before.
    pub fn take_request(&self, head: &mut request::Parts) {
        let is_alive = self.vm.is_alive();
        self.vm.recover(self.id, |stream| {
            stream.request_way.is_open = false;
            let before = stream.unchanged.request.as_ref().filter(|_| !is_alive);
            if let Some(kept) = before.or(stream.request.as_ref()) {
                *head = kept.clone();
            }
        });
    }

    /// The head of the response; like [`HttpContext::on_request_headers`].
    pub fn on_response_headers(&self, head: &mut response::Parts, is_end: bool) -> Step {
        let Some(function) = &self.vm.exports.response_headers else { return Step::Continue };
        if !self.vm.is_alive() {
            return Step::Failed;
        }
        let taken = std::mem::replace(head, no_response());
        let count = self.vm.with(self.id, |stream| {
            stream.response = Some(taken);
            stream.response_way.is_open = true;
            // An answer of its own to the request comes by here, too.
            stream.is_answered = false;
            stream.headers(Direction::Response).map_or(0, |fields| fields.len())
        });
        let Some(count) = count else { return Step::Failed };
        let result = self.headers(Callback::ResponseHeaders, function, count, is_end);
        let step = self.vm.step(self.id, Direction::Response, result);
        if matches!(step, Step::Continue) {
            self.take_response(head);
        }
        step
    }

    /// Takes the response's head back. From here on there can be no other answer.
    pub fn take_response(&self, head: &mut response::Parts) {
        let is_alive = self.vm.is_alive();
        self.vm.recover(self.id, |stream| {
            stream.response_way.is_open = false;
            stream.is_answered = true;
            let before = stream.unchanged.response.take();
            if let Some(kept) = before.filter(|_| !is_alive).or_else(|| stream.response.clone()) {
                *head = kept;
            }
        });
    }

    fn headers(&self, callback: Callback, function: &HeadersFn, count: usize, is_end: bool) -> Result<u32, Ending> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match function {
            HeadersFn::WithEnd(function) => {
                self.vm.call(callback, self.id, function, (self.id, count, u32::from(is_end)))
            }
            HeadersFn::WithoutEnd(function) => self.vm.call(callback, self.id, function, (self.id, count)),
        }
    }

    /// A piece of a body, and whether it is the last. With [`Step::Continue`], what goes on is in `data`.
    pub fn on_body(&self, direction: Direction, data: &mut Bytes, is_end: bool) -> Step {
        let (function, callback) = match direction {
            Direction::Request => (&self.vm.exports.request_body, Callback::RequestBody),
            Direction::Response => (&self.vm.exports.response_body, Callback::ResponseBody),
        };
        let Some(function) = function else { return Step::Continue };
        self.vm.show(self.id, direction, (callback, function), data, is_end)
    }

    /// Takes what the plugin has held back of a body.
    pub fn take_body(&self, direction: Direction) -> Bytes {
        self.vm.take_held(self.id, direction)
    }

    /// The trailers. With [`Step::Continue`] they are as the plugin left them.
    pub fn on_trailers(&self, direction: Direction, trailers: &mut HeaderMap) -> Step {
        let (function, callback) = match direction {
            Direction::Request => (&self.vm.exports.request_trailers, Callback::RequestTrailers),
            Direction::Response => (&self.vm.exports.response_trailers, Callback::ResponseTrailers),
        };
        let Some(function) = function else { return Step::Continue };
        if !self.vm.is_alive() {
            return Step::Failed;
        }
        let count = u32::try_from(trailers.len()).unwrap_or(u32::MAX);
        let taken = std::mem::take(trailers);
        if self.vm.with(self.id, |stream| stream.way(direction).trailers = Some(taken)).is_none() {
            return Step::Failed;
        }
        let result = self.vm.call(callback, self.id, function, (self.id, count));
        let step = self.vm.step(self.id, direction, result);
        if matches!(step, Step::Continue) {
            self.take_trailers(direction, trailers);
        }
        step
    }

    /// Takes the trailers back.
    pub fn take_trailers(&self, direction: Direction, trailers: &mut HeaderMap) {
        self.vm.recover(self.id, |stream| {
            if let Some(kept) = &stream.way(direction).trailers {
                *trailers = kept.clone();
            }
        });
    }

    /// Whether an exchange that waits may go on: whether the plugin has let it, answered it, or broken it off.
    pub fn poll_resumed(&self, direction: Direction, context: &mut Context<'_>) -> Poll<Step> {
        self.vm.poll_resumed(self.id, direction, context)
    }
}

impl Drop for HttpContext {
    fn drop(&mut self) {
        self.vm.close(self.id);
    }
}
