//! Single requests to a proxy under test, to see where they go. Not for load: each has a connection of its own.

use std::{io, net::SocketAddr, time::Duration};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::wire::{ResponseHead, Wire};

/// A request that no rule concerns.
pub(crate) const PLAIN: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
/// A request that the header rule sends to the canary.
pub(crate) const CANARY: &str = "GET / HTTP/1.1\r\nhost: web\r\nx-user-tag: canary-user\r\n\r\n";
/// A request with the rule's header, but another value.
pub(crate) const OTHER: &str = "GET / HTTP/1.1\r\nhost: web\r\nx-user-tag: canary-users\r\n\r\n";
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes read at most of a JSON answer.
const JSON_LIMIT: u64 = 1024 * 1024;

/// Sends one request and reads its whole answer.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> io::Result<ResponseHead> {
    let exchange = async {
        let mut wire = Wire::new(TcpStream::connect(address).await?)?;
        exchange(&mut wire, request).await
    };
    timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Sends one request on an open connection and reads its whole answer.
pub(crate) async fn exchange(wire: &mut Wire, request: &str) -> io::Result<ResponseHead> {
    wire.write(request.as_bytes()).await?;
    let head = wire.response().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    wire.skip_body(head.framing).await?;
    Ok(head)
}

/// Asks for `path` and reads the bare JSON that the backend's control port answers with until it closes.
pub(crate) async fn json<T: DeserializeOwned>(address: SocketAddr) -> io::Result<T> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(PLAIN.as_bytes()).await?;
        let mut body = Vec::new();
        stream.take(JSON_LIMIT).read_to_end(&mut body).await?;
        Ok(serde_json::from_slice(&body)?)
    };
    timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
