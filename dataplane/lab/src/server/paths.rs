//! What each path answers; the table is in the documentation of [`super`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde::Serialize;
use sha2::{Digest, Sha256};
use socket2::SockRef;

use super::body::{Answer, Framing};
use super::http1::Connection;
use super::seen::{self, Seen};
use crate::content::hex;

const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
/// About 100 bytes, as small API answers are.
const FAST: &[u8] = b"{\"answer\":\"fast\",\"padding\":\"\
    0123456789012345678901234567890123456789012345678901234567890123456789\"}";

/// What a server tells of a request.
#[derive(Debug, Serialize)]
struct Told<'a> {
    server: &'a str,
    version: &'a str,
    local: String,
    #[serde(flatten)]
    request: &'a seen::Request,
}

pub(crate) async fn answer(connection: Arc<Connection>, request: Request<Incoming>) -> io::Result<Response<Answer>> {
    let seen = &connection.shared.1;
    let path = request.uri().path();
    if matches!(path, "/count" | "/last" | "/forget") {
        return remembered(&connection, &request);
    }
    seen.count(request.method(), request.headers());
    let mut guard = Unanswered(Some(seen));
    let response = if path == "/fast" { fast(&connection, request).await } else { told(&connection, request).await };
    guard.0 = None;
    response
}

/// Counts a request whose handling was dropped: hyper does that when the client goes away.
struct Unanswered<'a>(Option<&'a Seen>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(seen) = self.0 {
            seen.count_aborted();
        }
    }
}

async fn fast(connection: &Connection, request: Request<Incoming>) -> io::Result<Response<Answer>> {
    let mut body = request.into_body();
    while !body.is_end_stream() {
        if body.frame().await.transpose().map_err(io::Error::other)?.is_none() {
            break;
        }
    }
    Ok(respond(connection, StatusCode::OK, Answer::fixed(FAST)))
}

fn remembered(connection: &Connection, request: &Request<Incoming>) -> io::Result<Response<Answer>> {
    let seen = &connection.shared.1;
    let json = match request.uri().path() {
        "/count" => serde_json::to_vec(&seen.counts()),
        "/last" => serde_json::to_vec(&seen.last(number(request, "n").unwrap_or(1) as usize)),
        _ if *request.method() != Method::POST => {
            let why = Answer::fixed("use POST\n");
            return Ok(respond(connection, StatusCode::METHOD_NOT_ALLOWED, why));
        }
        _ => {
            seen.forget();
            Ok(b"{}".to_vec())
        }
    };
    Ok(respond(connection, StatusCode::OK, Answer::fixed(json?)))
}

async fn told(connection: &Connection, request: Request<Incoming>) -> io::Result<Response<Answer>> {
    let path = request.uri().path().to_owned();
    let trimmed = path.trim_start_matches('/');
    let (word, rest) = trimmed.split_once('/').unwrap_or((trimmed, ""));
    let query = |key: &str| number(&request, key);
    let early = || rest.parse().unwrap_or(StatusCode::BAD_REQUEST);
    let answer = match word {
        "early" => return Ok(respond(connection, early(), Answer::fixed("early\n"))),
        "reset" => {
            // Closing a socket that does not linger sends RST (socket(7), SO_LINGER).
            SockRef::from(&connection.socket).set_linger(Some(Duration::ZERO))?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        "bytes" => {
            let chunked = query("chunked").is_some();
            let framing = if chunked { Framing::Chunked } else { Framing::Length };
            rest.parse().ok().map(|n| Answer::bytes(n, framing))
        }
        "drip" => {
            let every = duration(&value(&request, "every").unwrap_or("100ms".to_owned()));
            every.map(|every| Answer::drip(query("bytes").unwrap_or(10), every))
        }
        "close-mid" => {
            let announced = query("announce").unwrap_or(1000);
            let length = query("chunked").is_none().then_some(announced);
            Some(Answer::broken(query("send").unwrap_or(100).min(announced), length))
        }
        _ => None,
    };
    let times = query("times").unwrap_or(1);
    let path_and_query = request.uri().to_string();
    let told = tell(connection, request).await?;
    let status = match (word, &answer) {
        ("status", None) => rest.parse().unwrap_or(StatusCode::BAD_REQUEST),
        ("flaky", None) if connection.shared.1.count_flaky(&path_and_query) > times => StatusCode::OK,
        ("flaky", None) => rest.parse().unwrap_or(StatusCode::BAD_REQUEST),
        ("bytes" | "drip", None) => StatusCode::BAD_REQUEST,
        ("hang", None) => return std::future::pending().await,
        ("delay", None) => match duration(rest) {
            None => StatusCode::BAD_REQUEST,
            Some(delay) => {
                tokio::time::sleep(delay).await;
                StatusCode::OK
            }
        },
        _ => StatusCode::OK,
    };
    let mut response = respond(connection, status, answer.unwrap_or(told));
    if word == "close" {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Reads a request to its end, remembers it, and tells what it was.
async fn tell(connection: &Connection, request: Request<Incoming>) -> io::Result<Answer> {
    let (head, mut body) = request.into_parts();
    let mut arrived = seen::Request {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: seen::headers_of(&head.headers),
        peer: connection.peer.to_string(),
        body_bytes: 0,
        body_sha256: String::new(),
        complete: false,
    };
    let mut hash = Sha256::new();
    let failure = loop {
        match body.frame().await {
            None => break None,
            Some(Err(e)) => break Some(e),
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_else(|_| Bytes::new());
                arrived.body_bytes += data.len() as u64;
                hash.update(&data);
            }
        }
    };
    arrived.complete = failure.is_none();
    arrived.body_sha256 = hex(&hash.finalize());
    let (identity, seen) = &*connection.shared;
    let told = Told {
        server: &identity.name,
        version: &identity.version,
        local: connection.local.to_string(),
        request: &arrived,
    };
    let json = serde_json::to_vec(&told)?;
    seen.remember(arrived);
    match failure {
        Some(e) => Err(io::Error::other(e)),
        None => Ok(Answer::fixed(json)),
    }
}

fn respond(connection: &Connection, status: StatusCode, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(name) = HeaderValue::from_str(&connection.shared.0.name) {
        headers.insert(SERVED_BY, name);
    }
    if let Answer::Fixed(_) = response.body() {
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
    }
    response
}

fn value(request: &Request<Incoming>, key: &str) -> Option<String> {
    let query = request.uri().query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
}

fn number(request: &Request<Incoming>, key: &str) -> Option<u64> {
    value(request, key)?.parse().ok()
}

fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}
