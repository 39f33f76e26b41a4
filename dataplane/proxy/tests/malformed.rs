//! What RFC 9113 calls malformed or an error, in HTTP/2: each row is what a client sends after its preface, and what
//! becomes of its stream or its connection. Nothing of it reaches an endpoint.
//!
//! What RFC 9113 has as an error of a stream may be one of the connection (section 5.4.2), and is here where the head
//! cannot even be kept. Where it has a code of its own for an error of the connection, h2 often says `PROTOCOL_ERROR`.

mod support;

use std::io::Read;

use support::frames::*;
use support::upstream::{Upstream, response};
use support::world::World;
use support::{Client, Node};

/// What becomes of a row.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// The stream is reset with this code.
    Stream(u32),
    /// The connection ends with this code.
    Connection(u32),
    /// The request is answered with an error of the client.
    Answered,
    /// The request reaches the endpoint.
    Passed,
    /// The connection ends without a word.
    Closed,
}

use Fate::{Answered, Connection, Passed, Stream};

const PROTOCOL: u32 = 1;
const SIZE: u32 = 6;

/// Fields that no table keeps (RFC 7541, section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/");
const HOST: (&str, &str) = (":authority", "a");

/// A whole request on stream 1 with these fields.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

/// The same with a further field at the end.
fn with(name: &str, value: &str) -> Vec<u8> {
    fields(&[METHOD, SCHEME, PATH, HOST, (name, value)])
}

fn rows() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let open = || request(1, 0);
    let whole = |stream| request(stream, END_STREAM);
    let setting = |id: u8, value: u32| frame(SETTINGS, 0, 0, &[&[0, id][..], &value.to_be_bytes()].concat());
    vec![
        // Heads (sections 8.1 to 8.3).
        ("a request as it should be", fields(&[METHOD, SCHEME, PATH, HOST]), Passed),
        ("trailers are welcome", with("te", "trailers"), Passed),
        ("no method", fields(&[SCHEME, PATH, HOST]), Stream(PROTOCOL)),
        ("no scheme", fields(&[METHOD, PATH, HOST]), Stream(PROTOCOL)),
        ("no path", fields(&[METHOD, SCHEME, HOST]), Stream(PROTOCOL)),
        ("an empty path", fields(&[METHOD, SCHEME, (":path", ""), HOST]), Stream(PROTOCOL)),
        ("a path with a space", fields(&[METHOD, SCHEME, (":path", "/a b"), HOST]), Stream(PROTOCOL)),
        ("a path with a line", fields(&[METHOD, SCHEME, (":path", "/ HTTP/1.1\r\nx: y"), HOST]), Stream(PROTOCOL)),
        ("two paths", fields(&[METHOD, SCHEME, PATH, PATH, HOST]), Stream(PROTOCOL)),
        ("two methods", fields(&[METHOD, METHOD, SCHEME, PATH, HOST]), Stream(PROTOCOL)),
        (
            "a method with a line",
            fields(&[(":method", "GET / HTTP/1.1\r\n"), SCHEME, PATH, HOST]),
            Connection(PROTOCOL),
        ),
        ("two authorities", fields(&[METHOD, SCHEME, PATH, HOST, HOST]), Stream(PROTOCOL)),
        ("an authority with a line", fields(&[METHOD, SCHEME, PATH, (":authority", "a\r\nx: y")]), Stream(PROTOCOL)),
        ("an authority with a user", fields(&[METHOD, SCHEME, PATH, (":authority", "u@a")]), Answered),
        ("no authority and no host", fields(&[METHOD, SCHEME, PATH]), Answered),
        ("another host", with("host", "b"), Answered),
        ("a status", fields(&[METHOD, SCHEME, PATH, HOST, (":status", "200")]), Stream(PROTOCOL)),
        (
            "a field of that kind that there is not",
            fields(&[METHOD, SCHEME, PATH, HOST, (":x", "1")]),
            Connection(PROTOCOL),
        ),
        ("one that comes too late", fields(&[METHOD, SCHEME, ("x", "1"), PATH, HOST]), Stream(PROTOCOL)),
        ("a name in upper case", with("X-A", "1"), Connection(PROTOCOL)),
        ("an empty name", with("", "1"), Connection(PROTOCOL)),
        ("a name with a space", with("x y", "1"), Connection(PROTOCOL)),
        ("a value with a line", with("x", "1\r\ny: 2"), Connection(PROTOCOL)),
        ("a value with a zero byte", with("x", "1\x002"), Connection(PROTOCOL)),
        ("connection", with("connection", "close"), Stream(PROTOCOL)),
        ("keep-alive", with("keep-alive", "timeout=5"), Stream(PROTOCOL)),
        ("proxy-connection", with("proxy-connection", "close"), Stream(PROTOCOL)),
        ("transfer-encoding", with("transfer-encoding", "chunked"), Stream(PROTOCOL)),
        ("upgrade", with("upgrade", "websocket"), Stream(PROTOCOL)),
        ("a coding of the connection", with("te", "gzip"), Stream(PROTOCOL)),
        ("a length that is no number", with("content-length", "x"), Stream(PROTOCOL)),
        ("a length without a body", with("content-length", "3"), Stream(PROTOCOL)),
        (
            "a body that is longer than its length",
            [
                frame(HEADERS, END_HEADERS, 1, &block(&[METHOD, SCHEME, PATH, HOST, ("content-length", "1")])),
                frame(DATA, END_STREAM, 1, b"abc"),
            ]
            .concat(),
            Stream(PROTOCOL),
        ),
        ("CONNECT", fields(&[(":method", "CONNECT"), (":authority", "a:80")]), Answered),
        // Frames (sections 4 to 6).
        ("a head on no stream", frame(HEADERS, END_HEADERS | END_STREAM, 0, GET), Connection(PROTOCOL)),
        (
            "a head that depends on itself",
            frame(HEADERS, END_HEADERS | END_STREAM | 0x20, 1, &[&[0, 0, 0, 1, 9], GET].concat()),
            Stream(PROTOCOL),
        ),
        (
            "a head that cannot be decoded",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            Connection(PROTOCOL),
        ),
        (
            "padding that is longer than its frame",
            frame(HEADERS, END_HEADERS | END_STREAM | 8, 1, &[200, 1]),
            Connection(PROTOCOL),
        ),
        (
            "a head in the middle of a head",
            [frame(HEADERS, END_STREAM, 1, GET), whole(3)].concat(),
            Connection(PROTOCOL),
        ),
        ("a rest of a head without a head", frame(CONTINUATION, END_HEADERS, 1, GET), Connection(PROTOCOL)),
        ("data on no stream", frame(DATA, 0, 0, b"x"), Connection(PROTOCOL)),
        ("a second head that does not end the stream", [open(), open()].concat(), Stream(PROTOCOL)),
        ("a reset of a stream that was never opened", frame(RST_STREAM, 0, 5, &[0; 4]), Connection(PROTOCOL)),
        ("a reset of another length", [open(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), Connection(PROTOCOL)),
        ("a setting of a stream", frame(SETTINGS, 0, 1, &[]), Connection(PROTOCOL)),
        ("settings of another length", frame(SETTINGS, 0, 0, &[0; 5]), Connection(PROTOCOL)),
        ("an acknowledgement with settings", frame(SETTINGS, 1, 0, &[0; 6]), Connection(PROTOCOL)),
        ("a setting that is neither yes nor no", setting(2, 2), Connection(PROTOCOL)),
        ("a window that is too large", setting(4, 0x8000_0000), Connection(PROTOCOL)),
        ("frames that are too small", setting(5, 1), Connection(PROTOCOL)),
        ("a promise of a client", frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2], GET].concat()), Connection(PROTOCOL)),
        ("a ping on a stream", frame(PING, 0, 1, &[0; 8]), Connection(PROTOCOL)),
        ("a ping of another length", frame(PING, 0, 0, &[0; 7]), Connection(PROTOCOL)),
        ("a farewell on a stream", frame(GOAWAY, 0, 1, &[0; 8]), Connection(PROTOCOL)),
        ("a frame that is too large", frame(DATA, 0, 1, &vec![0; 16_385]), Connection(SIZE)),
        (
            "a window of nothing on a stream",
            [open(), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            Connection(PROTOCOL),
        ),
        ("a stream that is older than the last", [whole(5), whole(3)].concat(), Connection(PROTOCOL)),
        ("data after the end", [whole(1), frame(DATA, END_STREAM, 1, b"x")].concat(), Connection(PROTOCOL)),
    ]
}

#[test]
fn every_row_has_its_fate() {
    let upstream = Upstream::answering(|_| response(200, b""));
    let node = Node::start(World::new(&[upstream.address]));
    let mut wrong = Vec::new();
    for (what, sent, expected) in rows() {
        let before = upstream.requests().len();
        let mut client = node.client();
        client.send([start(), sent].concat());
        let fate = fate(&mut client);
        let reached = upstream.requests().len() - before;
        // Of two requests on a connection the first may have come before the second was looked at.
        let is_right = fate == expected && (reached == 0 || fate == Passed || what == "data after the end");
        if !is_right {
            wrong.push(format!("{what}: {fate:?}, not {expected:?}; {reached} at the endpoint"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What the proxy says first of a stream or of the connection.
fn fate(client: &mut Client) -> Fate {
    let code = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    loop {
        let mut head = [0; 9];
        if client.stream.read_exact(&mut head).is_err() {
            return Fate::Closed;
        }
        let mut content = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if client.stream.read_exact(&mut content).is_err() {
            return Fate::Closed;
        }
        match head[3] {
            RST_STREAM => return Stream(code(&content)),
            GOAWAY => return Connection(code(&content[4..])),
            // Entries 8 and 12 of the static table are the statuses 200 and 400 (RFC 7541, appendix A).
            HEADERS if content[0] == 0x88 => return Passed,
            HEADERS => return Answered,
            _ => {}
        }
    }
}
