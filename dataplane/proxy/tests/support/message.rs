//! HTTP/1 messages, read strictly and by other code than the proxy's.

use std::io::{Error, ErrorKind, Read, Result};

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The request line or the status line.
    pub first: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn cause(&self) -> Option<&str> {
        self.header("x-weir-cause")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
}

/// Reads one message. `unread` keeps what came after it.
pub fn read(from: &mut impl Read, unread: &mut Vec<u8>, kind: Kind) -> Result<Message> {
    let end = loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        more(from, unread)?;
    };
    let head = String::from_utf8(unread.drain(..end + 4).collect()).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap().to_owned();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut message = Message { first, headers, body: Vec::new() };
    if kind == Kind::Response && (100..200).contains(&message.status()) {
        return Ok(message);
    }
    let is_chunked = message.header("transfer-encoding") == Some("chunked");
    let length = message.header("content-length").map(|length| length.parse::<usize>().unwrap());
    assert!(!(is_chunked && length.is_some()), "both lengths: {head}");
    if is_chunked {
        let (body, trailers) = chunked(from, unread)?;
        message.body = body;
        message.headers.extend(trailers);
    } else if let Some(length) = length.filter(|_| message.header("x-of-head").is_none()) {
        message.body = exactly(from, unread, length)?;
    } else if kind == Kind::Response && !matches!(message.status(), 204 | 304) && length.is_none() {
        while more(from, unread).is_ok() {}
        message.body = std::mem::take(unread);
    }
    Ok(message)
}

/// A body in chunks, and its trailers.
fn chunked(from: &mut impl Read, unread: &mut Vec<u8>) -> Result<(Vec<u8>, Vec<(String, String)>)> {
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    loop {
        let line = line(from, unread)?;
        let length = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
        if length == 0 {
            break;
        }
        let chunk = exactly(from, unread, length + 2)?;
        assert!(chunk.ends_with(b"\r\n"));
        body.extend_from_slice(&chunk[..length]);
    }
    loop {
        let line = line(from, unread)?;
        let Some((name, value)) = line.split_once(':') else { return Ok((body, trailers)) };
        trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn line(from: &mut impl Read, unread: &mut Vec<u8>) -> Result<String> {
    loop {
        if let Some(end) = unread.windows(2).position(|window| window == b"\r\n") {
            let line = unread.drain(..end + 2).collect::<Vec<u8>>();
            return Ok(String::from_utf8(line).unwrap().trim_end().to_owned());
        }
        more(from, unread)?;
    }
}

fn exactly(from: &mut impl Read, unread: &mut Vec<u8>, length: usize) -> Result<Vec<u8>> {
    while unread.len() < length {
        more(from, unread)?;
    }
    Ok(unread.drain(..length).collect())
}

fn more(from: &mut impl Read, unread: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 65_536];
    match from.read(&mut buffer)? {
        0 => Err(Error::new(ErrorKind::UnexpectedEof, "closed in the middle of a message")),
        count => {
            unread.extend_from_slice(&buffer[..count]);
            Ok(())
        }
    }
}
