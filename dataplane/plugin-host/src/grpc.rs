//! Calls of gRPC that a plugin makes by itself: what goes out, and what comes of it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, request};

/// Bytes before each message: whether it is compressed, and how long it is.
pub const PREFIX: usize = 5;

/// A call, of one message or of a stream of them.
#[derive(Debug)]
pub struct GrpcCall {
    /// The plugin's number of it.
    pub id: u32,
    /// Where it goes, as the plugin says it.
    pub upstream: Box<str>,
    /// Its head, without an authority.
    pub head: request::Parts,
    /// What is sent.
    pub messages: Messages,
    /// How long it may take.
    pub timeout: Duration,
}

/// What comes of it. A call is over with [`GrpcEvent::Closed`].
#[derive(Debug)]
pub enum GrpcEvent {
    /// The metadata at its beginning.
    Initial(HeaderMap),
    /// A message, without its prefix.
    Message(Bytes),
    /// The metadata at its end.
    Trailing(HeaderMap),
    /// It is over, with this status.
    Closed(u32, Box<str>),
}

/// The messages that a plugin sends, each with its prefix, until they are on their way.
#[derive(Clone, Debug, Default)]
pub struct Messages(Rc<RefCell<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Bytes>,
    bytes: usize,
    is_ended: bool,
    is_cancelled: bool,
    /// Who sends them, and who waits for the plugin to give the call up.
    wakers: [Option<Waker>; 2],
}

impl Waiting {
    fn wake(&mut self) {
        self.wakers.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }
}

impl Messages {
    /// The next of them; `None` after the last.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut waiting = self.0.borrow_mut();
        if let Some(message) = waiting.messages.pop_front() {
            waiting.bytes -= message.len();
            return Poll::Ready(Some(message));
        }
        if waiting.is_ended {
            return Poll::Ready(None);
        }
        waiting.wakers[0] = Some(context.waker().clone());
        Poll::Pending
    }

    /// Whether nothing more comes.
    pub fn is_end(&self) -> bool {
        let waiting = self.0.borrow();
        waiting.is_ended && waiting.messages.is_empty()
    }

    /// Whether the plugin has given the call up, or is gone.
    pub fn poll_cancelled(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.0.borrow_mut();
        if waiting.is_cancelled {
            return Poll::Ready(());
        }
        waiting.wakers[1] = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A call that is under way. Dropping it gives it up.
#[derive(Debug)]
pub(crate) struct OpenGrpc {
    messages: Messages,
    /// A call of one message is over with the first that comes back.
    pub(crate) is_stream: bool,
}

impl OpenGrpc {
    pub(crate) fn new(messages: Messages, is_stream: bool) -> Self {
        Self { messages, is_stream }
    }

    /// Sends a message; `false` where too much waits already, or nothing may follow.
    pub(crate) fn send(&self, message: &[u8], limit: usize) -> bool {
        let mut waiting = self.messages.0.borrow_mut();
        let size = PREFIX + message.len();
        if waiting.is_ended || waiting.bytes + size > limit {
            return false;
        }
        waiting.bytes += size;
        waiting.messages.push_back(framed(message));
        waiting.wake();
        true
    }

    /// Nothing more is sent.
    pub(crate) fn end(&self) {
        let mut waiting = self.messages.0.borrow_mut();
        waiting.is_ended = true;
        waiting.wake();
    }
}

impl Drop for OpenGrpc {
    fn drop(&mut self) {
        let mut waiting = self.messages.0.borrow_mut();
        (waiting.is_cancelled, waiting.is_ended) = (true, true);
        waiting.wake();
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// The upstream's name: what a plugin says may be a name, or what other hosts take, a `envoy.config.core.v3.GrpcService`
/// with `envoy_grpc.cluster_name`, in protobuf.
pub(crate) fn upstream_name(said: &[u8]) -> Option<&str> {
    let named = field(said).and_then(field).and_then(|name| str::from_utf8(name).ok());
    named.or_else(|| str::from_utf8(said).ok())
}

/// The bytes of a message's field 1, where it comes first.
fn field(message: &[u8]) -> Option<&[u8]> {
    let (b'\x0a', rest) = message.split_first().map(|(tag, rest)| (*tag, rest))? else { return None };
    let (mut size, mut shift) = (0_usize, 0);
    for (place, byte) in rest.iter().enumerate().take(4) {
        size |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return rest.get(place + 1..place + 1 + size);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_has_a_name_or_is_a_message() {
        let long = [b"\n\x83\x01\n\x80\x01".as_slice(), &[b'a'; 128]].concat();
        for (said, expected) in [
            (&b"shop/cart:80"[..], Some("shop/cart:80")),
            (b"\n\x09\n\x07cart:80", Some("cart:80")),
            (b"\n\x0e\n\x07cart:80\x12\x03abc", Some("cart:80")),
            // None that could be read: then it is what it is.
            (b"\n\x09\n\xff", None),
            (b"\n", Some("\n")),
            (b"", Some("")),
            (b"\xff", None),
        ] {
            assert_eq!(upstream_name(said), expected, "{said:?}");
        }
        assert_eq!(upstream_name(&long).map(str::len), Some(128));
    }

    #[test]
    fn messages_are_bounded_and_end() {
        let messages = Messages::default();
        let open = OpenGrpc::new(messages.clone(), true);
        assert!(open.send(b"one", 16) && open.send(b"two", 16) && !open.send(b"three", 16));
        let context = &mut Context::from_waker(Waker::noop());
        assert_eq!(messages.poll_next(context), Poll::Ready(Some(Bytes::from_static(b"\0\0\0\0\x03one"))));
        assert!(open.send(b"", 16));
        open.end();
        assert!(!open.send(b"", 16) && !messages.is_end());
        assert_eq!(messages.poll_next(context), Poll::Ready(Some(Bytes::from_static(b"\0\0\0\0\x03two"))));
        assert_eq!(messages.poll_next(context), Poll::Ready(Some(Bytes::from_static(b"\0\0\0\0\0"))));
        assert!(messages.poll_next(context) == Poll::Ready(None) && messages.poll_cancelled(context).is_pending());
        drop(open);
        assert!(messages.poll_cancelled(context).is_ready());
    }
}
