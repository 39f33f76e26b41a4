//! The body of a response on its way to the client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use weir_telemetry::Cause;

use super::Incoming;
use crate::grpc;
use crate::plugins::{Interrupted, Passage};
use crate::record::Record;
use crate::upstream::Lease;
use crate::watch::Watched;

/// A response that is cut off: the client's connection is reset, so that it cannot take the part for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the response was cut off: {}", .0.name())]
pub(crate) struct Aborted(pub(crate) Cause);

/// What is sent to the client after the head. The record of the request ends with it.
pub(crate) struct ResponseBody {
    content: Content,
    record: Record,
}

enum Content {
    Nothing,
    Text(Bytes),
    Streaming(Box<Streaming>),
}

/// A body that comes from an endpoint.
pub(crate) struct Streaming {
    pub(crate) incoming: Incoming,
    /// Set where plugins look at it.
    pub(crate) passage: Option<Box<Passage>>,
    /// Given back when the body has ended.
    pub(crate) lease: Option<Lease>,
    /// When the whole request has to be done.
    pub(crate) deadline: Option<Pin<Box<Sleep>>>,
    pub(crate) watched: Rc<Watched>,
}

impl ResponseBody {
    /// No body: the response is complete with its head.
    pub(crate) fn nothing(mut record: Record) -> Self {
        record.complete();
        Self { content: Content::Nothing, record }
    }

    /// A body of the proxy's own.
    pub(crate) fn text(mut record: Record, text: Bytes) -> Self {
        record.complete();
        record.response_bytes = text.len() as u64;
        Self { content: Content::Text(text), record }
    }

    /// A body that comes from an endpoint.
    pub(crate) fn streaming(record: Record, streaming: Streaming) -> Self {
        Self { content: Content::Streaming(Box::new(streaming)), record }
    }
}

impl Streaming {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.watched.set_waker(context.waker());
        if let Some(verdict) = self.watched.verdict() {
            return Poll::Ready(Some(Err(Aborted(verdict.cause()))));
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(Aborted(Cause::RequestTimeout))));
        }
        let Some(lease) = &mut self.lease else { return Poll::Ready(None) };
        let incoming = &mut self.incoming;
        match &mut self.passage {
            None => lease.poll_frame(context, incoming).map_err(|_| Aborted(Cause::UpstreamAborted)),
            Some(passage) => {
                let next = |context: &mut Context<'_>| {
                    lease.poll_frame(context, incoming).map_ok(|frame| (frame, incoming.is_end_stream()))
                };
                passage.poll(context, next).map_err(|interrupted| match interrupted {
                    Interrupted::Source(_) => Aborted(Cause::UpstreamAborted),
                    Interrupted::Stopped(cause) => Aborted(cause),
                })
            }
        }
    }

    fn is_end(&self) -> bool {
        self.passage.as_ref().map_or_else(|| self.incoming.is_end_stream(), |passage| passage.is_end())
    }

    fn size_hint(&self) -> SizeHint {
        self.passage.as_ref().map_or_else(|| self.incoming.size_hint(), |passage| passage.size_hint())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = &mut *self;
        let streaming = match &mut this.content {
            Content::Nothing => return Poll::Ready(None),
            Content::Text(text) => {
                let text = std::mem::take(text);
                this.content = Content::Nothing;
                return Poll::Ready(Some(Ok(Frame::data(text))));
            }
            Content::Streaming(streaming) => streaming,
        };
        let frame = std::task::ready!(streaming.poll(context));
        let has_ended = match &frame {
            Some(Ok(frame)) => {
                this.record.response_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                frame.trailers_ref().into_iter().for_each(|trailers| this.record.on_fields(trailers));
                streaming.is_end()
            }
            Some(Err(aborted)) => {
                let cause = aborted.0;
                this.content = Content::Nothing;
                if !this.record.is_call {
                    this.record.abort(cause);
                    return Poll::Ready(frame);
                }
                // A caller hears more from a status than from a stream that breaks off.
                let trailers = grpc::trailers(cause);
                this.record.on_local_reply(cause);
                this.record.on_fields(&trailers);
                this.record.complete();
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            None => true,
        };
        if has_ended {
            streaming.lease.take().into_iter().for_each(Lease::give_back);
            this.record.complete();
            this.content = Content::Nothing;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Nothing => true,
            Content::Text(text) => text.is_empty(),
            Content::Streaming(streaming) => streaming.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Nothing => SizeHint::with_exact(0),
            Content::Text(text) => SizeHint::with_exact(text.len() as u64),
            Content::Streaming(streaming) => streaming.size_hint(),
        }
    }
}
