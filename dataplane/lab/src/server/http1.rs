//! Accepting HTTP/1.1 connections and giving each request to its path.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::paths;
use super::{Identity, Seen};

/// Beyond it connections wait in the backlog.
const MAX_CONNECTIONS: usize = 8192;
/// Bounds a request's head and what hyper reads ahead of a body.
const MAX_BUFFER: usize = 64 * 1024;
/// After running out of descriptors, accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// One connection, as the paths see it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// A second descriptor of the socket, for what hyper has no word for.
    pub(crate) socket: OwnedFd,
    pub(crate) shared: Arc<(Identity, Seen)>,
}

pub(crate) async fn serve(listener: TcpListener, shared: &Arc<(Identity, Seen)>) -> io::Result<()> {
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
            // How a connection ends is its client's business; the counts tell the rest.
            let _ = connection(stream, peer, shared).await;
        });
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, shared: Arc<(Identity, Seen)>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let connection = Arc::new(Connection {
        peer: plain(peer),
        local: plain(stream.local_addr()?),
        socket: stream.as_fd().try_clone_to_owned()?,
        shared,
    });
    let service = service_fn(move |request| paths::answer(Arc::clone(&connection), request));
    http1::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

/// IPv4 peers of a dual-stack socket, as they call themselves.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
