//! A socket as hyper reads and writes it, with as few and as cheap system calls as there can be.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Pieces that are together no longer than this are put together and sent with `send`, which costs the kernel less
/// than `writev`: a head with a small body is one of those.
const COALESCED_BYTES: usize = 2_048;

/// A socket, or what goes over one.
pub(crate) struct SocketIo<S>(TokioIo<S>);

impl<S> SocketIo<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(TokioIo::new(stream))
    }

    pub(crate) fn into_inner(self) -> S {
        self.0.into_inner()
    }

    pub(crate) fn inner_mut(&mut self) -> &mut S {
        self.0.inner_mut()
    }
}

/// Ready when the other side has ended its side, or reset the connection: then with the error. Reads nothing, and sees
/// nothing behind bytes that nobody has read.
pub(crate) fn poll_end(stream: &TcpStream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut byte = [0];
    match stream.poll_peek(context, &mut ReadBuf::new(&mut byte)) {
        // Reading says the same again when a reset has followed.
        Poll::Ready(Ok(0)) => Poll::Ready(stream.take_error().and_then(|error| error.map_or(Ok(()), Err))),
        Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
    }
}

impl<S: AsyncRead + Unpin> Read for SocketIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> Write for SocketIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        let mut coalesced = [0; COALESCED_BYTES];
        match gather(bufs, &mut coalesced) {
            Some(bytes) => self.poll_write(cx, bytes),
            None => Pin::new(&mut self.0).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// All pieces in one, if they fit.
fn gather<'a>(bufs: &[IoSlice<'_>], into: &'a mut [u8; COALESCED_BYTES]) -> Option<&'a [u8]> {
    let mut end = 0;
    for buf in bufs {
        into.get_mut(end..end + buf.len())?.copy_from_slice(buf);
        end += buf.len();
    }
    Some(&into[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_is_put_together() {
        let mut into = [0; COALESCED_BYTES];
        let (head, body, large) = ([1; 100], [2; COALESCED_BYTES - 100], [3; COALESCED_BYTES - 99]);
        let fits = gather(&[IoSlice::new(&head), IoSlice::new(&body)], &mut into).map(<[u8]>::to_vec);
        assert_eq!(fits, Some([head.as_slice(), body.as_slice()].concat()));
        assert_eq!(gather(&[IoSlice::new(&head), IoSlice::new(&large)], &mut into), None);
    }
}
