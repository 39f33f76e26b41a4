//! A connection in a tunnel: one stream of HTTP/2, whose data are its bytes. Each direction ends by itself, as in TCP.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::outbound::Place;

/// How much is handed over for sending at once. The window and the buffer for sending bound it as well.
const PIECE_BYTES: usize = 64 * 1_024;

/// A connection in a tunnel.
pub(crate) struct TunnelStream {
    pub(crate) read: TunnelRead,
    pub(crate) write: TunnelWrite,
    /// Its place among those of its tunnel, where this node has made that.
    place: Option<Rc<Place>>,
}

/// What comes.
pub(crate) struct TunnelRead {
    stream: RecvStream,
    /// Received, and not read yet: still in the peer's window.
    seen: Bytes,
    is_ended: bool,
}

/// What goes.
pub(crate) struct TunnelWrite {
    stream: SendStream<Bytes>,
    is_ended: bool,
}

impl TunnelStream {
    pub(super) fn new(write: SendStream<Bytes>, read: RecvStream, place: Option<Rc<Place>>) -> Self {
        Self {
            read: TunnelRead { stream: read, seen: Bytes::new(), is_ended: false },
            write: TunnelWrite { stream: write, is_ended: false },
            place,
        }
    }

    /// Its place among those of its tunnel, where this node has made that.
    pub(crate) fn place(&self) -> Option<&Rc<Place>> {
        self.place.as_ref()
    }

    /// Ends it so that the other side sees a failure, not an end.
    pub(crate) fn reset(&mut self) {
        self.write.is_ended = true;
        self.write.stream.send_reset(Reason::CANCEL);
    }
}

impl TunnelRead {
    /// Ready when reading would bring something: bytes, the end or an error.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.seen.is_empty() && !self.is_ended {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(bytes)) => self.seen = bytes,
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
                None => self.is_ended = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the other side has ended its side, or has reset it: then with the error. Sees nothing behind bytes that nobody
    /// has read.
    pub(crate) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_known = !self.seen.is_empty();
        ready!(self.poll_ready(context))?;
        if self.seen.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if !is_known {
            // Whoever waits to read would not hear of it any more.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// The first bytes that are there, which stay there.
    pub(crate) fn peek(&self) -> &[u8] {
        &self.seen
    }

    /// What is there, of one that is ready; nothing at its end.
    pub(crate) fn take_seen(&mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.seen);
        self.release(bytes.len());
        bytes
    }

    fn release(&mut self, count: usize) {
        // An error says that the stream is gone, as does the next thing that is read.
        let _ = self.stream.flow_control().release_capacity(count);
    }
}

impl AsyncRead for TunnelRead {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(cx))?;
        let count = self.seen.len().min(buf.remaining());
        buf.put_slice(&self.seen.split_to(count));
        self.release(count);
        Poll::Ready(Ok(()))
    }
}

impl TunnelWrite {
    /// Room for so many bytes, or for some of them.
    fn poll_room(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if self.is_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let wanted = wanted.min(PIECE_BYTES);
        if self.stream.capacity() == 0 {
            self.stream.reserve_capacity(wanted);
            while self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(context)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(failed(error))),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                }
            }
        } else if self.stream.capacity() < wanted {
            self.stream.reserve_capacity(wanted);
        }
        Poll::Ready(Ok(self.stream.capacity().min(wanted)))
    }

    fn send(&mut self, bytes: Bytes) -> io::Result<usize> {
        let count = bytes.len();
        self.stream.send_data(bytes, false).map_err(failed)?;
        Ok(count)
    }
}

impl AsyncWrite for TunnelWrite {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_room(cx, buf.len()))?;
        Poll::Ready(self.send(Bytes::copy_from_slice(&buf[..room])))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if all == 0 {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_room(cx, all))?;
        let mut bytes = Vec::with_capacity(room);
        for buf in bufs {
            let count = buf.len().min(room - bytes.len());
            bytes.extend_from_slice(&buf[..count]);
        }
        Poll::Ready(self.send(bytes.into()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The tunnel sends what it has as soon as it can.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_ended, true) {
            // An error says that the stream is gone, which is an end as well.
            let _ = self.stream.send_data(Bytes::new(), true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}

/// What a stream's end by failure is to who reads or writes it.
fn failed(error: h2::Error) -> io::Error {
    if error.is_reset() || error.is_go_away() {
        return io::Error::new(io::ErrorKind::ConnectionReset, error);
    }
    error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}
