//! HTTP/1.1 messages over one blocking connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{ClientError, Payload, Request};
use crate::content::{Content, PIECE, SEED};

/// Bounds what a test holds in memory.
const MAX_BODY: usize = 64 * 1024 * 1024;
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// A chunk's size line, with extensions.
const MAX_LINE: usize = 1024;

/// A response, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers in order, as they came.
    pub headers: Vec<(String, String)>,
    /// The body, without chunking.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let found = all.find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Which server of a lab answered.
    #[must_use]
    pub fn served_by(&self) -> Option<&str> {
        self.header("x-served-by")
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`ClientError::Malformed`].
    pub fn json(&self) -> Result<serde_json::Value, ClientError> {
        serde_json::from_slice(&self.body).map_err(|e| ClientError::Malformed(format!("{e} in {}", self.text())))
    }
}

/// A connection for one request after the other.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Received and not consumed.
    ahead: Vec<u8>,
    deadline: Instant,
    limit: Duration,
}

struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        let deadline = Instant::now();
        Self { stream, ahead: Vec::new(), deadline, limit: Duration::ZERO }
    }

    /// The socket, for what HTTP has no word for.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a request and receives its response. The connection is usable afterwards unless
    /// the response ended with it.
    ///
    /// # Errors
    /// When there is no whole response within `limit`.
    pub fn exchange(&mut self, request: &Request, limit: Duration) -> Result<Response, ClientError> {
        self.limit = limit;
        self.deadline = Instant::now() + limit;
        // A server may answer and close while the body is still being sent: its answer
        // counts, the failure to send only when there is none.
        let sent = self.send(request);
        match (self.receive(&request.method), sent) {
            (Ok(response), _) => Ok(response),
            (Err(_), Err(e)) | (Err(e), Ok(())) => Err(e),
        }
    }

    /// Sends bytes as they are, for requests that are none.
    ///
    /// # Errors
    /// When they were not taken within `limit`.
    pub fn send_raw(&mut self, bytes: &[u8], limit: Duration) -> Result<(), ClientError> {
        self.limit = limit;
        self.deadline = Instant::now() + limit;
        self.write(bytes)
    }

    /// Receives a response to what was sent raw, as to a GET.
    ///
    /// # Errors
    /// When there is no whole response within `limit`.
    pub fn receive_raw(&mut self, limit: Duration) -> Result<Response, ClientError> {
        self.limit = limit;
        self.deadline = Instant::now() + limit;
        self.receive("GET")
    }

    fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
        let has = |name: &str| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !has("host") {
            head += &format!("host: {}\r\n", request.to);
        }
        for (name, value) in &request.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let length = match &request.body {
            Payload::None => None,
            Payload::Bytes(bytes) => Some(bytes.len() as u64),
            Payload::Content(n) => Some(*n),
            Payload::Chunked(_) => {
                head += "transfer-encoding: chunked\r\n";
                None
            }
        };
        if let Some(length) = length.filter(|_| !has("content-length")) {
            head += &format!("content-length: {length}\r\n");
        }
        self.write(format!("{head}\r\n").as_bytes())?;
        match &request.body {
            Payload::None => Ok(()),
            Payload::Bytes(bytes) => self.write(bytes),
            Payload::Content(n) => self.write_content(*n, |_| (String::new(), "")),
            Payload::Chunked(n) => {
                self.write_content(*n, |size| (format!("{size:x}\r\n"), "\r\n"))?;
                self.write(b"0\r\n\r\n")
            }
        }
    }

    /// `frame` gives what goes before and after each piece.
    fn write_content(
        &mut self,
        bytes: u64,
        frame: impl Fn(usize) -> (String, &'static str),
    ) -> Result<(), ClientError> {
        let mut content = Content::new(SEED);
        let mut piece = vec![0; PIECE];
        while content.offset() < bytes {
            let n = (bytes - content.offset()).min(PIECE as u64) as usize;
            content.fill(&mut piece[..n]);
            let (before, after) = frame(n);
            self.write(before.as_bytes())?;
            self.write(&piece[..n])?;
            self.write(after.as_bytes())?;
        }
        Ok(())
    }

    fn receive(&mut self, method: &str) -> Result<Response, ClientError> {
        let head = loop {
            let head = self.head()?;
            // Interim responses announce the real one (RFC 9110, 15.2).
            if !(100..200).contains(&head.status) || head.status == 101 {
                break head;
            }
        };
        let find = |name: &str| {
            let found = head.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        let bodiless = method == "HEAD" || matches!(head.status, 101 | 204 | 304);
        // RFC 9112, 6.3.
        let body = if bodiless {
            Vec::new()
        } else if find("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            self.chunked()?
        } else if let Some(length) = find("content-length") {
            let bad = |_| ClientError::Malformed(format!("content-length: {length}"));
            self.exactly(length.parse().map_err(bad)?, 0)?
        } else {
            self.up_to_close()?
        };
        Ok(Response { status: head.status, headers: head.headers, body })
    }

    fn head(&mut self) -> Result<Head, ClientError> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut parsed = httparse::Response::new(&mut headers);
            let state = parsed.parse(&self.ahead);
            let malformed = |e: &dyn std::fmt::Display| ClientError::Malformed(e.to_string());
            if let httparse::Status::Complete(size) = state.map_err(|e| malformed(&e))? {
                let text =
                    |h: &httparse::Header<'_>| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned());
                let head = Head {
                    status: parsed.code.unwrap_or_default(),
                    headers: parsed.headers.iter().map(text).collect(),
                };
                self.ahead.drain(..size);
                return Ok(head);
            }
            if self.ahead.len() > MAX_HEAD {
                return Err(malformed(&"the head is larger than 64 KiB"));
            }
            if !self.more()? {
                return Err(ClientError::Truncated { head: false, got: 0 });
            }
        }
    }

    /// `before` bytes of the body came in earlier chunks.
    fn exactly(&mut self, length: usize, before: usize) -> Result<Vec<u8>, ClientError> {
        if before.saturating_add(length) > MAX_BODY {
            return Err(ClientError::Malformed("the body is larger than 64 MiB".to_owned()));
        }
        while self.ahead.len() < length {
            if !self.more()? {
                let got = before + self.ahead.len();
                return Err(ClientError::Truncated { head: true, got });
            }
        }
        let rest = self.ahead.split_off(length);
        Ok(std::mem::replace(&mut self.ahead, rest))
    }

    fn up_to_close(&mut self) -> Result<Vec<u8>, ClientError> {
        while self.more()? {
            if self.ahead.len() > MAX_BODY {
                return Err(ClientError::Malformed("the body is larger than 64 MiB".to_owned()));
            }
        }
        Ok(std::mem::take(&mut self.ahead))
    }

    fn chunked(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        loop {
            let line = self.line(body.len())?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let bad = |_| ClientError::Malformed(format!("the chunk size {line:?}"));
            let size = usize::from_str_radix(size, 16).map_err(bad)?;
            if size == 0 {
                // Trailers, up to an empty line.
                while !self.line(body.len())?.is_empty() {}
                return Ok(body);
            }
            let chunk = self.exactly(size, body.len())?;
            body.extend_from_slice(&chunk);
            if !self.line(body.len())?.is_empty() {
                return Err(ClientError::Malformed("a chunk longer than its size".to_owned()));
            }
        }
    }

    fn line(&mut self, got: usize) -> Result<String, ClientError> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
                self.ahead.drain(..end + 2);
                return Ok(line);
            }
            if self.ahead.len() > MAX_LINE {
                return Err(ClientError::Malformed("a chunk line without end".to_owned()));
            }
            if !self.more()? {
                return Err(ClientError::Truncated { head: true, got });
            }
        }
    }

    /// Receives something; `false` at the peer's end.
    fn more(&mut self) -> Result<bool, ClientError> {
        let left = self.left()?;
        let set = self.stream.set_read_timeout(Some(left));
        set.map_err(ClientError::Exchange)?;
        let mut piece = [0; 16 * 1024];
        let n = self.stream.read(&mut piece).map_err(|e| self.failed(e))?;
        self.ahead.extend_from_slice(&piece[..n]);
        Ok(n > 0)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), ClientError> {
        while !bytes.is_empty() {
            let left = self.left()?;
            let set = self.stream.set_write_timeout(Some(left));
            set.map_err(ClientError::Exchange)?;
            let n = self.stream.write(bytes).map_err(|e| self.failed(e))?;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    fn left(&self) -> Result<Duration, ClientError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ClientError::Timeout(self.limit)) } else { Ok(left) }
    }

    fn failed(&self, e: io::Error) -> ClientError {
        match e.kind() {
            // What a socket's own timeout looks like.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Timeout(self.limit),
            _ => ClientError::Exchange(e),
        }
    }
}
