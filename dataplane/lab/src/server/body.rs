//! Response bodies: fixed text, deterministic content, slow bytes, and bodies that break
//! off. None holds more than one piece.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Interval, interval};

use crate::content::{Content, PIECE, SEED};

#[derive(Debug)]
pub(crate) enum Answer {
    /// Text of a known size.
    Fixed(Option<Bytes>),
    /// Deterministic content.
    Stream(Stream),
}

/// Deterministic content with a length that is announced or not.
#[derive(Debug)]
pub(crate) struct Stream {
    content: Content,
    left: u64,
    announced: Option<u64>,
    pace: Option<Interval>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// Breaks off at the next poll but one: hyper writes out what it has when a body is
    /// pending, and throws it away when the body fails at once.
    BreakOff,
    BreakOffNow,
}

/// How the length of a stream is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    Chunked,
}

impl Answer {
    pub(crate) fn fixed(bytes: impl Into<Bytes>) -> Self {
        Self::Fixed(Some(bytes.into()))
    }

    pub(crate) fn bytes(n: u64, framing: Framing) -> Self {
        Self::stream(n, (framing == Framing::Length).then_some(n), None, End::Whole)
    }

    pub(crate) fn drip(n: u64, every: Duration) -> Self {
        // An interval of zero is not allowed.
        let pace = interval(every.max(Duration::from_micros(1)));
        Self::stream(n, Some(n), Some(pace), End::Whole)
    }

    /// Sends `n` bytes where `announced` (or the closing chunk) promises more.
    pub(crate) fn broken(n: u64, announced: Option<u64>) -> Self {
        Self::stream(n, announced, None, End::BreakOff)
    }

    fn stream(left: u64, announced: Option<u64>, pace: Option<Interval>, end: End) -> Self {
        let content = Content::new(SEED);
        Self::Stream(Stream { content, left, announced, pace, end })
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Fixed(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Fixed(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.left == 0 && stream.end == End::Whole,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Fixed(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Stream(stream) => stream.announced.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return match self.end {
                End::Whole => Poll::Ready(None),
                End::BreakOff => {
                    self.end = End::BreakOffNow;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                End::BreakOffNow => Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into()))),
            };
        }
        let mut most = PIECE as u64;
        if let Some(pace) = &mut self.pace {
            if pace.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            most = 1;
        }
        let mut piece = vec![0; self.left.min(most) as usize];
        self.content.fill(&mut piece);
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }
}
