//! A client for tests: blocking HTTP/1.1 from inside a pod, with a deadline over everything,
//! and the other end of the bulk transfer. It follows nothing, retries nothing, and reports
//! what really came: a cut-off body is an error that says how much there was.

mod bulk;
mod message;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use bulk::{Bulk, bulk};
pub use message::{Connection, Response};

use crate::layout::{Layout, Place};

/// Enough for any answer in a healthy lab.
const DEFAULT_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Only `http://<ip>[:port]/path` is understood: the labs have no name service.
    #[error("`{0}` is no http:// URL with an IP address")]
    BadUrl(String),
    /// The connection could not be opened.
    #[error("connect to {to}: {source}")]
    Connect {
        /// The address.
        to: SocketAddr,
        /// `ConnectionRefused`, `TimedOut`, ...
        source: io::Error,
    },
    /// Sending or receiving failed, for instance by a reset.
    #[error("exchange: {0}")]
    Exchange(#[source] io::Error),
    /// The deadline passed.
    #[error("no complete response within {0:?}")]
    Timeout(Duration),
    /// The peer closed before the response was whole.
    #[error("the response broke off after {got} bytes of its body (head complete: {head})")]
    Truncated {
        /// Whether the status line and headers were complete.
        head: bool,
        /// Bytes of the body that came.
        got: usize,
    },
    /// What came is not an HTTP/1.1 response, or larger than a test may expect.
    #[error("not a usable response: {0}")]
    Malformed(String),
}

impl ClientError {
    /// The system's error kind, where it was one.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Connect { source, .. } | Self::Exchange(source) => Some(source.kind()),
            _ => None,
        }
    }
}

/// A request to send.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Where the connection goes.
    pub to: SocketAddr,
    /// Path and query.
    pub target: String,
    /// Headers in order; `host` is added when missing, `content-length` with a body.
    pub headers: Vec<(String, String)>,
    /// What follows the head.
    pub body: Payload,
    /// Covers connecting, sending and receiving.
    pub limit: Duration,
}

/// A request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// No body.
    None,
    /// These bytes.
    Bytes(Vec<u8>),
    /// This many bytes of [`content`](crate::content) with [`SEED`](crate::content::SEED).
    Content(u64),
    /// The same, chunked.
    Chunked(u64),
}

impl Request {
    /// A request without headers and body.
    ///
    /// # Errors
    /// [`ClientError::BadUrl`].
    pub fn new(method: &str, url: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::BadUrl(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(bad)?;
        let (authority, target) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let with_port = || format!("{authority}:80").parse();
        let to = authority.parse().or_else(|_| with_port()).map_err(|_| bad())?;
        Ok(Self {
            method: method.to_owned(),
            to,
            target: target.to_owned(),
            headers: Vec::new(),
            body: Payload::None,
            limit: DEFAULT_LIMIT,
        })
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Payload) -> Self {
        self.body = body;
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// Sends a request from a place over a connection of its own.
///
/// # Errors
/// When there is no whole response within the request's limit.
pub fn send(lab: &Layout, from: impl Into<Place>, request: &Request) -> Result<Response, ClientError> {
    let begun = Instant::now();
    let mut connection = connect(lab, from, request.to, request.limit)?;
    let left = request.limit.saturating_sub(begun.elapsed());
    connection.exchange(request, left)
}

/// Sends a GET from a place; `headers` are pairs of name and value.
///
/// # Errors
/// When there is no whole response within 10 seconds.
pub fn get(lab: &Layout, from: impl Into<Place>, url: &str, headers: &[(&str, &str)]) -> Result<Response, ClientError> {
    let mut request = Request::new("GET", url)?;
    for (name, value) in headers {
        request = request.header(name, value);
    }
    send(lab, from, &request)
}

/// Opens a connection from a place, for several requests.
///
/// # Errors
/// [`ClientError::Connect`].
pub fn connect(
    lab: &Layout,
    from: impl Into<Place>,
    to: SocketAddr,
    limit: Duration,
) -> Result<Connection, ClientError> {
    match lab.connect(from, to, limit) {
        Ok(stream) => Ok(Connection::new(stream)),
        Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(ClientError::Timeout(limit)),
        Err(source) => Err(ClientError::Connect { to, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_addresses_and_targets() {
        let cases = [
            ("http://10.96.0.10/a?b=c", Some(("10.96.0.10:80", "/a?b=c"))),
            ("http://10.96.0.10:8080", Some(("10.96.0.10:8080", "/"))),
            ("http://[fd77::2]:81/x", Some(("[fd77::2]:81", "/x"))),
            ("http://[fd77::2]/", Some(("[fd77::2]:80", "/"))),
            ("https://10.0.0.1/", None),
            ("http://name/", None),
        ];
        for (url, expected) in cases {
            let got = Request::new("GET", url).ok().map(|r| (r.to.to_string(), r.target));
            let expected = expected.map(|(to, target)| (to.to_owned(), target.to_owned()));
            assert_eq!(got, expected, "{url}");
        }
    }
}
