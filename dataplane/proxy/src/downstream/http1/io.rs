//! A client's connection as hyper reads and writes it: what was read before, then the socket; and the worker's timer
//! learns that something moved.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::downstream::take_seen;
use crate::socket_io::{self, SocketIo};
use crate::stream::Stream;
use crate::watch::Watched;

/// A connection with a watch on it.
pub(super) struct Io {
    inner: SocketIo<Stream>,
    /// Bytes that were read before anybody asked for them.
    seen: Bytes,
    watched: Rc<Watched>,
}

impl Io {
    pub(super) fn new(stream: Stream, seen: Bytes, watched: Rc<Watched>) -> Self {
        Self { inner: SocketIo::new(stream), seen, watched }
    }

    /// The socket, and what was read from it and not used.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        (self.inner.into_inner(), self.seen)
    }
}

impl Read for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.seen.is_empty() {
            buf.put_slice(&take_seen(&mut self.seen, buf.remaining()));
            self.watched.on_io();
            return Poll::Ready(Ok(()));
        }
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if matches!(result, Poll::Ready(Ok(()))) {
            self.watched.on_io();
        }
        result
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.watched.on_unflushed();
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.written(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watched.on_unflushed();
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// hyper comes here whenever it has done what it can. That it may serve clients that have ended their side, it does
    /// not read in the middle of a request, and would never see that the client has gone; so that is looked for here.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watched.is_busy() {
            match self.poll_end(cx) {
                Poll::Ready(Ok(())) => self.watched.on_client_end(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        self.watched.on_flush();
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// hyper comes here before it hands the connection back, which is closed next: in the clear that says it all.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.inner.inner_mut() {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tunnel(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

/// How much is read ahead to find the end.
const AHEAD_BYTES: usize = 1_024;

impl Io {
    /// Ready when the client has ended its side, or reset the connection: then with the error.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = match self.inner.inner_mut() {
            Stream::Plain(stream) => return socket_io::poll_end(stream, cx),
            Stream::Tunnel(stream) => return stream.read.poll_end(cx),
            Stream::Tls(_) if !self.seen.is_empty() => return Poll::Pending,
            Stream::Tls(stream) => stream,
        };
        // What the socket has says nothing: also the end is sealed, and has to be read.
        let mut bytes = [0; AHEAD_BYTES];
        let mut ahead = ReadBuf::new(&mut bytes);
        match Pin::new(stream).poll_read(cx, &mut ahead) {
            Poll::Ready(Ok(())) if !ahead.filled().is_empty() => {
                self.seen = Bytes::copy_from_slice(ahead.filled());
                // Whoever waits to read looks at the socket, from which these are gone.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            poll => poll,
        }
    }

    /// Writing the last bytes of a response comes after the request has ended: that is not the next request's head.
    fn written(&self, result: &Poll<io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(_))) {
            self.watched.on_write();
        }
    }
}
