//! What a plugin reaches beyond its exchanges, seen from its instance: the services that it calls, and time.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, request, response};

use crate::vm::Vm;

/// A request that a plugin sends by itself.
#[derive(Debug)]
pub struct HttpCall {
    /// The plugin's number of it.
    pub id: u32,
    /// Where it goes, as the plugin says it.
    pub upstream: Box<str>,
    /// Its head, with the host in `Host`.
    pub head: request::Parts,
    /// Its body.
    pub body: Bytes,
    /// How long it may take.
    pub timeout: Duration,
}

/// What came of it. A plugin is also told of a failure by a response, as other hosts do it.
#[derive(Debug)]
pub struct CallResponse {
    /// The head.
    pub head: response::Parts,
    /// The body.
    pub body: Bytes,
    /// The trailers.
    pub trailers: HeaderMap,
}

/// What instances are started in. Everything is done later, and never while a callback runs.
pub trait Environment {
    /// Whether there is something of this name that can be called.
    fn is_known(&self, upstream: &str) -> bool;

    /// Sends a request; its end is told by [`Vm::on_http_call_response`].
    fn send(&self, vm: &Rc<Vm>, call: HttpCall);

    /// From now on [`Vm::tick`] is to be called, each time [`Vm::tick_period`] after the last, until that is `None`.
    fn begin_ticking(&self, vm: &Rc<Vm>);
}

/// Where nothing can be reached: for an instance that is only to show whether it starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Environment for Nowhere {
    /// Whatever it wants to call, this is not where it will do so.
    fn is_known(&self, _upstream: &str) -> bool {
        true
    }

    fn send(&self, _vm: &Rc<Vm>, _call: HttpCall) {}

    fn begin_ticking(&self, _vm: &Rc<Vm>) {}
}
