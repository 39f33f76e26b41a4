//! The node's HTTP API over its Unix socket.

use std::fmt::Display;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// The API answers at once or not at all.
const LIMIT: Duration = Duration::from_secs(10);

/// Where a node's API is.
#[derive(Debug, Clone)]
pub struct Admin {
    socket: PathBuf,
}

impl Admin {
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The address as settings and commands write it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Status and body of the answer to a request.
    ///
    /// # Errors
    /// When there is no node, or no whole answer.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, String)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        parse(&answer)
    }

    /// The JSON of an answer that must be good.
    #[track_caller]
    pub fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        match self.try_json(method, path, body) {
            Ok(value) => value,
            Err(why) => panic!("{method} {path}: {why}"),
        }
    }

    /// The JSON of an answer that may be bad.
    ///
    /// # Errors
    /// What went wrong, or the answer's status and body.
    pub fn try_json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let (status, text) = self.call(method, path, body).map_err(text)?;
        if !(200..300).contains(&status) {
            return Err(format!("{status} {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))
    }

    /// `GET` of what must be there.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.json("GET", path, None)
    }

    /// What the node says of itself.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.get("/api/v1/status")
    }

    /// The version in force.
    #[track_caller]
    pub fn current(&self) -> Value {
        self.get("/api/v1/version/current")
    }

    /// Sequence of the version in force.
    #[track_caller]
    pub fn sequence(&self) -> u64 {
        self.current()["sequence"].as_u64().unwrap()
    }

    /// Metrics as Prometheus reads them.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let (status, text) = self.call("GET", "/metrics", None).unwrap();
        assert_eq!(status, 200, "{text}");
        text
    }

    /// Sum of the metric's samples whose labels contain all of these `name="value"` texts.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics();
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
        });
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Packets that the kernel counted under a reason.
    #[track_caller]
    pub fn kernel(&self, reason: &str) -> u64 {
        let status = self.status();
        let rows = status["kernel"].as_array().unwrap();
        let row = rows.iter().find(|row| row["reason"] == reason);
        row.unwrap_or_else(|| panic!("no reason {reason} in {rows:?}"))["packets"].as_u64().unwrap()
    }

    /// A counter of the proxy's connections, such as `accepted`.
    #[track_caller]
    pub fn connections(&self, event: &str) -> u64 {
        let status = self.status();
        let count = status["connections"][event].as_u64();
        count.unwrap_or_else(|| panic!("no count of {event} in {}", status["connections"]))
    }

    /// Whether the node is ready, and what it says otherwise.
    ///
    /// # Errors
    /// What it waits for, or why it cannot be asked.
    pub fn ready(&self) -> Result<(), String> {
        match self.call("GET", "/readyz", None) {
            Ok((200, _)) => Ok(()),
            Ok((status, text)) => Err(format!("{status} {text}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn parse(answer: &[u8]) -> io::Result<(u16, String)> {
    let bad =
        |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{why}: {}", String::from_utf8_lossy(answer)));
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(size)) = response.parse(answer) else {
        return Err(bad("no HTTP response"));
    };
    let is_chunked = response.headers.iter().any(|h| h.name.eq_ignore_ascii_case("transfer-encoding"));
    let body =
        if is_chunked { joined(&answer[size..]).ok_or_else(|| bad("bad chunks"))? } else { answer[size..].to_vec() };
    Ok((response.code.unwrap_or_default(), String::from_utf8_lossy(&body).into_owned()))
}

fn joined(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let httparse::Status::Complete((skip, size)) = httparse::parse_chunk_size(rest).ok()? else {
            return None;
        };
        let size = usize::try_from(size).ok()?;
        if size == 0 {
            return Some(all);
        }
        all.extend_from_slice(rest.get(skip..skip + size)?);
        rest = rest.get(skip + size + 2..)?;
    }
}
