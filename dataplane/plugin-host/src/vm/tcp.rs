//! A connection that is none of HTTP, as an instance has it.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{Step, Vm};
use crate::abi::Direction;
use crate::exports::Callback;
use crate::stream::Decided;

/// A connection of an instance. Dropping it ends it, as with an exchange of HTTP. Data from the client are those of a
/// request, data from the endpoint those of a response.
#[derive(Debug)]
pub struct TcpContext {
    pub(super) vm: Rc<Vm>,
    pub(super) id: u32,
}

/// Who closed a side of a connection (`proxy_peer_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Closer {
    /// The proxy, or a plugin.
    Local = 1,
    /// Whoever is at the other end.
    Remote = 2,
}

impl TcpContext {
    /// The instance.
    pub fn vm(&self) -> &Rc<Vm> {
        &self.vm
    }

    /// What the proxy has decided meanwhile.
    pub fn set_decided(&self, decided: Decided) {
        self.vm.with(self.id, |stream| stream.facts.decided = decided);
    }

    /// The client has connected.
    pub fn on_new_connection(&self) -> Step {
        let Some(function) = &self.vm.exports.new_connection else { return Step::Continue };
        let result = self.vm.call(Callback::NewConnection, self.id, function, self.id);
        self.vm.step(self.id, Direction::Request, result)
    }

    /// Data, and whether they are the last. With [`Step::Continue`], what goes on is in `data`.
    pub fn on_data(&self, direction: Direction, data: &mut Bytes, is_end: bool) -> Step {
        let (function, callback) = match direction {
            Direction::Request => (&self.vm.exports.downstream_data, Callback::DownstreamData),
            Direction::Response => (&self.vm.exports.upstream_data, Callback::UpstreamData),
        };
        let Some(function) = function else { return Step::Continue };
        self.vm.show(self.id, direction, (callback, function), data, is_end)
    }

    /// Takes what the plugin has held back.
    pub fn take_data(&self, direction: Direction) -> Bytes {
        self.vm.take_held(self.id, direction)
    }

    /// Whether what waits may go on: whether the plugin has let it, or closed the connection.
    pub fn poll_resumed(&self, direction: Direction, context: &mut Context<'_>) -> Poll<Step> {
        self.vm.poll_resumed(self.id, direction, context)
    }

    /// Whether the plugin has closed the connection.
    pub fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        let polled = self.vm.with(self.id, |stream| {
            if stream.is_reset {
                return Poll::Ready(());
            }
            stream.waker = Some(context.waker().clone());
            Poll::Pending
        });
        polled.unwrap_or(Poll::Pending)
    }

    /// A side of the connection is closed.
    pub fn on_close(&self, direction: Direction, closer: Closer) {
        let (function, callback) = match direction {
            Direction::Request => (&self.vm.exports.downstream_close, Callback::DownstreamClose),
            Direction::Response => (&self.vm.exports.upstream_close, Callback::UpstreamClose),
        };
        if let Some(function) = function {
            // What failed is told by the instance being gone.
            let _ = self.vm.call(callback, self.id, function, (self.id, closer as u32));
        }
    }
}

impl Drop for TcpContext {
    fn drop(&mut self) {
        self.vm.close(self.id);
    }
}
