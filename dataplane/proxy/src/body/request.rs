//! The body of a request on its way to an endpoint, with its copies on their way to mirrors.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use weir_plugin_host::Messages;
use weir_telemetry::{Cause, MirrorEvent};

use super::Incoming;
use super::replay::Replayed;
use crate::mirror::{CopyBody, Tee};
use crate::plugins::{Interrupted, Passage};

/// What passed of a request's body, and why no more does. Outlives the body.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) bytes: Cell<u64>,
    pub(crate) failure: Cell<Option<Cause>>,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client broke it off, or it is too large.
    #[error("the request's body broke off")]
    Request,
    /// The copy was given up.
    #[error("the copy was given up: {}", .0.name())]
    Copy(MirrorEvent),
}

/// What is sent to an endpoint after the head.
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// What the client sends.
    Streamed(Box<Streamed>),
    /// The same, for one of several tries.
    Replayed(Replayed),
    /// The copy of what a client sends.
    Copy(CopyBody),
    /// Something of the proxy's own, or of a plugin's.
    Fixed { data: Option<Bytes>, trailers: HeaderMap },
    /// What a plugin sends of a call of gRPC.
    Messages(Messages),
}

/// The body that a client sends.
pub(crate) struct Streamed {
    incoming: Incoming,
    /// Set where plugins look at it.
    passage: Option<Box<Passage>>,
    meter: Rc<Meter>,
    limit: u64,
    copies: Vec<Tee>,
}

impl Streamed {
    /// The body that a client sends, of at most `limit` bytes, copied to each of `copies`.
    pub(crate) fn new(
        incoming: Incoming,
        passage: Option<Box<Passage>>,
        meter: Rc<Meter>,
        limit: Option<u64>,
        copies: Vec<Tee>,
    ) -> Box<Self> {
        Box::new(Self { incoming, passage, meter, limit: limit.unwrap_or(u64::MAX), copies })
    }

    pub(super) fn is_end(&self) -> bool {
        self.passage.as_ref().map_or_else(|| self.incoming.is_end_stream(), |passage| passage.is_end())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.passage.as_ref().map_or_else(|| self.incoming.size_hint(), |passage| passage.size_hint())
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let incoming = &mut self.incoming;
        let frame = match &mut self.passage {
            None => Pin::new(incoming).poll_frame(context).map_err(|_| Cause::RequestAborted),
            Some(passage) => {
                let next = |context: &mut Context<'_>| {
                    let frame = Pin::new(&mut *incoming).poll_frame(context);
                    frame.map_ok(|frame| (frame, incoming.is_end_stream()))
                };
                passage.poll(context, next).map_err(|interrupted| match interrupted {
                    Interrupted::Source(_) => Cause::RequestAborted,
                    Interrupted::Stopped(cause) => cause,
                })
            }
        };
        let frame = match ready!(frame) {
            Some(Ok(frame)) => frame,
            Some(Err(cause)) => return Poll::Ready(Some(Err(self.fail(cause)))),
            None => {
                self.end();
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            let bytes = self.meter.bytes.get() + data.len() as u64;
            self.meter.bytes.set(bytes);
            if bytes > self.limit {
                return Poll::Ready(Some(Err(self.fail(Cause::BodyTooLarge))));
            }
        }
        self.copies.iter().for_each(|copy| copy.push(&frame));
        // Whoever sends this need not ask again after the last piece.
        if self.is_end() {
            self.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn fail(&mut self, cause: Cause) -> BodyError {
        self.meter.failure.set(Some(cause));
        self.copies.clear();
        BodyError::Request
    }

    fn end(&mut self) {
        self.copies.drain(..).for_each(Tee::finish);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Streamed(body) => body.poll(context),
            Self::Replayed(body) => body.poll(context),
            Self::Copy(body) => body.poll(context),
            Self::Fixed { data, trailers } => Poll::Ready(match data.take() {
                Some(data) => Some(Ok(Frame::data(data))),
                None if trailers.is_empty() => None,
                None => Some(Ok(Frame::trailers(std::mem::take(trailers)))),
            }),
            Self::Messages(messages) => messages.poll_next(context).map(|next| next.map(|one| Ok(Frame::data(one)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(body) => body.is_end(),
            Self::Replayed(body) => body.is_end(),
            Self::Copy(body) => body.is_end(),
            Self::Fixed { data, trailers } => data.is_none() && trailers.is_empty(),
            Self::Messages(messages) => messages.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body) => body.size_hint(),
            Self::Replayed(body) => body.size_hint(),
            Self::Copy(body) => body.size_hint(),
            Self::Fixed { data, trailers } if trailers.is_empty() => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            // By HTTP/1.1 there are trailers after chunks only.
            Self::Fixed { .. } | Self::Messages(_) => SizeHint::default(),
        }
    }
}
