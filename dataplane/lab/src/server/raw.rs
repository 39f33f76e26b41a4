//! Servers below HTTP: echo, greeting, checked bulk transfer, and those that hardly read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::http1::plain;
use super::{Identity, Mode, Seen};
use crate::content::{Content, PIECE};

/// Beyond it connections wait in the backlog.
const MAX_CONNECTIONS: usize = 4096;
/// After running out of descriptors, accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// The longest first line of a bulk transfer.
const MAX_ORDER: u64 = 64;

pub(crate) async fn serve(listener: TcpListener, mode: Mode, shared: &Arc<(Identity, Seen)>) -> io::Result<()> {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = Arc::clone(&free).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let _slot = slot;
            // The client sees how it ended; there is nobody else to tell.
            let _ = connection(stream, plain(peer), mode, &shared.0).await;
        });
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, mode: Mode, who: &Identity) -> io::Result<()> {
    match mode {
        Mode::Hang => {
            let _held = stream;
            std::future::pending().await
        }
        Mode::SlowRead => slow_read(stream).await,
        Mode::TcpEcho => echo(stream).await,
        Mode::Greet => greet(stream, peer, who).await,
        Mode::Bulk => bulk(stream).await,
        Mode::Http | Mode::Refuse => Err(io::ErrorKind::Unsupported.into()),
    }
}

async fn slow_read(mut stream: TcpStream) -> io::Result<()> {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut byte = [0];
    loop {
        second.tick().await;
        if stream.read(&mut byte).await? == 0 {
            return Ok(());
        }
    }
}

async fn greet(mut stream: TcpStream, peer: SocketAddr, who: &Identity) -> io::Result<()> {
    let greeting = serde_json::json!({
        "server": who.name,
        "version": who.version,
        "peer": peer.to_string(),
        "local": plain(stream.local_addr()?).to_string(),
    });
    stream.write_all(format!("{greeting}\n").as_bytes()).await?;
    echo(stream).await
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; PIECE];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

/// The client's first line says how many bytes it wants and the seeds of both directions:
/// `<bytes> <seed down> <seed up>`. Both sides then send at once, each closing its direction
/// when done, except that the server first waits for the client's end and adds a line with
/// its verdict: so the verdict proves that half-closed connections work.
async fn bulk(stream: TcpStream) -> io::Result<()> {
    let (reading, writing) = stream.into_split();
    let mut reading = BufReader::with_capacity(PIECE, reading);
    let mut order = String::new();
    (&mut reading).take(MAX_ORDER).read_line(&mut order).await?;
    let mut numbers = order.split_ascii_whitespace().map(str::parse::<u64>);
    let (Some(Ok(bytes)), Some(Ok(down)), Some(Ok(up))) = (numbers.next(), numbers.next(), numbers.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let (sent, verdict) = tokio::join!(send(writing, down, bytes), check(reading, up));
    let mut writing = sent?;
    writing.write_all(format!("{}\n", verdict?).as_bytes()).await?;
    writing.shutdown().await
}

async fn send(mut to: OwnedWriteHalf, seed: u64, bytes: u64) -> io::Result<OwnedWriteHalf> {
    let mut content = Content::new(seed);
    let mut buffer = vec![0; PIECE];
    while content.offset() < bytes {
        let n = (bytes - content.offset()).min(PIECE as u64) as usize;
        content.fill(&mut buffer[..n]);
        to.write_all(&buffer[..n]).await?;
    }
    Ok(to)
}

/// `ok <bytes>`, or `wrong <offset>`; reads to the end in any case.
async fn check(mut from: BufReader<OwnedReadHalf>, seed: u64) -> io::Result<String> {
    let mut content = Content::new(seed);
    let mut wrong = None;
    loop {
        let piece = from.fill_buf().await?;
        if piece.is_empty() {
            break;
        }
        if wrong.is_none() {
            wrong = content.check(piece).err();
        }
        let n = piece.len();
        from.consume(n);
    }
    Ok(match wrong {
        None => format!("ok {}", content.offset()),
        Some(offset) => format!("wrong {offset}"),
    })
}
