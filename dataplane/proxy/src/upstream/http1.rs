//! A connection to an endpoint in HTTP/1.1, driven by the task that uses it: no task of its own, so no wake-ups between tasks.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, TE, TRANSFER_ENCODING};
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use weir_telemetry::Cause;

use super::gate::Gate;
use super::{Cut, Open, Parcel, Seen, SendError};
use crate::body::RequestBody;
use crate::settings::Upstream;
use crate::socket_io::SocketIo;
use crate::stream::Stream;
use crate::tunnel::Place;

/// How often a connection is polled again because it woke itself, before others get their turn.
const PASSES: u32 = 4;

/// A connection that speaks HTTP/1.1: one request after the other.
pub(crate) struct Connection {
    sender: SendRequest<RequestBody>,
    driver: http1::Connection<SocketIo<Stream>, RequestBody>,
    ended: bool,
    gate: Arc<Gate>,
    waker: Waker,
    open: Open,
    /// Its place in a tunnel, if it is in one.
    place: Option<Rc<Place>>,
}

impl Connection {
    pub(super) async fn new(stream: Stream, open: Open, limits: &Upstream) -> Result<Self, hyper::Error> {
        let Upstream { head_bytes, read_bytes, .. } = *limits;
        let mut builder = http1::Builder::new();
        // A buffer begins small and grows with what comes. A head has to fit into it.
        builder.max_buf_size(read_bytes.max(head_bytes)).max_header_size(head_bytes);
        let place = stream.place();
        let (sender, driver) = builder.handshake(SocketIo::new(stream)).await?;
        let (gate, waker) = Gate::new();
        Ok(Self { sender, driver, ended: false, gate, waker, open, place })
    }

    /// Lets the connection read and write. Ready when it has ended.
    fn drive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.gate.set_task(Some(context.waker()));
        for _ in 0..PASSES {
            if self.poll_driver().is_ready() {
                return Poll::Ready(());
            }
            if !self.gate.leave() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether it can take another request, now that its last one has ended. Nobody is woken by it from here on.
    pub(super) fn rest(&mut self) -> bool {
        self.gate.set_task(None);
        !self.is_leaving() && self.look()
    }

    /// Whether the tunnel that it is in ends.
    fn is_leaving(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.is_leaving())
    }

    /// Whether it still can. A connection that the endpoint has closed is noticed as soon as the runtime has heard of it.
    pub(super) fn is_ready(&mut self) -> bool {
        !self.is_leaving() && if self.gate.is_quiet() { self.sender.is_ready() } else { self.look() }
    }

    fn look(&mut self) -> bool {
        for _ in 0..PASSES {
            if self.poll_driver().is_ready() {
                return false;
            }
            if !self.gate.leave() {
                break;
            }
        }
        self.sender.is_ready()
    }

    fn poll_driver(&mut self) -> Poll<()> {
        if self.ended {
            return Poll::Ready(());
        }
        self.gate.enter();
        let result = self.driver.poll_without_shutdown(&mut Context::from_waker(&self.waker));
        self.ended = result.is_ready();
        if self.ended {
            self.gate.leave();
        }
        result.map(|_| ())
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(&mut self, parcel: &mut Parcel) -> Result<Response<Incoming>, SendError> {
        let Some(mut request) = parcel.take() else { return Err(SendError::SENT) };
        frame(&mut request);
        let mut response = pin!(self.sender.try_send_request(request));
        std::future::poll_fn(|context| {
            let ended = self.drive(context);
            // Only the driver can complete it, and that is polled here: no waker is needed.
            match response.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => Poll::Ready(result.map_err(|mut error| {
                    *parcel = error.take_message();
                    SendError::new(error.error(), parcel.is_some())
                })),
                Poll::Pending if ended.is_ready() => {
                    Poll::Ready(Err(SendError { cause: Cause::UpstreamClosed, seen: Seen::Perhaps }))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// The next piece of a response's body.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.gate.set_task(Some(context.waker()));
        for _ in 0..PASSES {
            // Asking for a piece wakes the driver; the gate keeps that to itself, since the driver is polled next.
            self.gate.enter();
            if let Poll::Ready(frame) = poll_incoming(body) {
                self.gate.leave();
                return Poll::Ready(frame);
            }
            let ended = self.poll_driver();
            match poll_incoming(body) {
                Poll::Ready(frame) => {
                    self.gate.leave();
                    return Poll::Ready(frame);
                }
                Poll::Pending if ended.is_ready() => return Poll::Ready(Some(Err(Cut))),
                Poll::Pending => {}
            }
            if !self.gate.leave() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the endpoint has sent anything since its last whole response, to a connection that has ended.
    pub(super) fn has_unread(self) -> bool {
        !self.driver.into_parts().read_buf.is_empty()
    }

    /// The socket after an upgrade, and what was read beyond the head of the response. `None` when the connection
    /// was not upgraded after all.
    pub(crate) async fn into_upgraded(mut self) -> Option<(Stream, Bytes, Open)> {
        // The driver ends as soon as it has handed out the head of an upgrade.
        let ended = std::future::poll_fn(|context| Poll::Ready(self.drive(context).is_ready())).await;
        ended.then(|| {
            let parts = self.driver.into_parts();
            (parts.io.into_inner(), parts.read_buf, self.open)
        })
    }
}

/// Says how long the body is where that is not known, and that trailers are welcome where they are.
fn frame(request: &mut Request<RequestBody>) {
    if request.body().size_hint().exact().is_none() {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if request.headers().contains_key(TE) {
        // Beside what an upgrade says there (RFC 9110, section 10.1.4).
        request.headers_mut().append(CONNECTION, HeaderValue::from_static("te"));
    }
}

fn poll_incoming(body: &mut Incoming) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
    let frame = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
    frame.map(|frame| frame.map(|frame| frame.map_err(|_| Cut)))
}

impl SendError {
    fn new(error: &hyper::Error, is_unsent: bool) -> Self {
        let closed = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
        let reset = std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|error| {
                use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
                matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
            });
        let cause = if error.is_parse() {
            Cause::UpstreamGarbage
        } else if error.is_user() {
            // The body of the request failed; the meter of the body knows why.
            Cause::RequestAborted
        } else {
            Cause::UpstreamClosed
        };
        let seen = match is_unsent {
            true => Seen::Unsent,
            false if closed || reset => Seen::ClosedEarly,
            false => Seen::Perhaps,
        };
        Self { cause, seen }
    }
}
