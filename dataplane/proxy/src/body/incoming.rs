//! A body as it arrives, whatever version of HTTP it comes by.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use hyper::body::{Body, Frame, SizeHint};

use crate::watch::Watched;

/// A body that arrives.
pub(crate) enum Incoming {
    /// By HTTP/1.1.
    Http1(hyper::body::Incoming),
    /// By HTTP/2.
    Http2(Received),
}

/// What arrives on a stream of HTTP/2.
pub(crate) struct Received {
    stream: RecvStream,
    /// What the sender says that is left of it.
    left: Option<u64>,
    is_data_over: bool,
    /// Told when something arrives.
    watched: Option<Rc<Watched>>,
}

/// It broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl Incoming {
    /// What follows a head with these headers on a stream.
    pub(crate) fn http2(stream: RecvStream, headers: &HeaderMap, watched: Option<Rc<Watched>>) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let left = if stream.is_end_stream() { Some(0) } else { length };
        Self::Http2(Received { stream, left, is_data_over: false, watched })
    }
}

impl Received {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.is_data_over {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    // Whoever asks for a piece takes it: there is room for as much again.
                    self.stream.flow_control().release_capacity(data.len())?;
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    self.watched.iter().for_each(|watched| watched.on_io());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.is_data_over = true,
            }
        }
        ready!(self.stream.poll_trailers(context)).map(|trailers| trailers.map(Frame::trailers)).transpose().into()
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Http1(body) => Pin::new(body).poll_frame(context).map_err(Broken::from),
            Self::Http2(body) => body.poll(context).map_err(Broken::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
