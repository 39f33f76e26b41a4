//! What the proxy sets its sockets to, and sockets to endpoints.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
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
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        self.apply(&socket).map_err(|(_, error)| error)?;
        TcpSocket::from_std_stream(socket.into()).connect(address).await
    }

    /// Sets a socket; what a listener is set to, the connections that it accepts have from it. An error says which step
    /// failed.
    pub(crate) fn apply(&self, socket: &Socket) -> Result<(), (&'static str, io::Error)> {
        let at = |step| move |error| (step, error);
        if self.mark != 0 {
            socket.set_mark(self.mark).map_err(at("SO_MARK"))?;
        }
        socket.set_tcp_nodelay(true).map_err(at("TCP_NODELAY"))?;
        socket.set_tcp_user_timeout(Some(self.user_timeout)).map_err(at("TCP_USER_TIMEOUT"))?;
        socket.set_tcp_keepalive(&self.keepalive).map_err(at("SO_KEEPALIVE"))
    }
}

/// Whether a failure says that this node has run out of something, rather than that the endpoint is at fault.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    const EXHAUSTED: [i32; 5] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code))
}
