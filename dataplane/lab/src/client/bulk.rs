//! A checked transfer in both directions at once, over one connection with half-close.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::content::{Content, PIECE};
use crate::layout::{Layout, Place};

const SEED_DOWN: u64 = 0x00d0;
const SEED_UP: u64 = 0x0042;
/// The server's last line: `ok <bytes>` or `wrong <offset>`.
const MAX_VERDICT: usize = 64;

/// What a transfer came to. Every byte was compared with what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bulk {
    /// Bytes that the client received, all right.
    pub down: u64,
    /// Bytes that the server received, by its own count, all right.
    pub up: u64,
    /// How long it took.
    pub took: Duration,
}

/// Transfers `up` and `down` bytes between a place and a server in mode `bulk`.
///
/// # Errors
/// `InvalidData` names the direction and offset of a wrong byte or a wrong count;
/// `UnexpectedEof` a broken transfer; `TimedOut` or `WouldBlock` silence for `idle`.
pub fn bulk(
    lab: &Layout,
    from: impl Into<Place>,
    to: SocketAddr,
    (up, down): (u64, u64),
    idle: Duration,
) -> io::Result<Bulk> {
    let begun = Instant::now();
    let mut stream = lab.connect(from, to, idle)?;
    stream.set_read_timeout(Some(idle))?;
    stream.set_write_timeout(Some(idle))?;
    stream.write_all(format!("{down} {SEED_DOWN} {SEED_UP}\n").as_bytes())?;
    let sender = stream.try_clone()?;
    let verdict = thread::scope(|scope| {
        let sending = scope.spawn(move || send(sender, up));
        let verdict = receive(stream, down);
        let sent = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A peer that is gone fails both; what it did not send says more.
        verdict.and_then(|verdict| sent.map(|()| verdict))
    })?;
    let expected = format!("ok {up}");
    if verdict.trim() == expected {
        return Ok(Bulk { down, up, took: begun.elapsed() });
    }
    let told = format!("up: the server says {:?}, not {expected:?}", verdict.trim());
    Err(io::Error::new(io::ErrorKind::InvalidData, told))
}

fn send(mut stream: TcpStream, bytes: u64) -> io::Result<()> {
    let mut content = Content::new(SEED_UP);
    let mut piece = vec![0; PIECE];
    while content.offset() < bytes {
        let n = (bytes - content.offset()).min(PIECE as u64) as usize;
        content.fill(&mut piece[..n]);
        stream.write_all(&piece[..n])?;
    }
    stream.shutdown(Shutdown::Write)
}

/// Checks the content and returns the server's last line.
fn receive(mut stream: TcpStream, bytes: u64) -> io::Result<String> {
    let mut content = Content::new(SEED_DOWN);
    let mut piece = vec![0; PIECE];
    while content.offset() < bytes {
        let most = (bytes - content.offset()).min(PIECE as u64) as usize;
        let n = stream.read(&mut piece[..most])?;
        if n == 0 {
            let told = format!("down: ended after {} of {bytes} bytes", content.offset());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, told));
        }
        content.check(&piece[..n]).map_err(|offset| {
            let told = format!("down: the byte at {offset} is wrong");
            io::Error::new(io::ErrorKind::InvalidData, told)
        })?;
    }
    let mut verdict = String::new();
    stream.take(MAX_VERDICT as u64).read_to_string(&mut verdict)?;
    Ok(verdict)
}
