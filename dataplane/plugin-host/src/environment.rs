//! What a plugin reaches beyond its exchanges, seen from its instance: the services that it calls, and time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, request, response};

use crate::grpc::GrpcCall;
use crate::plugin::Plugin;
use crate::shared::Notices;
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
    /// What follows its body.
    pub trailers: HeaderMap,
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
    /// Whether there is something of this name.
    fn is_known(&self, upstream: &str) -> bool;

    /// Whether there is, and the plugin may call it.
    fn may_call(&self, plugin: &Plugin, upstream: &str) -> bool;

    /// Sends a request; its end is told by [`Vm::on_http_call_response`].
    fn send(&self, vm: &Rc<Vm>, call: HttpCall);

    /// Makes a call of gRPC; what comes of it is told by [`Vm::on_grpc`].
    fn call(&self, vm: &Rc<Vm>, call: GrpcCall);

    /// From now on [`Vm::on_queue_ready`] is to be called for each of these.
    fn begin_listening(&self, vm: &Rc<Vm>, notices: Arc<Notices>);

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

    fn may_call(&self, _plugin: &Plugin, _upstream: &str) -> bool {
        true
    }

    fn send(&self, _vm: &Rc<Vm>, _call: HttpCall) {}

    fn call(&self, _vm: &Rc<Vm>, _call: GrpcCall) {}

    fn begin_listening(&self, _vm: &Rc<Vm>, _notices: Arc<Notices>) {}

    fn begin_ticking(&self, _vm: &Rc<Vm>) {}
}
