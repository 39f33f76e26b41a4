//! A client's connection as h2 reads and writes it: what was read before, then the socket; frames are counted, and the
//! worker's timer learns that something moved.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flood::Frames;
use crate::downstream::take_seen;
use crate::stream::Stream;
use crate::watch::{Verdict, Watched};

/// A connection with a watch on it.
pub(super) struct Io {
    stream: Stream,
    /// Bytes that were read to see what protocol this is.
    seen: Bytes,
    frames: Frames,
    watched: Rc<Watched>,
}

impl Io {
    /// A connection of which so many bytes are no frames.
    pub(super) fn new(stream: Stream, seen: Bytes, preface: usize, watched: Rc<Watched>) -> Self {
        Self { stream, seen, frames: Frames::after(preface), watched }
    }

    fn written(&mut self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = result {
            self.frames.on_write(*bytes);
            self.watched.on_write();
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if !this.seen.is_empty() {
            buf.put_slice(&take_seen(&mut this.seen, buf.remaining()));
        } else {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        }
        this.watched.on_io();
        if this.frames.on_read(&buf.filled()[before..], this.watched.second()) {
            this.watched.condemn(Verdict::Flood);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
