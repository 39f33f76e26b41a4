//! The API's listener: loopback or a Unix socket, unless configured otherwise.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use crate::connection::{self, Connection};

/// Connections at a time: a few people and their tools.
const MAX_CONNECTIONS: usize = 64;
/// How long accepting rests when it fails, which it does when file descriptors have run out.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// A Unix socket; its permissions are those of its folder.
    Unix(PathBuf),
}

impl Address {
    /// Removes what a server leaves at this address: the file of a Unix socket.
    pub fn vacate(&self) {
        if let Self::Unix(path) = self {
            // An error means that somebody else was quicker.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(path) => Err(format!("admin.address: unix:{path}: the path must begin with /")),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("admin.address: \"{text}\" is neither IP:PORT (such as 127.0.0.1:15021) nor unix:/path")
            }),
        }
    }
}

/// The API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refused.
    #[error("the admin API cannot listen at {0}: {1}; is another node running, or admin.address wrong?")]
    Refused(String, io::Error),
    /// Another process answers at the Unix socket.
    #[error("the admin API cannot listen at {}: another process answers there", .0.display())]
    InUse(PathBuf),
}

/// A bound API; serving is all that is left.
#[derive(Debug)]
pub enum Server {
    /// On an IP address.
    Tcp(TcpListener),
    /// On a Unix socket, whose file stays until [`Address::vacate`].
    Unix(UnixListener),
}

impl Server {
    /// Binds the address. A socket file that a dead process left behind is replaced.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub async fn bind(address: &Address) -> Result<Self, BindError> {
        match address {
            Address::Tcp(address) => {
                let bound = TcpListener::bind(address).await;
                bound.map(Self::Tcp).map_err(|error| BindError::Refused(address.to_string(), error))
            }
            Address::Unix(path) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(BindError::InUse(path.clone()));
                }
                let refused = |error| BindError::Refused(path.display().to_string(), error);
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
                    _ => {}
                }
                UnixListener::bind(path).map(Self::Unix).map_err(refused)
            }
        }
    }

    /// Serves on a socket that listens already: the one of the process that this one takes over from.
    ///
    /// # Errors
    /// When it is no such socket.
    pub fn adopt(address: &Address, socket: OwnedFd) -> io::Result<Self> {
        match address {
            Address::Tcp(_) => TcpListener::from_std(socket.into()).map(Self::Tcp),
            Address::Unix(_) => UnixListener::from_std(socket.into()).map(Self::Unix),
        }
    }

    /// The listening socket once more, for who takes over. It listens until this one is closed, too.
    ///
    /// # Errors
    /// When there are too many files open.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Self::Unix(listener) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// Serves until `stop` is done, and then until what was accepted is answered.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let (is_ending, ending) = watch::channel(false);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut stop = pin!(stop);
        loop {
            // Without a place, connections wait in the queue of the socket.
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (self.accept().await, place)
            };
            let (connection, place) = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = accepted => accepted,
            };
            match connection {
                Ok(connection) => {
                    let served = connection::serve(connection, router.clone(), ending.clone());
                    tokio::spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin API cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        is_ending.send_replace(true);
        drop(self);
        // An error would mean that somebody had closed the semaphore.
        let _ = places.acquire_many(MAX_CONNECTIONS as u32).await;
    }

    async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => Ok(Connection::Tcp(listener.accept().await?.0)),
            Self::Unix(listener) => Ok(Connection::Unix(listener.accept().await?.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_is_wrong() {
        assert_eq!("127.0.0.1:1".parse(), Ok(Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 1)))));
        assert_eq!("unix:/run/a".parse(), Ok(Address::Unix("/run/a".into())));
        assert!("unix:run/a".parse::<Address>().unwrap_err().contains("begin with /"));
        assert!("localhost".parse::<Address>().unwrap_err().contains("neither IP:PORT"));
    }
}
