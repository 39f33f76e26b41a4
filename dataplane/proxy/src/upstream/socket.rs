//! Sockets to endpoints.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::settings::Settings;

/// How many unanswered probes end a connection, and the pause between them.
const PROBES: u32 = 3;
const PROBE_PAUSE: Duration = Duration::from_secs(5);

/// What every socket of the proxy is set to.
#[derive(Clone, Debug)]
pub(crate) struct SocketOptions {
    mark: u32,
    user_timeout: Duration,
    keepalive: TcpKeepalive,
}

impl SocketOptions {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            mark: settings.mark,
            user_timeout: settings.upstream.user_timeout,
            keepalive: TcpKeepalive::new()
                .with_time(settings.upstream.probe_after)
                .with_interval(PROBE_PAUSE)
                .with_retries(PROBES),
        }
    }

    /// Connects to an endpoint, without a bound on the time.
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if self.mark != 0 {
            socket.set_mark(self.mark)?;
        }
        self.set(&SockRef::from(&socket))?;
        TcpSocket::from_std_stream(socket.into()).connect(address).await
    }

    fn set(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        socket.set_tcp_keepalive(&self.keepalive)
    }
}

/// Sets an accepted connection as upstream ones are. Failure means that the client has already gone.
pub(crate) fn tune(stream: &TcpStream, options: &SocketOptions) -> io::Result<()> {
    options.set(&SockRef::from(stream))
}

/// Whether a failure says that this node has run out of something, rather than that the endpoint is at fault.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    const EXHAUSTED: [i32; 5] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code))
}
