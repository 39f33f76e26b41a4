//! A connection to an endpoint in HTTP/2, shared by requests. It has a task of its own, which ends with the connection.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::Reason;
use h2::client::{Builder, SendRequest};
use http::header::{CONNECTION, HOST};
use http::uri::{Authority, Scheme, Uri};
use http::{Request, Response, request};
use hyper::body::{Body, Frame};
use hyper_util::rt::TokioIo;
use weir_telemetry::Cause;

use super::{Cut, Open, Parcel, Seen, SendError, Sender};
use crate::account::Account;
use crate::body::{Incoming, Pump, RequestBody, Unsent};
use crate::headers;
use crate::settings::{Http2, SEND_BUFFER_BYTES, Upstream};
use crate::socket_io::SocketIo;
use crate::stream;
use crate::tunnel::{Place, Way};
use crate::watch::Clock;

/// A connection that speaks HTTP/2.
pub(super) struct Connection {
    sender: RefCell<SendRequest<Bytes>>,
    /// Whose requests it carries.
    account: Rc<Account>,
    /// How it goes to the endpoint.
    way: Way,
    /// Its place in a tunnel, if it is in one.
    place: Option<Rc<Place>>,
    streams: Cell<usize>,
    /// The tick at which its last request ended.
    idle_since: Cell<u32>,
    clock: Rc<Clock>,
}

impl Connection {
    /// Begins to speak HTTP/2 on a connection that was just made. The endpoint's part is not waited for.
    pub(super) async fn new(
        stream: stream::Stream,
        open: Open,
        sender: Sender<'_>,
        limits: &Upstream,
        clock: &Rc<Clock>,
    ) -> Result<Rc<Self>, h2::Error> {
        let mut builder = Builder::new();
        let Http2 { stream_window, connection_window, .. } = limits.http2;
        builder
            .enable_push(false)
            .initial_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER_BYTES);
        let place = stream.place();
        let (requests, connection) = builder.handshake(TokioIo::new(SocketIo::new(stream))).await?;
        tokio::task::spawn_local(async move {
            let _open = open;
            // Whatever it ends with, its requests have heard of it.
            let _ = connection.await;
        });
        let (account, way, clock) = (Rc::clone(sender.account), sender.way.clone(), Rc::clone(clock));
        let sender = RefCell::new(requests);
        Ok(Rc::new(Self {
            sender,
            account,
            way,
            place,
            streams: Cell::new(0),
            idle_since: Cell::new(clock.now()),
            clock,
        }))
    }

    /// Whether it carries the requests of this one, and goes this way.
    pub(super) fn is_of(&self, account: &Rc<Account>, way: &Way) -> bool {
        Rc::ptr_eq(&self.account, account) && self.way == *way
    }

    /// Whether it can take requests: it has not ended, and the endpoint has not asked for its end.
    pub(super) fn is_alive(&self) -> bool {
        let context = &mut Context::from_waker(Waker::noop());
        let is_leaving = self.place.as_ref().is_some_and(|place| place.is_leaving());
        !is_leaving && !matches!(self.sender.borrow_mut().poll_ready(context), Poll::Ready(Err(_)))
    }

    /// Whether it can take another request at once, of at most so many.
    pub(super) fn has_room(&self, most: usize) -> bool {
        let mut sender = self.sender.borrow_mut();
        let is_leaving = self.place.as_ref().is_some_and(|place| place.is_leaving());
        !is_leaving
            && self.streams.get() < most.min(sender.current_max_send_streams())
            && matches!(sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    }

    /// For how many ticks it has had no request. `None` when it has one.
    pub(super) fn idle_ticks(&self) -> Option<u32> {
        (self.streams.get() == 0).then(|| self.clock.now().wrapping_sub(self.idle_since.get()))
    }

    /// A place for one request.
    pub(super) fn stream(self: &Rc<Self>) -> Stream {
        self.streams.set(self.streams.get() + 1);
        Stream { connection: Rc::clone(self), pump: None }
    }
}

/// One request on a connection. Dropped before its response has ended, it is cancelled.
pub(super) struct Stream {
    connection: Rc<Connection>,
    /// Set as long as the request's body is being sent.
    pump: Option<Box<Pump<RequestBody>>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.streams.set(connection.streams.get() - 1);
        connection.idle_since.set(connection.clock.now());
    }
}

impl Stream {
    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(&mut self, parcel: &mut Parcel) -> Result<Response<Incoming>, SendError> {
        let Some(request) = parcel.take() else { return Err(SendError::SENT) };
        let (mut head, body) = request.into_parts();
        translate(&mut head);
        let is_end = body.is_end_stream();
        let sent = self.connection.sender.borrow_mut().send_request(Request::from_parts(head, ()), is_end);
        let (mut response, stream) = sent.map_err(|error| SendError { seen: Seen::Refused, ..failed(&error) })?;
        if !is_end {
            self.pump = Some(Box::new(Pump::new(body, stream, None)));
        }
        std::future::poll_fn(|context| {
            if self.poll_pump(context).is_err() {
                // The meter of the body knows why.
                return Poll::Ready(Err(SendError { cause: Cause::RequestAborted, seen: Seen::Perhaps }));
            }
            let response = ready!(Pin::new(&mut response).poll(context)).map_err(|error| failed(&error))?;
            let (head, body) = response.into_parts();
            let body = Incoming::http2(body, &head.headers, None);
            Poll::Ready(Ok(Response::from_parts(head, body)))
        })
        .await
    }

    /// The next piece of a response's body.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.poll_pump(context).is_err() {
            return Poll::Ready(Some(Err(Cut)));
        }
        Pin::new(body).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(|_| Cut)))
    }

    /// Sends what can be sent of the request's body. An error says that the body broke off.
    fn poll_pump(&mut self, context: &mut Context<'_>) -> Result<(), ()> {
        let Some(pump) = &mut self.pump else { return Ok(()) };
        match pump.poll(context, Reason::CANCEL) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Err(Unsent::Broken(_))) => return Err(()),
            // An endpoint may answer without having heard the request to its end (RFC 9113, section 8.1); whether it
            // does, the response says.
            Poll::Ready(Ok(()) | Err(Unsent::Refused)) => {}
        }
        self.pump = None;
        Ok(())
    }
}

/// From `Host` to `:authority` (RFC 9113, section 8.3.1).
fn translate(head: &mut request::Parts) {
    head.headers.remove(CONNECTION);
    headers::keep_out_of_tables(&mut head.headers);
    let host = head.headers.remove(HOST);
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if parts.authority.is_none() {
        // Without one there can be no scheme either; the connection adds it.
        parts.scheme = None;
    }
    // All parts are valid by themselves, and with a scheme there is an authority.
    head.uri = Uri::from_parts(parts).unwrap_or_default();
}

fn failed(error: &h2::Error) -> SendError {
    // What the endpoint has not looked at may be sent again (RFC 9113, section 8.7).
    let refused = error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
    let cause = if error.is_library() { Cause::UpstreamGarbage } else { Cause::UpstreamClosed };
    let seen = match (refused, error.is_io()) {
        (true, _) => Seen::Refused,
        (false, true) => Seen::ClosedEarly,
        (false, false) => Seen::Perhaps,
    };
    SendError { cause, seen }
}
