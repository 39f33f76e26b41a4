//! A connection to an endpoint in use by one request, or by one client's connection that is passed on unchanged.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use hyper::body::Frame;

use super::breaker::Permit;
use super::endpoint::Slot;
use super::{Cut, Open, Parcel, SendError, http1, http2};
use crate::body::Incoming;
use crate::tunnel::Way;

/// Whether a connection had a request before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reused {
    Yes,
    No,
}

/// What a request goes by.
pub(super) enum Carrier {
    /// A connection for itself.
    Http1(Box<http1::Connection>),
    /// A stream of a connection with others.
    Http2(http2::Stream),
}

/// A connection in use. Dropped, it is closed, or the request on it cancelled, unless it was given back before.
pub(crate) struct Lease {
    carrier: Carrier,
    slot: Slot,
    reused: Reused,
    way: Way,
    /// Held until the response has ended.
    permits: [Option<Permit>; 2],
}

impl Lease {
    pub(super) fn new(carrier: Carrier, slot: Slot, reused: Reused, way: &Way) -> Self {
        Self { carrier, slot, reused, way: way.clone(), permits: [None, None] }
    }

    /// Keeps the places of the request, and of the retry that it is, until it has ended.
    pub(crate) fn hold(&mut self, permits: [Option<Permit>; 2]) {
        self.permits = permits;
    }

    pub(crate) fn is_reused(&self) -> bool {
        self.reused == Reused::Yes
    }

    /// Sends a request and waits for the head of its response.
    pub(crate) async fn send(&mut self, parcel: &mut Parcel) -> Result<Response<Incoming>, SendError> {
        match &mut self.carrier {
            Carrier::Http1(connection) => connection.send(parcel).await.map(|response| response.map(Incoming::Http1)),
            Carrier::Http2(stream) => stream.send(parcel).await,
        }
    }

    /// The next piece of the body of a response that came by it.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match (&mut self.carrier, body) {
            (Carrier::Http1(connection), Incoming::Http1(body)) => connection.poll_frame(context, body),
            (Carrier::Http2(stream), body) => stream.poll_frame(context, body),
            (Carrier::Http1(_), Incoming::Http2(_)) => Poll::Ready(Some(Err(Cut))),
        }
    }

    /// Whether the endpoint has sent anything in answer to the request, on a connection that has ended.
    pub(crate) fn has_unread(self) -> bool {
        match self.carrier {
            Carrier::Http1(connection) => connection.has_unread(),
            Carrier::Http2(_) => false,
        }
    }

    /// The connection for good, with its place in the endpoint's load. `None` when others use it as well.
    pub(crate) fn take(self) -> Option<(http1::Connection, Slot)> {
        match self.carrier {
            Carrier::Http1(connection) => Some((*connection, self.slot)),
            Carrier::Http2(_) => None,
        }
    }

    /// The response has ended: keeps the connection for another request, if it can take one.
    pub(crate) fn give_back(self) {
        if let Carrier::Http1(connection) = self.carrier {
            self.slot.keep(connection, self.way);
        }
    }

    /// Reads a response that nobody wants, so that its connection can be used again; unless it is longer than this, and
    /// a new connection costs less.
    pub(crate) async fn discard(mut self, mut body: Incoming, limit: u64) {
        let mut bytes = 0;
        while bytes <= limit {
            match std::future::poll_fn(|context| self.poll_frame(context, &mut body)).await {
                None => return self.give_back(),
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
                Some(Err(_)) => return,
            }
        }
    }
}

/// What a connection holds that is passed on unchanged: its place in the endpoint's load, and its count.
pub(crate) struct RawLease {
    _slot: Slot,
    _open: Open,
}

impl RawLease {
    pub(super) fn new(slot: Slot, open: Open) -> Self {
        Self { _slot: slot, _open: open }
    }
}
