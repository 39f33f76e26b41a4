//! Bytes passed on unchanged, in both directions, each half closed when its sender closes.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, tcp};
use weir_identity::ServerStream;
use weir_plugin_host::Direction;

use crate::downstream::Downstream;
use crate::plugins::Connection;
use crate::stream::Stream;
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
    mut upstream: End<TcpStream>,
    plugins: Option<&Connection>,
) -> io::Result<()> {
    of.watched.enter(Phase::Opaque);
    let up = upstream.stream.split();
    match downstream.stream {
        Stream::Plain(stream) => both((of, plugins), stream.split(), downstream.seen, up, upstream.seen).await,
        Stream::Tls(stream) => {
            both((of, plugins), tokio::io::split(&mut **stream), downstream.seen, up, upstream.seen).await
        }
    }
}

async fn both(
    (of, plugins): (&Downstream, Option<&Connection>),
    (down_read, down_write): (impl Source, impl AsyncWrite + Unpin),
    down_seen: Bytes,
    (up_read, up_write): (impl Source, impl AsyncWrite + Unpin),
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
async fn pass_by<S: Source>(
    plugins: &Connection,
    Downstream { watched, account, .. }: &Downstream,
    way: Way,
    mut from: S,
    mut to: impl AsyncWrite + Unpin,
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
            to.flush().await?;
            account.on_relayed(way, data.len());
            watched.on_io();
        }
        if is_end {
            return to.shutdown().await;
        }
        let read = async {
            from.readable().await?;
            buffer.reserve_exact(S::BUFFER_BYTES);
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
trait Source: AsyncRead + Unpin {
    /// How many are read at once.
    const BUFFER_BYTES: usize;

    /// Waits for some.
    async fn readable(&mut self) -> io::Result<()>;
}

impl Source for tcp::ReadHalf<'_> {
    /// Larger ones gained nothing in measurements, smaller ones cost system calls.
    const BUFFER_BYTES: usize = 64 * 1024;

    async fn readable(&mut self) -> io::Result<()> {
        tcp::ReadHalf::readable(self).await
    }
}

impl Source for tokio::io::ReadHalf<&mut ServerStream> {
    /// A record has no more (RFC 8446, section 5.1).
    const BUFFER_BYTES: usize = 16 * 1024;

    /// Nobody knows before it is read.
    async fn readable(&mut self) -> io::Result<()> {
        Ok(())
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

async fn pass<S: Source>(
    Downstream { watched, account, .. }: &Downstream,
    way: Way,
    mut from: S,
    mut to: impl AsyncWrite + Unpin,
    seen: Bytes,
) -> io::Result<()> {
    if !seen.is_empty() {
        to.write_all(&seen).await?;
        to.flush().await?;
        account.on_relayed(way, seen.len());
        drop(seen);
    }
    let mut buffer = Vec::new();
    loop {
        // Idle connections hold no buffer, if that can be.
        from.readable().await?;
        buffer.reserve_exact(S::BUFFER_BYTES);
        let count = from.read_buf(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        watched.on_io();
        to.write_all(&buffer).await?;
        to.flush().await?;
        account.on_relayed(way, count);
        watched.on_io();
        if count < S::BUFFER_BYTES / 2 {
            buffer = Vec::new();
        } else {
            buffer.clear();
        }
    }
}
