//! HTTP/1.1 as far as a benchmark's two ends need it: heads are parsed, bodies are counted and thrown away.
//!
//! Both ends share a core with the load generator, so this is one buffer per connection and no task, timer or allocation per
//! message. It must not grow into an HTTP library: what a proxy under test may legally send is understood, nothing else.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Bytes of a connection's only buffer; also the largest head that is understood.
const BUFFER: usize = 64 * 1024;
/// Header lines understood in one head; the chattiest peer adds five to the client's.
const HEADERS: usize = 64;

/// How the length of a body is told (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes; zero is no body.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
}

/// What the backend needs to know of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) path: String,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
}

/// What a client needs to know of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// Which backend answered, from its `x-backend` header.
    pub(crate) backend: Option<String>,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
}

/// One connection with its read buffer.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0 })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next request, or `None` when the peer closed between two requests.
    pub(crate) async fn request(&mut self) -> io::Result<Option<RequestHead>> {
        loop {
            if let Some((head, length)) = parse_request(self.unread())? {
                self.start += length;
                return Ok(Some(head));
            }
            if !self.fill().await? {
                return if self.unread().is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The next answer, or `None` when the peer closed before its first byte.
    pub(crate) async fn response(&mut self) -> io::Result<Option<ResponseHead>> {
        loop {
            if let Some((head, length)) = parse_response(self.unread())? {
                self.start += length;
                return Ok(Some(head));
            }
            if !self.fill().await? {
                return if self.unread().is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads a body to its end and returns its length in bytes.
    pub(crate) async fn skip_body(&mut self, framing: Framing) -> io::Result<u64> {
        match framing {
            Framing::Length(length) => self.skip(length).await.map(|()| length),
            Framing::Chunked => self.skip_chunks().await,
        }
    }

    /// Reads on up to the next bytes, without looking at them; false when the peer closed. For backends that only misbehave.
    pub(crate) async fn discard(&mut self) -> io::Result<bool> {
        self.start = self.end;
        self.fill().await
    }

    async fn skip_chunks(&mut self) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let line = self.line().await?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let size = std::str::from_utf8(size)
                .ok()
                .and_then(|text| u64::from_str_radix(text, 16).ok())
                .ok_or_else(|| invalid("chunk size"))?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(total);
            }
            self.skip(size).await?;
            if !self.line().await?.is_empty() {
                return Err(invalid("end of chunk"));
            }
            total += size;
        }
    }

    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.unread().windows(2).position(|pair| pair == b"\r\n") {
                let line = self.unread()[..at].to_vec();
                self.start += at + 2;
                return Ok(line);
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn skip(&mut self, mut length: u64) -> io::Result<()> {
        loop {
            let here = u64::try_from(self.end - self.start).unwrap_or(u64::MAX).min(length);
            self.start += usize::try_from(here).unwrap_or(BUFFER);
            length -= here;
            if length == 0 {
                return Ok(());
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    async fn fill(&mut self) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == BUFFER {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == BUFFER {
            return Err(invalid("head larger than the buffer"));
        }
        let read = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += read;
        Ok(read > 0)
    }
}

fn parse_request(bytes: &[u8]) -> io::Result<Option<(RequestHead, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(bytes).map_err(|error| invalid(&error.to_string()))? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(length) => {
            let path = parsed.path.unwrap_or_default().to_owned();
            let facts = Facts::of(parsed.headers, parsed.version)?;
            let framing = facts.framing.unwrap_or(Framing::Length(0));
            Ok(Some((RequestHead { path, framing, keep_alive: facts.keep_alive }, length)))
        }
    }
}

fn parse_response(bytes: &[u8]) -> io::Result<Option<(ResponseHead, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(bytes).map_err(|error| invalid(&error.to_string()))? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(length) => {
            let status = parsed.code.unwrap_or_default();
            let backend = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case("x-backend"));
            let backend = backend.map(|header| String::from_utf8_lossy(header.value).into_owned());
            let facts = Facts::of(parsed.headers, parsed.version)?;
            let framing = facts.framing.ok_or_else(|| invalid("answer without a length"))?;
            Ok(Some((ResponseHead { status, backend, framing, keep_alive: facts.keep_alive }, length)))
        }
    }
}

struct Facts {
    framing: Option<Framing>,
    keep_alive: bool,
}

impl Facts {
    fn of(headers: &[httparse::Header<'_>], version: Option<u8>) -> io::Result<Self> {
        let mut facts = Self { framing: None, keep_alive: version == Some(1) };
        for header in headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let text = std::str::from_utf8(header.value).ok();
                let length = text.and_then(|text| text.trim().parse().ok()).ok_or_else(|| invalid("content-length"))?;
                facts.framing = Some(Framing::Length(length));
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                facts.framing = Some(Framing::Chunked);
            } else if header.name.eq_ignore_ascii_case("connection") {
                facts.keep_alive = !header.value.eq_ignore_ascii_case(b"close");
            }
        }
        Ok(facts)
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not the HTTP/1.1 expected here: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
    }

    /// Sends `bytes` in pieces of `piece` bytes and returns what the wire makes of them: heads' paths with body lengths.
    fn check(bytes: &[u8], piece: usize, expected: &[(&str, u64)]) {
        let seen = block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            let address = listener.local_addr().expect("address");
            let send = async {
                let mut stream = TcpStream::connect(address).await.expect("connect");
                for part in bytes.chunks(piece) {
                    stream.write_all(part).await.expect("write");
                    tokio::task::yield_now().await;
                }
            };
            let receive = async {
                let mut wire = Wire::new(listener.accept().await.expect("accept").0).expect("wire");
                let mut seen = Vec::new();
                while let Some(head) = wire.request().await.expect("request") {
                    let length = wire.skip_body(head.framing).await.expect("body");
                    seen.push((head.path, length));
                }
                seen
            };
            tokio::join!(send, receive).1
        });
        let seen: Vec<(&str, u64)> = seen.iter().map(|(path, length)| (path.as_str(), *length)).collect();
        assert_eq!(seen, expected, "in pieces of {piece} bytes");
    }

    #[test]
    fn requests_in_any_pieces() {
        let bytes = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nPOST /b HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello\
            POST /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nt: v\r\n\r\nGET /d HTTP/1.1\r\n\r\n";
        for piece in [1, 2, 7, 50, bytes.len()] {
            check(bytes, piece, &[("/a", 0), ("/b", 5), ("/c", 13), ("/d", 0)]);
        }
    }

    #[test]
    fn answers_name_backend_and_framing() {
        let bytes = b"HTTP/1.1 503 No\r\nX-Backend: canary\r\nconnection: Close\r\ncontent-length: 3\r\n\r\nabc";
        let (head, length) = parse_response(bytes).expect("valid").expect("complete");
        let expected = ResponseHead {
            status: 503,
            backend: Some("canary".to_owned()),
            framing: Framing::Length(3),
            keep_alive: false,
        };
        assert_eq!((head, length), (expected, bytes.len() - 3));
        assert!(
            parse_response(b"HTTP/1.1 200 OK\r\n\r\n").is_err(),
            "an answer that ends with the connection cannot be counted"
        );
    }
}
