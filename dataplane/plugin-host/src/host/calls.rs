//! Requests that a plugin sends by itself.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, request};

use super::memory::{Guest, check_words, put_word, slice, split};
use crate::abi::{Answer, Status, pairs};
use crate::environment::HttpCall;
use crate::state::Number;
use crate::stream::no_request;

/// The longest that a call may take.
const LONGEST_CALL: Duration = Duration::from_secs(60);

/// `proxy_http_call`.
#[expect(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn http_call(
    guest: &mut Guest<'_>,
    upstream: u32,
    upstream_size: u32,
    headers: u32,
    headers_size: u32,
    body: u32,
    body_size: u32,
    trailers: u32,
    trailers_size: u32,
    timeout: u32,
    to: u32,
) -> Answer {
    check_words(guest, &[to])?;
    let (memory, state) = split(guest)?;
    let upstream = str::from_utf8(slice(memory, upstream, upstream_size)?).map_err(|_| Status::BadArgument)?;
    let body = slice(memory, body, body_size)?;
    let mut head = head(slice(memory, headers, headers_size)?)?;
    let trailers = trailers_of(slice(memory, trailers, trailers_size)?)?;
    // By HTTP/1.1 only those are sent that were announced.
    for name in trailers.keys() {
        head.headers.append(TRAILER, HeaderValue::from(name.clone()));
    }
    let limits = &state.plugin.options.limits;
    if body.len() > limits.body || !state.environment.may_call(&state.plugin, upstream) {
        return Err(Status::BadArgument.into());
    }
    if state.is_full_of_calls() {
        return Err(Status::InternalFailure.into());
    }
    let id = state.number(Number::HttpCall);
    state.open_calls.insert(id);
    state.outbox.push(HttpCall {
        id,
        upstream: upstream.into(),
        head,
        body: Bytes::copy_from_slice(body),
        trailers,
        timeout: Duration::from_millis(u64::from(timeout)).min(LONGEST_CALL),
    });
    put_word(guest, to, id)
}

/// The head of a call, of a list that a plugin wrote.
fn head(list: &[u8]) -> Result<request::Parts, Status> {
    const BAD: Status = Status::BadArgument;
    let mut head = no_request();
    let (mut method, mut authority, mut path) = (None, None, None);
    for (name, value) in pairs::decode(list)? {
        match name {
            b":method" => method = Some(Method::from_bytes(value).map_err(|_| BAD)?),
            b":authority" | b"host" => authority = Some(HeaderValue::from_bytes(value).map_err(|_| BAD)?),
            b":path" => {
                path = Some(PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(value)).map_err(|_| BAD)?);
            }
            b":scheme" => {}
            _ => {
                let name = HeaderName::from_bytes(name).map_err(|_| BAD)?;
                let value = HeaderValue::from_bytes(value).map_err(|_| BAD)?;
                head.headers.try_append(name, value).map_err(|_| BAD)?;
            }
        }
    }
    // How long the body is, is known.
    for name in [http::header::CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE] {
        head.headers.remove(name);
    }
    head.method = method.filter(|method| *method != Method::CONNECT).ok_or(BAD)?;
    head.headers.insert(HOST, authority.ok_or(BAD)?);
    head.uri = Uri::from(path.ok_or(BAD)?);
    Ok(head)
}

/// The trailers of a call.
fn trailers_of(list: &[u8]) -> Result<HeaderMap, Status> {
    const BAD: Status = Status::BadArgument;
    let mut trailers = HeaderMap::new();
    for (name, value) in pairs::decode(list)? {
        let name = HeaderName::from_bytes(name).map_err(|_| BAD)?;
        if !crate::abi::fields::is_framing(&name) {
            trailers.try_append(name, HeaderValue::from_bytes(value).map_err(|_| BAD)?).map_err(|_| BAD)?;
        }
    }
    Ok(trailers)
}
