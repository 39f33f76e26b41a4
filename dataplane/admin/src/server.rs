//! The API's listener: loopback or a Unix socket, unless configured otherwise.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use axum::Router;
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Where the API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// A Unix socket; its permissions are those of its folder.
    Unix(PathBuf),
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
    /// On a Unix socket, which is removed when the server ends.
    Unix(UnixListener, PathBuf),
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
                UnixListener::bind(path).map(|listener| Self::Unix(listener, path.clone())).map_err(refused)
            }
        }
    }

    /// Serves until `stop` is done.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => axum::serve(listener, router).with_graceful_shutdown(stop).await,
            Self::Unix(listener, path) => {
                let served = axum::serve(listener, router).with_graceful_shutdown(stop).await;
                let _ = std::fs::remove_file(path);
                served
            }
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
