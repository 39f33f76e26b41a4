//! Answers of the proxy itself: the one place where a cause becomes a status.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use weir_telemetry::Cause;

use crate::body::ResponseBody;
use crate::filters::Answer;
use crate::grpc;
use crate::record::Record;

/// Names the cause in every answer that no endpoint made.
pub(crate) const CAUSE: HeaderName = HeaderName::from_static("x-weir-cause");

/// The status for a cause. Causes that only cut off have one too, for the case that nothing was sent yet.
pub(crate) fn status(cause: Cause) -> StatusCode {
    match cause {
        Cause::BadRequest | Cause::Garbage | Cause::TlsRequired | Cause::RequestAborted | Cause::DownstreamGone => {
            StatusCode::BAD_REQUEST
        }
        Cause::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        Cause::ConnectMethod => StatusCode::METHOD_NOT_ALLOWED,
        Cause::HeaderTimeout => StatusCode::REQUEST_TIMEOUT,
        Cause::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Cause::TargetTooLong => StatusCode::URI_TOO_LONG,
        Cause::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Cause::NoRoute => StatusCode::NOT_FOUND,
        Cause::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Cause::Denied => StatusCode::FORBIDDEN,
        Cause::NoDestination | Cause::Unresolved | Cause::Loop => StatusCode::INTERNAL_SERVER_ERROR,
        Cause::UpstreamClosed | Cause::UpstreamGarbage | Cause::UpstreamAborted | Cause::PluginReset => {
            StatusCode::BAD_GATEWAY
        }
        Cause::FairShare
        | Cause::UnknownService
        | Cause::NoEndpoint
        | Cause::Overflow
        | Cause::ConnectFailed
        | Cause::NoIdentity
        | Cause::ConnectTimeout
        | Cause::OutOfSockets
        | Cause::Drained
        | Cause::Fault
        | Cause::PluginFailed
        | Cause::PluginLength
        | Cause::PluginReply => StatusCode::SERVICE_UNAVAILABLE,
        Cause::RequestTimeout | Cause::PerTryTimeout | Cause::IdleTimeout | Cause::PluginTimeout => {
            StatusCode::GATEWAY_TIMEOUT
        }
    }
}

/// What the client reads, unless the request's record says it in detail. Says what happened, and no names or addresses
/// of the inside.
fn text(cause: Cause) -> &'static str {
    match cause {
        Cause::BadRequest => "the request is not valid HTTP\n",
        Cause::Garbage => "this is not an HTTP request\n",
        Cause::TlsRequired => "this is a port for HTTPS\n",
        Cause::Misdirected => "the connection was made to another host\n",
        Cause::HeaderTimeout => "the head of the request did not arrive in time\n",
        Cause::HeadTooLarge => "the head of the request is too large\n",
        Cause::TargetTooLong => "the target of the request is too long\n",
        Cause::BodyTooLarge => "the body of the request is too large\n",
        Cause::ConnectMethod => "CONNECT is not offered here\n",
        Cause::FairShare => "this client has as many requests under way as it leaves to others\n",
        Cause::UnknownService => "the configuration does not have this service\n",
        Cause::NoRoute => "no route of the service matches the request\n",
        Cause::RateLimited => "there were too many requests\n",
        Cause::Denied => "a policy denies this client the request\n",
        Cause::Fault => "the rule makes this request fail\n",
        Cause::PluginFailed => "a plugin that the request must pass has failed\n",
        Cause::PluginReset => "a plugin broke the request off\n",
        Cause::PluginTimeout => "a plugin held the request back for too long\n",
        Cause::PluginLength => "a plugin made the body longer than it may be\n",
        Cause::PluginReply => "a plugin answered\n",
        Cause::NoDestination => "the rule has no destination with a weight\n",
        Cause::Unresolved => "the destination of the rule does not exist\n",
        Cause::NoEndpoint => "no endpoint of the destination is ready\n",
        Cause::Loop => "the endpoint is the proxy itself\n",
        Cause::Overflow => "too many requests wait for the endpoint\n",
        Cause::ConnectFailed => "the endpoint cannot be reached\n",
        Cause::ConnectTimeout => "the endpoint did not accept the connection in time\n",
        Cause::OutOfSockets => "the node has no sockets left\n",
        Cause::NoIdentity => "the node has no valid certificate for the client\n",
        Cause::UpstreamClosed => "the endpoint closed the connection without a response\n",
        Cause::UpstreamGarbage => "the endpoint's response is not valid HTTP\n",
        Cause::RequestTimeout => "the request took longer than its rule allows\n",
        Cause::PerTryTimeout => "the endpoint took longer to answer than the rule allows\n",
        Cause::IdleTimeout => "nothing moved for too long\n",
        Cause::Drained => "the node stops and waits no longer\n",
        Cause::UpstreamAborted => "the endpoint broke its response off\n",
        Cause::DownstreamGone | Cause::RequestAborted => "the request broke off\n",
    }
}

/// The answer to a request that cannot be passed on. The connection is closed after it where the client's next bytes
/// cannot be trusted to be a request.
pub(crate) fn local(cause: Cause, record: &mut Record) -> Response<Bytes> {
    let status = status(cause);
    record.on_status(status.as_u16());
    record.on_local_reply(cause);
    let filters = record.filters.take();
    let text = record
        .detail
        .take()
        .map_or(Bytes::from_static(text(cause).as_bytes()), |detail| Bytes::from(detail.into_string()));
    let (is_call, is_stream) = (record.is_call, record.is_stream());
    // Whole seconds, and none too few.
    let again = record.retry_after.map(|wait| HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
    if is_call {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, grpc::TYPE);
        headers.insert(CAUSE, HeaderValue::from_static(cause.name()));
        headers.extend(again.map(|again| (RETRY_AFTER, again)));
        grpc::put_status(&mut headers, grpc::code(cause), &String::from_utf8_lossy(&text));
        record.on_status(StatusCode::OK.as_u16());
        record.on_fields(&headers);
        let mut response = Response::new(Bytes::new());
        *response.headers_mut() = headers;
        return response;
    }
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CAUSE, HeaderValue::from_static(cause.name()));
    headers.extend(again.map(|again| (RETRY_AFTER, again)));
    // What one request breaks, others on the connection have no part in.
    if !is_stream
        && matches!(cause, Cause::BadRequest | Cause::ConnectMethod | Cause::BodyTooLarge | Cause::RequestAborted)
    {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // Last, because it may name all of them.
    if let Some(filters) = filters {
        filters.on_answer(headers);
    }
    response
}

/// The answer that a rule gives itself.
pub(crate) fn answer(answer: Answer, record: &mut Record) -> Response<Bytes> {
    let Answer { status, mut headers, body, cause, has_cors } = answer;
    record.on_status(status.as_u16());
    record.on_fields(&headers);
    if let Some(cause) = cause {
        record.on_local_reply(cause);
        headers.insert(CAUSE, HeaderValue::from_static(cause.name()));
    }
    let filters = record.filters.take().filter(|_| has_cors);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let Some(filters) = filters {
        filters.on_answer(response.headers_mut());
    }
    response
}

/// An answer as it goes to the client.
pub(crate) fn sent(response: Response<Bytes>, record: Record) -> Response<ResponseBody> {
    response.map(|body| if body.is_empty() { ResponseBody::nothing(record) } else { ResponseBody::text(record, body) })
}

/// An answer to bytes that are no request at all, as it goes on the wire.
pub(crate) fn raw(cause: Cause) -> String {
    let (status, text) = (status(cause), text(cause));
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n{CAUSE}: {}\r\n\r\n{text}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        text.len(),
        cause.name(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_an_error_and_has_a_text() {
        for cause in Cause::ALL {
            assert!(status(cause).is_client_error() || status(cause).is_server_error(), "{cause:?}");
            assert!(text(cause).ends_with('\n'), "{cause:?}");
        }
    }

    #[test]
    fn a_raw_answer_is_a_whole_response() {
        let raw = raw(Cause::HeaderTimeout);
        let (head, body) = raw.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert!(head.contains("x-weir-cause: header_timeout"), "{head}");
    }
}
