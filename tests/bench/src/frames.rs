//! HTTP/2 as far as a backend needs it: which streams end, and answers that were encoded beforehand.
//!
//! Like [`crate::wire`] it must stay cheaper than any proxy in front of it: frames are cut, heads are not even decoded, and
//! one write answers all requests that one read has brought. It must not grow into an HTTP library.

use std::{collections::VecDeque, io};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before a frame's content (RFC 9113, section 4.1).
const FRAME_HEAD: usize = 9;
/// The largest content that is understood: what peers may send without being told otherwise.
const FRAME_CONTENT: usize = 16_384;
/// Bytes that a connection and each of its streams may send before they hear of it.
const WINDOW: u32 = 1 << 30;

/// Kinds of frames (RFC 9113, section 6).
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const WINDOW_UPDATE: u8 = 8;
}

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a backend answers.
pub(crate) struct Answers {
    /// To a request without a body.
    plain: Answer,
    /// To one with a body: a call of gRPC.
    call: Answer,
}

struct Answer {
    head: Vec<u8>,
    body: Vec<u8>,
    trailers: Option<Vec<u8>>,
}

impl Answers {
    pub(crate) fn of(backend: &str, small: usize) -> Self {
        let head = |content: &str, length: Option<usize>| {
            // `:status: 200` is entry 8 of the static table (RFC 7541, appendix A).
            let mut block = vec![0x88];
            literal(&mut block, "server", "weir-bench");
            literal(&mut block, "x-backend", backend);
            literal(&mut block, "content-type", content);
            length.iter().for_each(|length| literal(&mut block, "content-length", &length.to_string()));
            block
        };
        let mut trailers = Vec::new();
        literal(&mut trailers, "grpc-status", "0");
        let message = [&[0, 0, 0, 0, 100][..], &[b'x'; 100]].concat();
        Self {
            plain: Answer { head: head("text/plain", Some(small)), body: vec![b'x'; small], trailers: None },
            call: Answer { head: head("application/grpc", None), body: message, trailers: Some(trailers) },
        }
    }
}

/// A field that no table keeps (RFC 7541, section 6.2.2).
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        debug_assert!(text.len() < 127, "longer texts take more than one byte for their length");
        block.push(text.len() as u8);
        block.extend_from_slice(text.as_bytes());
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, content: &[u8]) {
    out.extend_from_slice(&(content.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(content);
}

/// Serves one connection until its client ends it.
pub(crate) async fn serve(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(64 * 1024);
    while buffer.len() < PREFACE.len() {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
    if !buffer.starts_with(PREFACE) {
        return Err(io::Error::other("the proxy does not speak HTTP/2"));
    }
    buffer.drain(..PREFACE.len());
    let mut out = Vec::new();
    // Streams: as many as come. Windows: as large as they may be.
    let settings = [&[0, 3][..], &65_536_u32.to_be_bytes(), &[0, 4], &WINDOW.to_be_bytes()].concat();
    frame(&mut out, kind::SETTINGS, 0, 0, &settings);
    frame(&mut out, kind::WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
    let mut connection = Connection { out, room: 65_535, unanswered: VecDeque::new(), heard: 0 };
    loop {
        let used = connection.read(&buffer, answers)?;
        buffer.drain(..used);
        if !connection.out.is_empty() {
            stream.write_all(&connection.out).await?;
            connection.out.clear();
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

struct Connection {
    out: Vec<u8>,
    /// What the client takes before it says more.
    room: i64,
    /// Streams whose answer waits for room, and whether they are calls.
    unanswered: VecDeque<(u32, bool)>,
    /// Bytes of bodies that the client has not been given new room for.
    heard: u32,
}

impl Connection {
    /// Understands whole frames; returns how many bytes they are.
    fn read(&mut self, bytes: &[u8], answers: &Answers) -> io::Result<usize> {
        let mut used = 0;
        while let Some(head) = bytes.get(used..used + FRAME_HEAD) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if length > FRAME_CONTENT {
                return Err(io::Error::other("a frame that is larger than it may be"));
            }
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            let Some(content) = bytes.get(used + FRAME_HEAD..used + FRAME_HEAD + length) else { break };
            used += FRAME_HEAD + length;
            match (head[3], head[4]) {
                (kind @ (kind::DATA | kind::HEADERS), flags) => {
                    if kind == kind::DATA {
                        self.hear(length as u32);
                    }
                    if flags & END_STREAM != 0 {
                        self.unanswered.push_back((stream, kind == kind::DATA));
                    }
                }
                (kind::SETTINGS, flags) if flags & ACK == 0 => frame(&mut self.out, kind::SETTINGS, ACK, 0, &[]),
                (kind::PING, flags) if flags & ACK == 0 => frame(&mut self.out, kind::PING, ACK, 0, content),
                (kind::WINDOW_UPDATE, _) if stream == 0 => {
                    let more: [u8; 4] = content.try_into().map_err(io::Error::other)?;
                    self.room += i64::from(u32::from_be_bytes(more));
                }
                _ => {}
            }
        }
        self.answer(answers);
        Ok(used)
    }

    fn hear(&mut self, length: u32) {
        self.heard += length;
        if self.heard > WINDOW / 2 {
            frame(&mut self.out, kind::WINDOW_UPDATE, 0, 0, &self.heard.to_be_bytes());
            self.heard = 0;
        }
    }

    fn answer(&mut self, answers: &Answers) {
        while let Some((stream, is_call)) = self.unanswered.front().copied() {
            let Answer { head, body, trailers } = if is_call { &answers.call } else { &answers.plain };
            if self.room < body.len() as i64 {
                return;
            }
            self.room -= body.len() as i64;
            self.unanswered.pop_front();
            frame(&mut self.out, kind::HEADERS, END_HEADERS, stream, head);
            frame(&mut self.out, kind::DATA, if trailers.is_some() { 0 } else { END_STREAM }, stream, body);
            if let Some(trailers) = trailers {
                frame(&mut self.out, kind::HEADERS, END_HEADERS | END_STREAM, stream, trailers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_answered_when_they_are_whole_and_there_is_room() {
        let answers = Answers::of("canary", 104);
        let mut connection = Connection { out: Vec::new(), room: 150, unanswered: VecDeque::new(), heard: 0 };
        let mut bytes = Vec::new();
        frame(&mut bytes, kind::PING, 0, 0, &[7; 8]);
        frame(&mut bytes, kind::HEADERS, END_HEADERS | END_STREAM, 1, &[0x82]);
        frame(&mut bytes, kind::HEADERS, END_HEADERS, 3, &[0x82]);
        frame(&mut bytes, kind::DATA, END_STREAM, 3, b"body");
        let cut = bytes.len() - 1;
        let used = connection.read(&bytes[..cut], &answers).unwrap();
        assert_eq!(used, cut - 12);
        assert!(connection.out.starts_with(&[0, 0, 8, kind::PING, ACK]));
        connection.read(&bytes[used..], &answers).unwrap();
        assert_eq!(connection.unanswered, [(3, true)], "the second waits for room");
        let before = connection.out.len();
        let mut update = Vec::new();
        frame(&mut update, kind::WINDOW_UPDATE, 0, 0, &1_000_u32.to_be_bytes());
        connection.read(&update, &answers).unwrap();
        assert!(connection.unanswered.is_empty() && connection.out.len() > before + 105);
    }
}
