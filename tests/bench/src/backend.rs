//! The servers behind the proxies: two that answer, and mirror targets that answer, hang, trickle or refuse.
//!
//! One process with one thread, so that it can be pinned beside the load generator. It prints its addresses as one line of
//! JSON once every port is bound, and ends when its standard input closes. It must stay cheaper than any proxy in front of it.

use std::{
    cell::Cell,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpSocket, TcpStream},
    task::LocalSet,
    time::MissedTickBehavior,
};

use crate::{frames, lifeline::Lifeline, wire::Wire};

/// Bytes of the small answer's body, as in the reference figures.
const SMALL_BODY: usize = 104;
/// Bytes of the answer to `/1m`.
const LARGE_BODY: usize = 1024 * 1024;
/// Connections that a misbehaving role keeps open at most; further ones are closed at once.
const HELD_CONNECTIONS: u64 = 4096;
/// Receive buffer of the trickling role in bytes: small, so that a sender notices within one body.
const TRICKLE_BUFFER: u32 = 4096;

/// Where each role listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) stable: SocketAddr,
    pub(crate) canary: SocketAddr,
    /// The same two in HTTP/2.
    pub(crate) stable_http2: SocketAddr,
    pub(crate) canary_http2: SocketAddr,
    /// Answers like the two above; counted apart.
    pub(crate) healthy: SocketAddr,
    /// Reads everything and never answers.
    pub(crate) hanging: SocketAddr,
    /// Reads one byte a second and never answers.
    pub(crate) trickling: SocketAddr,
    /// Bound, never listening: connections are refused, and nobody else can take the port.
    pub(crate) refusing: SocketAddr,
    /// Answers any request with [`Seen`] as JSON and closes.
    pub(crate) control: SocketAddr,
}

/// Connections and requests that a role has seen since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
}

/// What reached the mirror targets that can tell.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) healthy: Count,
    pub(crate) hanging: Count,
    pub(crate) trickling: Count,
}

type Counter = Rc<Cell<Count>>;

struct Answers {
    small: Answer,
    large: Answer,
}

/// The same answer for a connection that is kept, and for one that closes behind it and says so.
struct Answer {
    kept: Vec<u8>,
    last: Vec<u8>,
}

/// Runs until standard input closes.
pub(crate) fn run() -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the backend's runtime")?;
    LocalSet::new().block_on(&runtime, serve())
}

async fn serve() -> anyhow::Result<()> {
    let (stable, stable_at) = listen().await?;
    let (canary, canary_at) = listen().await?;
    let (stable_http2, stable_http2_at) = listen().await?;
    let (canary_http2, canary_http2_at) = listen().await?;
    let (healthy, healthy_at) = listen().await?;
    let (hanging, hanging_at) = listen().await?;
    let (control, control_at) = listen().await?;
    let (trickling, trickling_at) = listen_with(Some(TRICKLE_BUFFER))?;
    let refusing = TcpSocket::new_v4()?;
    refusing.bind((Ipv4Addr::LOCALHOST, 0).into())?;

    let counts: [Counter; 3] = Default::default();
    tokio::task::spawn_local(answer_on(stable, Rc::new(Answers::of("stable")), Counter::default()));
    tokio::task::spawn_local(answer_on(canary, Rc::new(Answers::of("canary")), Counter::default()));
    tokio::task::spawn_local(answer_frames_on(stable_http2, "stable"));
    tokio::task::spawn_local(answer_frames_on(canary_http2, "canary"));
    tokio::task::spawn_local(answer_on(healthy, Rc::new(Answers::of("mirror")), counts[0].clone()));
    tokio::task::spawn_local(hold_on(hanging, counts[1].clone(), Hold::Hanging));
    tokio::task::spawn_local(hold_on(trickling, counts[2].clone(), Hold::Trickling));
    tokio::task::spawn_local(control_on(control, counts));

    let addresses = Addresses {
        stable: stable_at,
        canary: canary_at,
        stable_http2: stable_http2_at,
        canary_http2: canary_http2_at,
        healthy: healthy_at,
        hanging: hanging_at,
        trickling: trickling_at,
        refusing: refusing.local_addr()?,
        control: control_at,
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&addresses)?)?;
    out.flush()?;
    drop(out);
    Lifeline::from_stdin().context("take standard input, which must be a pipe")?.closed().await;
    drop(refusing);
    Ok(())
}

async fn listen() -> anyhow::Result<(TcpListener, SocketAddr)> {
    listen_with(None)
}

fn listen_with(receive_buffer: Option<u32>) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let socket = TcpSocket::new_v4().context("open a backend socket")?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).context("shrink the trickling backend's buffer")?;
    }
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).context("bind a backend to loopback")?;
    let listener = socket.listen(1024).context("listen on a backend port")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn answer_on(listener: TcpListener, answers: Rc<Answers>, counter: Counter) {
    while let Ok((stream, _)) = listener.accept().await {
        bump(&counter, |count| count.connections += 1);
        let (answers, counter) = (answers.clone(), counter.clone());
        tokio::task::spawn_local(async move {
            // A connection that breaks is the proxy's business; the client's side of the benchmark counts it.
            let _ = answer(stream, &answers, &counter).await;
        });
    }
}

async fn answer_frames_on(listener: TcpListener, backend: &str) {
    let answers = Rc::new(frames::Answers::of(backend, SMALL_BODY));
    while let Ok((stream, _)) = listener.accept().await {
        let answers = answers.clone();
        tokio::task::spawn_local(async move {
            let _ = frames::serve(stream, &answers).await;
        });
    }
}

async fn answer(stream: TcpStream, answers: &Answers, counter: &Counter) -> io::Result<()> {
    let mut wire = Wire::new(stream)?;
    while let Some(head) = wire.request().await? {
        wire.skip_body(head.framing).await?;
        bump(counter, |count| count.requests += 1);
        let answer = if head.path == "/1m" { &answers.large } else { &answers.small };
        if !head.keep_alive {
            return wire.write(&answer.last).await;
        }
        wire.write(&answer.kept).await?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Hold {
    Hanging,
    Trickling,
}

async fn hold_on(listener: TcpListener, counter: Counter, how: Hold) {
    let open = Rc::new(Cell::new(0_u64));
    while let Ok((stream, _)) = listener.accept().await {
        bump(&counter, |count| count.connections += 1);
        if open.get() >= HELD_CONNECTIONS {
            continue;
        }
        open.set(open.get() + 1);
        let open = open.clone();
        tokio::task::spawn_local(async move {
            let _ = match how {
                Hold::Hanging => swallow(stream).await,
                Hold::Trickling => trickle(stream).await,
            };
            open.set(open.get() - 1);
        });
    }
}

async fn swallow(stream: TcpStream) -> io::Result<()> {
    let mut wire = Wire::new(stream)?;
    while wire.discard().await? {}
    Ok(())
}

async fn trickle(mut stream: TcpStream) -> io::Result<()> {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut byte = [0; 1];
    loop {
        second.tick().await;
        if stream.read(&mut byte).await? == 0 {
            return Ok(());
        }
    }
}

async fn control_on(listener: TcpListener, counts: [Counter; 3]) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = Seen { healthy: counts[0].get(), hanging: counts[1].get(), trickling: counts[2].get() };
        let body = serde_json::to_vec(&seen).unwrap_or_default();
        let _ = control(stream, &body).await;
    }
}

async fn control(stream: TcpStream, body: &[u8]) -> io::Result<()> {
    let mut wire = Wire::new(stream)?;
    wire.request().await?;
    wire.write(body).await
}

fn bump(counter: &Counter, change: impl FnOnce(&mut Count)) {
    let mut count = counter.get();
    change(&mut count);
    counter.set(count);
}

impl Answers {
    fn of(backend: &str) -> Self {
        Self { small: Answer::of(backend, SMALL_BODY), large: Answer::of(backend, LARGE_BODY) }
    }
}

impl Answer {
    fn of(backend: &str, length: usize) -> Self {
        let with = |connection: &str| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nserver: weir-bench\r\nx-backend: {backend}\r\n{connection}content-type: text/plain\r\ncontent-length: {length}\r\n\r\n"
            );
            let mut bytes = head.into_bytes();
            bytes.resize(bytes.len() + length, b'x');
            bytes
        };
        Self { kept: with(""), last: with("connection: close\r\n") }
    }
}
