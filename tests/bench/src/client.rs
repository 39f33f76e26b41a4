//! Single requests to a proxy under test, to see where they go. Not for load: each has a connection of its own.

use std::{io, net::SocketAddr, time::Duration};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    peers::Versions,
    wire::{ResponseHead, Wire},
};

/// A request that no rule concerns.
pub(crate) const PLAIN: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes read at most of a JSON answer.
const JSON_LIMIT: u64 = 1024 * 1024;

/// What answered a request.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) status: u16,
    /// Which backend, from its `x-backend` header.
    pub(crate) backend: Option<String>,
}

/// Sends one request with this `x-user-tag` as the client of these versions does.
pub(crate) async fn reached(address: SocketAddr, versions: Versions, tag: Option<&str>) -> io::Result<Reached> {
    if versions.has_http2_client() {
        let exchange = timeout(PATIENCE, ask_http2(address, tag)).await;
        return exchange.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    }
    let line = tag.map_or_else(String::new, |tag| format!("x-user-tag: {tag}\r\n"));
    let head = ask(address, &format!("GET / HTTP/1.1\r\nhost: web\r\n{line}\r\n")).await?;
    Ok(Reached { status: head.status, backend: head.backend })
}

async fn ask_http2(address: SocketAddr, tag: Option<&str>) -> io::Result<Reached> {
    let stream = TcpStream::connect(address).await?;
    let (sender, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    let exchange = async {
        let mut request = http::Request::get(format!("http://{address}/"));
        if let Some(tag) = tag {
            request = request.header("x-user-tag", tag);
        }
        let request = request.body(()).map_err(io::Error::other)?;
        let mut sender = sender.ready().await.map_err(io::Error::other)?;
        let (response, _) = sender.send_request(request, true).map_err(io::Error::other)?;
        let response = response.await.map_err(io::Error::other)?;
        let backend = response.headers().get("x-backend").and_then(|name| Some(name.to_str().ok()?.to_owned()));
        Ok(Reached { status: response.status().as_u16(), backend })
    };
    tokio::select! {
        reached = exchange => reached,
        ended = connection => Err(ended.map_or_else(io::Error::other, |()| io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Sends one request and reads its whole answer.
async fn ask(address: SocketAddr, request: &str) -> io::Result<ResponseHead> {
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
