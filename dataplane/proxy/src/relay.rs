//! Bytes passed on unchanged, in both directions, each half closed when its sender closes.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::watch::{Phase, Watched};

/// One buffer for each direction. Larger ones gained nothing in measurements, smaller ones cost system calls.
const BUFFER_BYTES: usize = 64 * 1024;

/// One end of a relay: a socket, and bytes that were read from it before.
pub(crate) struct End {
    pub(crate) stream: TcpStream,
    pub(crate) seen: Bytes,
}

/// Passes bytes between two connections until both directions have ended. Ends early when either fails; the
/// watch's verdict is for the caller to obey.
pub(crate) async fn relay(mut downstream: End, mut upstream: End, watched: &Rc<Watched>) -> io::Result<()> {
    watched.enter(Phase::Opaque);
    let (down_read, down_write) = downstream.stream.split();
    let (up_read, up_write) = upstream.stream.split();
    let there = pass(down_read, up_write, downstream.seen, watched);
    let back = pass(up_read, down_write, upstream.seen, watched);
    tokio::try_join!(there, back)?;
    Ok(())
}

async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, seen: Bytes, watched: &Watched) -> io::Result<()> {
    if !seen.is_empty() {
        to.write_all(&seen).await?;
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
        watched.on_io();
        if count < BUFFER_BYTES / 2 {
            buffer = Vec::new();
        } else {
            buffer.clear();
        }
    }
}
