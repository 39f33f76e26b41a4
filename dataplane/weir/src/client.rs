//! The commands' client for the HTTP API of a running node.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Where a node listens unless its settings say otherwise.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:15021";

/// A node answers at once or not at all.
const DEADLINE: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes: a diff of two large revisions.
const MAX_ANSWER: usize = 64 << 20;

/// Which node a command talks to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Node {
    /// The node's admin address: `IP:PORT` or `unix:/path`
    #[arg(long, env = "WEIR_ADMIN", default_value = DEFAULT_ADDRESS, value_name = "ADDRESS")]
    pub(crate) admin: String,
}

impl Node {
    /// Asks the node and returns its answer as JSON.
    ///
    /// # Errors
    /// When nobody answers at the address, or when the node answers with an error; its words are in the message.
    pub(crate) fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> anyhow::Result<serde_json::Value> {
        let (status, answer) = self.call(method, path, body)?;
        let value: serde_json::Value = serde_json::from_slice(&answer).with_context(|| {
            format!("the answer to {path} is not JSON: is something else listening at {}?", self.admin)
        })?;
        if !status.is_success() {
            let why =
                value.get("error").and_then(serde_json::Value::as_str).map_or_else(|| value.to_string(), str::to_owned);
            bail!("the node answers {status}: {why}");
        }
        Ok(value)
    }

    /// Asks the node and returns status and body as they are.
    pub(crate) fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "weir")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        runtime.block_on(async {
            let exchange = tokio::time::timeout(DEADLINE, self.exchange(request));
            exchange.await.with_context(|| format!("the node at {} did not answer within {DEADLINE:?}", self.admin))?
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
        let nobody =
            || format!("no node answers at {}: is `weir node` running, and is --admin its admin address?", self.admin);
        match self.admin.strip_prefix("unix:") {
            Some(path) => exchange(UnixStream::connect(path).await.with_context(nobody)?, request).await,
            None => exchange(TcpStream::connect(&self.admin).await.with_context(nobody)?, request).await,
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.context("the connection to the node broke")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("cannot read the node's answer: {error}"))?;
    Ok((status, body.to_bytes()))
}
