//! Calls of gRPC that a plugin makes by itself.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderName, HeaderValue, Method, Uri, request};

use super::memory::{Guest, check_words, give, put_word, slice, split};
use crate::abi::{Answer, Status, pairs};
use crate::grpc::{GrpcCall, Messages, OpenGrpc, PREFIX, upstream_name};
use crate::state::{Number, State};
use crate::stream::no_request;

/// The longest that a call of one message may take.
const LONGEST_CALL: Duration = Duration::from_secs(60);

/// The longest that a stream may take: a plugin that wants it longer opens another.
const LONGEST_STREAM: Duration = Duration::from_secs(3_600);

/// `proxy_grpc_call`.
#[expect(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn call(
    guest: &mut Guest<'_>,
    upstream: u32,
    upstream_size: u32,
    service: u32,
    service_size: u32,
    method: u32,
    method_size: u32,
    metadata: u32,
    metadata_size: u32,
    message: u32,
    message_size: u32,
    timeout: u32,
    to: u32,
) -> Answer {
    check_words(guest, &[to])?;
    let (memory, state) = split(guest)?;
    let place = [(upstream, upstream_size), (service, service_size), (method, method_size), (metadata, metadata_size)];
    let message = slice(memory, message, message_size)?;
    let limit = state.plugin.options.limits.body;
    if PREFIX + message.len() > limit {
        return Err(Status::InternalFailure.into());
    }
    let timeout = Duration::from_millis(u64::from(timeout)).min(LONGEST_CALL);
    let (number, open) = open(state, memory, place, timeout, false)?;
    open.send(message, limit);
    open.end();
    state.open_grpc.insert(number, open);
    put_word(guest, to, number)
}

/// `proxy_grpc_stream`.
#[expect(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn stream(
    guest: &mut Guest<'_>,
    upstream: u32,
    upstream_size: u32,
    service: u32,
    service_size: u32,
    method: u32,
    method_size: u32,
    metadata: u32,
    metadata_size: u32,
    to: u32,
) -> Answer {
    check_words(guest, &[to])?;
    let (memory, state) = split(guest)?;
    let place = [(upstream, upstream_size), (service, service_size), (method, method_size), (metadata, metadata_size)];
    let (number, open) = open(state, memory, place, LONGEST_STREAM, true)?;
    state.open_grpc.insert(number, open);
    put_word(guest, to, number)
}

/// `proxy_grpc_send`: on a stream that this side has not ended.
pub(super) fn send(guest: &mut Guest<'_>, number: u32, at: u32, size: u32, is_end: u32) -> Answer {
    let (memory, state) = split(guest)?;
    let message = slice(memory, at, size)?;
    let open = state.open_grpc.get(&number).filter(|open| open.is_stream).ok_or(Status::NotFound)?;
    if !open.send(message, state.plugin.options.limits.body) {
        return Err(Status::BadArgument.into());
    }
    if is_end != 0 {
        open.end();
    }
    Ok(())
}

/// `proxy_grpc_cancel`: it is broken off, and the plugin hears nothing more of it.
pub(super) fn cancel(guest: &mut Guest<'_>, number: u32) -> Answer {
    guest.data_mut().open_grpc.remove(&number).map(drop).ok_or_else(|| Status::NotFound.into())
}

/// `proxy_grpc_close`: this side sends nothing more.
pub(super) fn close(guest: &mut Guest<'_>, number: u32) -> Answer {
    let open = guest.data().open_grpc.get(&number).filter(|open| open.is_stream).ok_or(Status::NotFound)?;
    open.end();
    Ok(())
}

/// `proxy_get_status`: of the call that a callback tells of.
pub(super) fn status(guest: &mut Guest<'_>, to_code: u32, to: u32, to_size: u32) -> Answer {
    check_words(guest, &[to_code, to, to_size])?;
    let (code, message) = guest.data().grpc.status.clone();
    put_word(guest, to_code, code)?;
    give(guest, message.as_bytes(), to, to_size)
}

/// Begins a call. What is wrong with it is told by the statuses that SDKs know for it, whatever it is: they panic at others.
fn open(
    state: &mut State,
    memory: &[u8],
    [upstream, service, method, metadata]: [(u32, u32); 4],
    timeout: Duration,
    is_stream: bool,
) -> Result<(u32, OpenGrpc), Status> {
    const FAILURE: Status = Status::InternalFailure;
    let read = |(at, size)| slice(memory, at, size);
    let upstream = upstream_name(read(upstream)?).ok_or(Status::ParseFailure)?;
    let head = head(read(service)?, read(method)?, read(metadata)?, timeout).ok_or(Status::ParseFailure)?;
    if !state.environment.may_call(&state.plugin, upstream) || state.is_full_of_calls() {
        return Err(FAILURE);
    }
    let id = state.number(if is_stream { Number::GrpcStream } else { Number::GrpcCall });
    let messages = Messages::default();
    state.grpc_outbox.push(GrpcCall { id, upstream: upstream.into(), head, messages: messages.clone(), timeout });
    Ok((id, OpenGrpc::new(messages, is_stream)))
}

fn head(service: &[u8], method: &[u8], metadata: &[u8], timeout: Duration) -> Option<request::Parts> {
    let path = [b"/", service, b"/", method].concat();
    let mut head = no_request();
    for (name, value) in pairs::decode(metadata).ok()? {
        let name = HeaderName::from_bytes(name).ok()?;
        if !crate::abi::fields::is_framing(&name) {
            head.headers.try_append(name, HeaderValue::from_bytes(value).ok()?).ok()?;
        }
    }
    head.headers.remove(HOST);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert(TE, HeaderValue::from_static("trailers"));
    let limit = format!("{}m", timeout.as_millis());
    head.headers.insert("grpc-timeout", HeaderValue::try_from(limit).ok()?);
    head.method = Method::POST;
    head.uri = Uri::from(http::uri::PathAndQuery::from_maybe_shared(Bytes::from(path)).ok()?);
    Some(head)
}
