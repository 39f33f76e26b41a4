//! A connection: in the clear, in TLS, or in a tunnel.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use weir_identity::ServerStream;

use crate::tunnel::{Place, TunnelStream};

/// A connection, to a client or to an endpoint.
pub(crate) enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// In TLS, the handshake done.
    Tls(Box<ServerStream>),
    /// In a tunnel to another node.
    Tunnel(Box<TunnelStream>),
}

impl Stream {
    /// Its socket, if it has one of its own.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.tcp()),
            Self::Tunnel(_) => None,
        }
    }

    /// Its place in a tunnel that this node has made, if it is in one.
    pub(crate) fn place(&self) -> Option<Rc<Place>> {
        match self {
            Self::Tunnel(stream) => stream.place().cloned(),
            Self::Plain(_) | Self::Tls(_) => None,
        }
    }

    /// Ends it so that the other side sees a failure, not an end.
    pub(crate) fn reset(&mut self) {
        match self {
            Self::Plain(stream) => reset(stream),
            Self::Tls(stream) => reset(stream.tcp()),
            Self::Tunnel(stream) => stream.reset(),
        }
    }

    /// What can be read first, without reading it; nothing at the end. Of TLS that is not asked.
    pub(crate) async fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.peek(into).await,
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Tunnel(stream) => {
                std::future::poll_fn(|context| stream.read.poll_ready(context)).await?;
                let seen = stream.read.peek();
                let count = seen.len().min(into.len());
                into[..count].copy_from_slice(&seen[..count]);
                Ok(count)
            }
        }
    }

    /// Ready when reading may bring something, or an error. In TLS it may turn out to have been about something else.
    pub(crate) fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_read_ready(context),
            Self::Tls(stream) => {
                if stream.is_readable() {
                    Poll::Ready(Ok(()))
                } else {
                    stream.tcp().poll_read_ready(context)
                }
            }
            Self::Tunnel(stream) => stream.read.poll_ready(context),
        }
    }

    /// Waits until reading may bring something.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_read_ready(context)).await
    }

    /// Reads what is there; `WouldBlock` when that is nothing.
    pub(crate) async fn try_read_buf(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        // By polling: unlike `TcpStream::try_read_buf` it learns from a buffer that was not filled that there is no more,
        // and the next one to read need not ask the kernel.
        let mut read = pin!(self.read_buf(into));
        std::future::poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Pending => Poll::Ready(Err(io::ErrorKind::WouldBlock.into())),
            ready => ready,
        })
        .await
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tunnel(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tunnel(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tunnel(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tunnel(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tunnel(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

/// Closes a socket so that the other side sees a failure, not an end.
pub(crate) fn reset(stream: &TcpStream) {
    // An error means that there is no connection left to reset.
    let _ = stream.set_zero_linger();
}
