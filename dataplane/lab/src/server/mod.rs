//! The application in the pods: an HTTP/1.1 server that tells what it received, and several
//! ways to misbehave on purpose.
//!
//! It buffers at most 64 KiB of anything, accepts a bounded number of connections, and logs
//! nothing. Paths:
//!
//! | path | answer |
//! |---|---|
//! | anything else | 200, JSON: server, version, method, path, headers, body size and SHA-256, peer, local |
//! | `/fast` | 200, a fixed small body, not remembered by `/last`: for benchmarks |
//! | `/status/<code>` | the JSON with that status |
//! | `/flaky/<code>?times=<n>` | the JSON, with that status the first n times (1) that exactly this path is asked for |
//! | `/delay/<duration>` | the JSON after that time (`1500ms`) |
//! | `/bytes/<n>` | n bytes of [`content`](crate::content) (seed 0); `?chunked=1` without length |
//! | `/drip?bytes=<n>&every=<duration>` | n bytes, one at a time |
//! | `/early/<code>` | that status, without reading the request's body |
//! | `/close` | the JSON, then closes the connection |
//! | `/close-mid?announce=<n>&send=<m>` | announces n bytes (or `chunked=1`), sends m, closes |
//! | `/reset` | RST |
//! | `/hang` | never answers |
//! | `/count` | requests so far by method, those with `x-weir-mirror` apart, and aborted ones |
//! | `/last?n=<n>` | the last n requests (at most 256), newest last |
//! | `POST /forget` | empties both, and what was counted of flaky paths |
//!
//! `/count`, `/last` and `/forget` are not counted themselves.

mod body;
mod http1;
mod paths;
mod raw;
mod seen;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::{Parser, ValueEnum};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub(crate) use seen::Seen;

/// What a server prints when it listens, followed by the address.
pub(crate) const READY: &str = "listening on ";
/// Waiting connections; enough for a benchmark's start.
const BACKLOG: i32 = 1024;
/// Receive buffer of a server that hardly reads, so that its client feels it soon.
const SMALL_BUFFER: usize = 4096;

/// Options of the server.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// The name it answers with, also in the header `x-served-by`.
    #[arg(long, default_value = "server")]
    pub name: String,
    /// The version it answers with.
    #[arg(long, default_value = "")]
    pub version_label: String,
    /// Where it listens; `[::]` accepts IPv4 as well.
    #[arg(long, default_value = "[::]:8080")]
    pub listen: SocketAddr,
    /// What it does with connections.
    #[arg(long, value_enum, default_value_t = Mode::Http)]
    pub mode: Mode,
    /// Threads, each with its own listener of the same port.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
}

/// What a server does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Answers HTTP/1.1.
    Http,
    /// Has the port and refuses connections.
    Refuse,
    /// Accepts and never reads or answers.
    Hang,
    /// Accepts and reads one byte a second.
    SlowRead,
    /// Sends back what it receives, until the peer has finished sending.
    TcpEcho,
    /// As `tcp-echo`, but speaks first: a line of JSON with server, version, peer and local.
    Greet,
    /// Sends and checks [`content`](crate::content) both ways; see [`crate::client::bulk`].
    Bulk,
}

impl Mode {
    /// As the option `--mode` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Refuse => "refuse",
            Self::Hang => "hang",
            Self::SlowRead => "slow-read",
            Self::TcpEcho => "tcp-echo",
            Self::Greet => "greet",
            Self::Bulk => "bulk",
        }
    }
}

#[derive(Debug, Parser)]
#[command(about = "The application that runs in the pods of a weir laboratory node")]
struct Cli {
    #[command(flatten)]
    args: ServerArgs,
}

/// The whole program: reads its options from `args`, of which the first is the program's
/// name, and serves until it is killed.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => e.exit(),
    };
    let Err(e) = run(&cli.args);
    #[expect(clippy::print_stderr, reason = "this is a program, and it ends here")]
    {
        eprintln!("cannot serve on {}: {e}", cli.args.listen);
    }
    ExitCode::FAILURE
}

/// Who answers.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// Serves until the process is killed; returns only when it cannot.
///
/// # Errors
/// When the address cannot be bound or a thread cannot be started.
pub fn run(args: &ServerArgs) -> Result<std::convert::Infallible, io::Error> {
    let mut listen = args.listen;
    let mut sockets = Vec::new();
    for _ in 0..args.workers {
        let socket = bind(listen, args)?;
        // With port 0 the later listeners share the port that the first one got.
        listen = socket.local_addr()?.as_socket().unwrap_or(listen);
        sockets.push(socket);
    }
    let shared = Arc::new((Identity { name: args.name.clone(), version: args.version_label.clone() }, Seen::default()));
    announce(listen)?;
    let mode = args.mode;
    let threads = sockets.into_iter().enumerate().map(|(i, socket)| {
        let shared = Arc::clone(&shared);
        let work = move || serve(mode, socket, &shared);
        thread::Builder::new().name(format!("serve-{i}")).spawn(work)
    });
    for thread in threads.collect::<io::Result<Vec<_>>>()? {
        match thread.join() {
            Ok(result) => result?,
            Err(_) => return Err(io::Error::other("a serving thread panicked")),
        }
    }
    Err(io::Error::other("all serving threads ended"))
}

fn serve(mode: Mode, socket: Socket, shared: &Arc<(Identity, Seen)>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if mode == Mode::Refuse {
            // Bound and not listening: the kernel answers SYNs with RST.
            let _held = socket;
            return std::future::pending().await;
        }
        let listener = tokio::net::TcpListener::from_std(socket.into())?;
        match mode {
            Mode::Http => http1::serve(listener, shared).await,
            _ => raw::serve(listener, mode, shared).await,
        }
    })
}

fn bind(listen: SocketAddr, args: &ServerArgs) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    if listen.is_ipv6() {
        socket.set_only_v6(!listen.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    if args.workers > 1 {
        socket.set_reuse_port(true)?;
    }
    if matches!(args.mode, Mode::SlowRead | Mode::Hang) {
        socket.set_recv_buffer_size(SMALL_BUFFER)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(listen))?;
    if args.mode != Mode::Refuse {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn announce(listen: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{READY}{listen}")?;
    out.flush()
}
