//! Requests that two parsers could read as different ones: refused, or passed on in the one form that is left.
//!
//! Each row is what a client sends on one connection, what it is answered, and what reached the endpoint. The second
//! request in many of them is the one that an attacker wants to hide in the first.

mod support;

use std::net::Shutdown;

use support::upstream::{Upstream, response};
use support::world::World;
use support::{Client, Node};

/// What becomes of the bytes of a row.
enum Fate {
    /// Answered with this status; the connection is closed, and nothing reached the endpoint.
    Refused(u16),
    /// Every request reached the endpoint: its first line and body.
    Passed(&'static [(&'static str, &'static str)]),
    /// The first did, and what follows it is nobody's request: the connection was closed after the answer.
    Last((&'static str, &'static str)),
}

use Fate::{Last, Passed, Refused};

#[rustfmt::skip]
const ROWS: &[(&str, &str, Fate)] = &[
    // Lengths (RFC 9112, sections 6.1 and 6.3).
    ("two lengths that differ", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabcde", Refused(400)),
    ("two equal lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc", Passed(&[("POST / HTTP/1.1", "abc")])),
    ("a list of lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\nabc", Refused(400)),
    ("a length with a sign", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc", Refused(400)),
    ("a negative length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", Refused(400)),
    ("a length in hexadecimal", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x3\r\n\r\nabc", Refused(400)),
    ("a length that is none", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\nabc", Refused(400)),
    ("a length beyond all numbers", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551616\r\n\r\n", Refused(400)),
    ("a length and chunks", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", Last(("POST / HTTP/1.1", ""))),
    ("chunks and a length", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", Last(("POST / HTTP/1.1", ""))),
    ("a length in a request named by Connection", "POST / HTTP/1.1\r\nhost: a\r\nconnection: content-length\r\ncontent-length: 3\r\n\r\nabc", Passed(&[("POST / HTTP/1.1", "abc")])),
    // Codings.
    ("a coding that is not chunked", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\nabc", Refused(400)),
    ("chunked, but not last", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", Refused(400)),
    ("chunked after another coding", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("a word that is like chunked", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", Refused(400)),
    ("a coding with a vertical tab", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n", Refused(400)),
    ("chunked twice", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("chunks in HTTP/1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("chunked in capitals", "POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Passed(&[("POST / HTTP/1.1", "abc")])),
    // Chunks (section 7.1).
    ("a chunk of no size", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("a chunk's size with a sign", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("a chunk's size in hexadecimal with 0x", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("a chunk's size beyond all numbers", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("a chunk that is longer than its size", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("a chunk's size that ends with a bare line feed", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", Refused(400)),
    ("a chunk extension with a bare line feed", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n", Refused(400)),
    ("a chunk extension", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", Passed(&[("POST / HTTP/1.1", "abc")])),
    // Names and values of headers (section 5).
    ("a space before the colon", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 3\r\n\r\nabc", Refused(400)),
    ("a name with a space in it", "GET / HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n", Refused(400)),
    ("a line without a colon", "GET / HTTP/1.1\r\nhost: a\r\nnothing\r\n\r\n", Refused(400)),
    ("a line that begins with a space", "GET / HTTP/1.1\r\n host: a\r\n\r\n", Refused(400)),
    ("a folded line", "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n", Refused(400)),
    ("a folded coding", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Refused(400)),
    ("a carriage return in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: 1\rcontent-length: 3\r\n\r\n", Refused(400)),
    ("a zero byte in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: 1\x002\r\n\r\n", Refused(400)),
    ("a zero byte in a name", "GET / HTTP/1.1\r\nhost: a\r\nx\x00: 1\r\n\r\n", Refused(400)),
    ("an empty name", "GET / HTTP/1.1\r\nhost: a\r\n: 1\r\n\r\n", Refused(400)),
    // The request line (sections 3 and 3.2).
    ("a space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
    ("a tab in the request line", "GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
    ("a version that there is not", "GET / HTTP/1.2\r\nhost: a\r\n\r\n", Refused(400)),
    ("no version", "GET /\r\nhost: a\r\n\r\n", Refused(400)),
    ("a method with a colon", "GE:T / HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
    ("no host", "GET / HTTP/1.1\r\n\r\n", Refused(400)),
    ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", Refused(400)),
    ("a target of another host", "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n", Refused(400)),
    ("a target of the same host", "GET http://a/p HTTP/1.1\r\nhost: a\r\n\r\n", Passed(&[("GET /p HTTP/1.1", "")])),
    ("a target with user information", "GET http://u@a/ HTTP/1.1\r\nhost: u@a\r\n\r\n", Refused(400)),
    ("CONNECT", "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", Refused(405)),
    ("the preface of HTTP/2 in lower case", "pri * HTTP/2.0\r\n\r\nsm\r\n\r\n", Refused(400)),
    ("an upgrade to HTTP/2", "GET /p HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\n\r\n", Passed(&[("GET /p HTTP/1.1", "")])),
    // What is as it should be.
    ("lines that end with a line feed alone", "GET /p HTTP/1.1\nhost: a\n\n", Passed(&[("GET /p HTTP/1.1", "")])),
    ("two requests at once", "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", Passed(&[("GET /1 HTTP/1.1", ""), ("POST /2 HTTP/1.1", "abc")])),
    ("a body of a GET", "GET /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 26\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n", Passed(&[("GET /1 HTTP/1.1", "GET /smuggled HTTP/1.1\r\n\r\n")])),
    ("trailers", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\ncontent-length: 9\r\n\r\n", Passed(&[("POST / HTTP/1.1", "abc")])),
];

#[test]
fn every_row_has_its_fate() {
    let upstream = Upstream::answering(|_| response(200, b"ok"));
    let node = Node::start(World::new(&[upstream.address]));
    let mut wrong = Vec::new();
    for (what, sent, fate) in ROWS {
        let before = upstream.requests().len();
        let mut client = Client::connect(node.address);
        client.send(sent);
        if let Passed(_) = fate {
            // Nothing more comes: what waits for more is over. The others end by themselves.
            client.stream.shutdown(Shutdown::Write).unwrap();
        }
        let answer = String::from_utf8_lossy(&client.rest().unwrap_or_default()).into_owned();
        let statuses: Vec<&str> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
        let seen: Vec<(String, String)> = upstream
            .requests()
            .iter()
            .skip(before)
            .map(|request| (request.first.clone(), String::from_utf8_lossy(&request.body).into_owned()))
            .collect();
        let (expected_statuses, expected_seen) = match fate {
            Refused(status) => (vec![status.to_string()], Vec::new()),
            Last((first, body)) => (vec!["200".to_owned()], vec![((*first).to_owned(), (*body).to_owned())]),
            Passed(requests) => (
                vec!["200".to_owned(); requests.len()],
                requests.iter().map(|(first, body)| ((*first).to_owned(), (*body).to_owned())).collect(),
            ),
        };
        if statuses != expected_statuses || seen != expected_seen {
            wrong.push(format!("{what}: answered {statuses:?}, not {expected_statuses:?}; at the endpoint {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ROWS.len(), wrong.join("\n"));
}
