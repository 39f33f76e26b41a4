//! Bytes passed on unchanged, in both directions, each half closed when its sender closes.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::tcp;
use weir_identity::ServerStream;
use weir_plugin_host::Direction;

use crate::downstream::Downstream;
use crate::plugins::Connection;
use crate::stream::Stream;
use crate::tunnel::{TunnelRead, TunnelWrite};
use crate::watch::Phase;

/// One end of a relay: a connection, and bytes that were read from it before.
pub(crate) struct End<S> {
    pub(crate) stream: S,
    pub(crate) seen: Bytes,
}

/// Passes bytes between a client's connection and another one until both directions have ended. Ends early when either
/// fails; the watch's verdict is for the caller to obey. Plugins may hold bytes back and change them.
pub(crate) async fn relay(
    of: &Downstream,
    downstream: End<&mut Stream>,
    mut upstream: End<Stream>,
    plugins: Option<&Connection>,
) -> io::Result<()> {
    of.watched.enter(Phase::Opaque);
    let (down_read, down_write) = halves(downstream.stream);
    let (up_read, up_write) = halves(&mut upstream.stream);
    both((of, plugins), (down_read, down_write), downstream.seen, (up_read, up_write), upstream.seen).await
}

async fn both(
    (of, plugins): (&Downstream, Option<&Connection>),
    (down_read, down_write): (ReadEnd<'_>, WriteEnd<'_>),
    down_seen: Bytes,
    (up_read, up_write): (ReadEnd<'_>, WriteEnd<'_>),
    up_seen: Bytes,
) -> io::Result<()> {
    match plugins {
        None => {
            let there = pass(of, Way::There, down_read, up_write, down_seen);
            let back = pass(of, Way::Back, up_read, down_write, up_seen);
            tokio::try_join!(there, back)?;
        }
        Some(plugins) => {
            let there = pass_by(plugins, of, Way::There, down_read, up_write, down_seen);
            let back = pass_by(plugins, of, Way::Back, up_read, down_write, up_seen);
            // Boxed: most connections have no plugins.
            Box::pin(async { tokio::try_join!(there, back) }).await?;
        }
    }
    Ok(())
}

/// The same by plugins.
async fn pass_by(
    plugins: &Connection,
    Downstream { watched, account, .. }: &Downstream,
    way: Way,
    mut from: ReadEnd<'_>,
    mut to: WriteEnd<'_>,
    seen: Bytes,
) -> io::Result<()> {
    let direction = match way {
        Way::There => Direction::Request,
        Way::Back => Direction::Response,
    };
    let mut passed = plugins.on_data(direction, seen, false);
    let (mut buffer, mut is_read) = (Vec::new(), false);
    loop {
        let (data, is_end) = passed.map_err(io::Error::other)?;
        if !data.is_empty() {
            to.write_all(&data).await?;
            account.on_relayed(way, data.len());
            watched.on_io();
        }
        if is_end {
            return to.shutdown().await;
        }
        let read = async {
            from.readable().await?;
            buffer.reserve_exact(from.buffer_bytes());
            from.read_buf(&mut buffer).await
        };
        passed = tokio::select! {
            biased;
            released = poll_fn(|context| plugins.poll_released(direction, context)) => released,
            read = read, if !is_read => {
                is_read = read? == 0;
                watched.on_io();
                let data = Bytes::from(std::mem::take(&mut buffer));
                plugins.on_data(direction, data, is_read)
            }
        };
    }
}

/// Where bytes come from.
enum ReadEnd<'a> {
    Tcp(tcp::ReadHalf<'a>),
    Tls(ReadHalf<&'a mut ServerStream>),
    Tunnel(&'a mut TunnelRead),
}

/// Where they go.
enum WriteEnd<'a> {
    Tcp(tcp::WriteHalf<'a>),
    Tls(WriteHalf<&'a mut ServerStream>),
    Tunnel(&'a mut TunnelWrite),
}

fn halves(stream: &mut Stream) -> (ReadEnd<'_>, WriteEnd<'_>) {
    match stream {
        Stream::Plain(stream) => {
            let (read, write) = stream.split();
            (ReadEnd::Tcp(read), WriteEnd::Tcp(write))
        }
        Stream::Tls(stream) => {
            let (read, write) = tokio::io::split(&mut **stream);
            (ReadEnd::Tls(read), WriteEnd::Tls(write))
        }
        Stream::Tunnel(stream) => (ReadEnd::Tunnel(&mut stream.read), WriteEnd::Tunnel(&mut stream.write)),
    }
}

impl ReadEnd<'_> {
    /// How many bytes are read at once.
    fn buffer_bytes(&self) -> usize {
        match self {
            // Larger ones gained nothing in measurements, smaller ones cost system calls.
            Self::Tcp(_) | Self::Tunnel(_) => 64 * 1024,
            // A record has no more (RFC 8446, section 5.1).
            Self::Tls(_) => 16 * 1024,
        }
    }

    /// Waits for some, where that can be told before it is read.
    async fn readable(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(read) => read.readable().await,
            Self::Tls(_) => Ok(()),
            Self::Tunnel(read) => poll_fn(|context| read.poll_ready(context)).await,
        }
    }

    async fn read_buf(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Tcp(read) => read.read_buf(buffer).await,
            Self::Tls(read) => read.read_buf(buffer).await,
            Self::Tunnel(read) => read.read_buf(buffer).await,
        }
    }
}

impl WriteEnd<'_> {
    /// Writes all of it, so that it leaves.
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(write) => write.write_all(bytes).await,
            Self::Tls(write) => {
                write.write_all(bytes).await?;
                write.flush().await
            }
            Self::Tunnel(write) => write.write_all(bytes).await,
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(write) => write.shutdown().await,
            Self::Tls(write) => write.shutdown().await,
            Self::Tunnel(write) => write.shutdown().await,
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// From the client.
    There,
    /// To it.
    Back,
}

async fn pass(
    Downstream { watched, account, .. }: &Downstream,
    way: Way,
    mut from: ReadEnd<'_>,
    mut to: WriteEnd<'_>,
    seen: Bytes,
) -> io::Result<()> {
    if !seen.is_empty() {
        to.write_all(&seen).await?;
        account.on_relayed(way, seen.len());
        drop(seen);
    }
    let mut buffer = Vec::new();
    loop {
        // Idle connections hold no buffer, if that can be.
        from.readable().await?;
        if let ReadEnd::Tunnel(read) = &mut from {
            // As they came: they need not be copied.
            let bytes = read.take_seen();
            if bytes.is_empty() {
                return to.shutdown().await;
            }
            watched.on_io();
            to.write_all(&bytes).await?;
            account.on_relayed(way, bytes.len());
            watched.on_io();
            continue;
        }
        buffer.reserve_exact(from.buffer_bytes());
        let count = from.read_buf(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        watched.on_io();
        to.write_all(&buffer).await?;
        account.on_relayed(way, count);
        watched.on_io();
        if count < from.buffer_bytes() / 2 {
            buffer = Vec::new();
        } else {
            buffer.clear();
        }
    }
}
