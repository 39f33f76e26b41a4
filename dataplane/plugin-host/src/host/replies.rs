//! Going on, answering, breaking off.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::memory::{Guest, slice, split};
use crate::abi::{Answer, Direction, Status, StreamKind, pairs};
use crate::stream::LocalReply;

/// `proxy_continue_stream`.
pub(super) fn continue_stream(guest: &mut Guest<'_>, kind: u32) -> Answer {
    let StreamKind { is_http, direction } = StreamKind::parse(kind)?;
    check_kind(guest, is_http)?;
    resume(guest, direction)
}

/// `proxy_continue_request`, of version 0.1.0.
pub(super) fn continue_request(guest: &mut Guest<'_>) -> Answer {
    resume(guest, Direction::Request)
}

/// `proxy_continue_response`, of version 0.1.0.
pub(super) fn continue_response(guest: &mut Guest<'_>) -> Answer {
    resume(guest, Direction::Response)
}

fn resume(guest: &mut Guest<'_>, direction: Direction) -> Answer {
    guest.data_mut().stream()?.resume(direction);
    Ok(())
}

/// `proxy_close_stream`.
pub(super) fn close_stream(guest: &mut Guest<'_>, kind: u32) -> Answer {
    check_kind(guest, StreamKind::parse(kind)?.is_http)?;
    guest.data_mut().stream()?.reset();
    Ok(())
}

/// Whether what the plugin is called for is an exchange of HTTP, or a connection that is none.
fn check_kind(guest: &mut Guest<'_>, is_http: bool) -> Answer {
    let is_right = guest.data_mut().stream()?.facts.version.is_some() == is_http;
    is_right.then_some(()).ok_or_else(|| Status::BadArgument.into())
}

/// `proxy_clear_route_cache`, of version 0.1.0: nothing is chosen before plugins have seen a request.
pub(super) fn clear_route_cache(_: &mut Guest<'_>) -> Answer {
    Ok(())
}

/// `proxy_send_local_response`.
#[expect(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn send(
    guest: &mut Guest<'_>,
    status: u32,
    details: u32,
    details_size: u32,
    body: u32,
    body_size: u32,
    headers: u32,
    headers_size: u32,
    grpc: u32,
) -> Answer {
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.filter(|one| !one.is_informational() && one.as_u16() <= 599).ok_or(Status::BadArgument)?;
    let (memory, state) = split(guest)?;
    let fields = fields(slice(memory, headers, headers_size)?)?;
    let body = slice(memory, body, body_size)?;
    if body.len() > state.plugin.options.limits.body {
        return Err(Status::BadArgument.into());
    }
    let reply = LocalReply {
        status,
        headers: fields,
        body: Bytes::copy_from_slice(body),
        grpc_status: (grpc.cast_signed() >= 0).then_some(grpc),
        details: String::from_utf8_lossy(slice(memory, details, details_size)?).into(),
    };
    let stream = state.stream()?;
    if stream.facts.version.is_none() {
        return Err(Status::BadArgument.into());
    }
    stream.answer(reply);
    Ok(())
}

/// Headers of an answer. How its body is framed belongs to the proxy.
fn fields(list: &[u8]) -> Result<HeaderMap, Status> {
    const BAD: Status = Status::BadArgument;
    let mut fields = HeaderMap::new();
    for (name, value) in pairs::decode(list)? {
        if name == b":status" {
            continue;
        }
        let name = HeaderName::from_bytes(name).map_err(|_| BAD)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| BAD)?;
        if !crate::abi::fields::is_framing(&name) {
            fields.try_append(name, value).map_err(|_| BAD)?;
        }
    }
    Ok(fields)
}
