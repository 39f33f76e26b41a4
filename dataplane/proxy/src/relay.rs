//! Bytes passed on unchanged, in both directions, each half closed when its sender closes.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::downstream::Downstream;
use crate::watch::Phase;

/// One buffer for each direction. Larger ones gained nothing in measurements, smaller ones cost system calls.
const BUFFER_BYTES: usize = 64 * 1024;

/// One end of a relay: a socket, and bytes that were read from it before.
pub(crate) struct End {
    pub(crate) stream: TcpStream,
    pub(crate) seen: Bytes,
}

/// Passes bytes between a client's connection and another one until both directions have ended. Ends early when either
/// fails; the watch's verdict is for the caller to obey.
pub(crate) async fn relay(of: &Downstream, mut downstream: End, mut upstream: End) -> io::Result<()> {
    of.watched.enter(Phase::Opaque);
    let (down_read, down_write) = downstream.stream.split();
    let (up_read, up_write) = upstream.stream.split();
    let there = pass(of, Way::There, down_read, up_write, downstream.seen);
    let back = pass(of, Way::Back, up_read, down_write, upstream.seen);
    tokio::try_join!(there, back)?;
    Ok(())
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
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    seen: Bytes,
) -> io::Result<()> {
    if !seen.is_empty() {
        to.write_all(&seen).await?;
        account.on_relayed(way, seen.len());
        drop(seen);
    }
    let mut buffer = Vec::new();
    loop {
        // Idle connections hold no buffer.
        from.readable().await?;
        buffer.reserve_exact(BUFFER_BYTES);
        let count = from.read_buf(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        watched.on_io();
        to.write_all(&buffer).await?;
        account.on_relayed(way, count);
        watched.on_io();
        if count < BUFFER_BYTES / 2 {
            buffer = Vec::new();
        } else {
            buffer.clear();
        }
    }
}
