//! gRPC, as far as a proxy has to know it: what it is, how long it may take, and how failures are told
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use weir_telemetry::Cause;

pub(crate) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
pub(crate) const TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// Status codes (<https://grpc.io/docs/guides/status-codes>) that a proxy gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Cancelled = 1,
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Whether a request with these headers is a call.
pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    let Some(content) = headers.get(CONTENT_TYPE) else { return false };
    let rest = content.as_bytes().strip_prefix(TYPE.as_bytes());
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

/// How long the caller waits. What is not written as it should be is no bound, as if it were not there.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get(TIMEOUT)?.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(value * 3_600)),
        b'M' => Some(Duration::from_secs(value * 60)),
        b'S' => Some(Duration::from_secs(value)),
        b'm' => Some(Duration::from_millis(value)),
        b'u' => Some(Duration::from_micros(value)),
        b'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// The status for a cause. Callers repeat what is unavailable; what a second try cannot change is something else.
pub(crate) fn code(cause: Cause) -> Code {
    match cause {
        Cause::RequestTimeout | Cause::PerTryTimeout | Cause::PluginTimeout => Code::DeadlineExceeded,
        Cause::DownstreamGone | Cause::RequestAborted => Code::Cancelled,
        Cause::BodyTooLarge | Cause::HeadTooLarge | Cause::TargetTooLong => Code::ResourceExhausted,
        Cause::Denied => Code::PermissionDenied,
        Cause::NoRoute | Cause::ConnectMethod => Code::Unimplemented,
        Cause::BadRequest | Cause::Garbage | Cause::TlsRequired | Cause::HeaderTimeout | Cause::UpstreamGarbage => Code::Internal,
        // Also where a rule's destination does not resolve: `GRPCRoute` wants it so.
        Cause::Misdirected
        | Cause::NoDestination
        | Cause::PluginFailed
        | Cause::PluginLength
        | Cause::PluginReset
        | Cause::PluginReply
        | Cause::Unresolved
        | Cause::Loop
        | Cause::UnknownService
        | Cause::FairShare
        | Cause::NoEndpoint
        | Cause::Overflow
        | Cause::ConnectFailed
        | Cause::NoIdentity
        | Cause::ConnectTimeout
        | Cause::OutOfSockets
        | Cause::UpstreamClosed
        | Cause::UpstreamAborted
        | Cause::IdleTimeout
        | Cause::Drained
        // As in Envoy: it is worth another try, later.
        | Cause::RateLimited
        | Cause::Fault => Code::Unavailable,
    }
}

/// The end of a response that is cut off after its head.
pub(crate) fn trailers(cause: Cause) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    put_status(&mut trailers, code(cause), cause.name());
    trailers
}

/// Adds a status with its message to headers or trailers.
pub(crate) fn put_status(headers: &mut HeaderMap, code: Code, message: &str) {
    headers.insert(STATUS, HeaderValue::from(code as u16));
    headers.insert(MESSAGE, encode(message.trim_end()));
}

/// Percent-encoded, as `grpc-message` wants what is not printable ASCII.
fn encode(message: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The text of a `grpc-message`.
pub(crate) fn decode(encoded: &HeaderValue) -> String {
    let mut rest = encoded.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&first, after)) = rest.split_first() {
        let digit = |place: usize| after.get(place).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_call_is_known_by_its_content_type() {
        let cases = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ];
        for (content, expected) in cases {
            assert_eq!(is_call(&headers(CONTENT_TYPE, content)), expected, "{content}");
        }
    }

    #[test]
    fn timeouts_have_at_most_eight_digits_and_a_unit() {
        let cases = [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("5n", Some(Duration::from_nanos(5))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("0m", Some(Duration::ZERO)),
            ("123456789m", None),
            ("m", None),
            ("", None),
            ("1", None),
            ("-1S", None),
            ("1.5S", None),
            ("1s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(timeout(&headers(TIMEOUT, text)), expected, "{text:?}");
        }
    }

    #[test]
    fn messages_are_encoded() {
        let mut headers = HeaderMap::new();
        put_status(&mut headers, Code::Unavailable, "100 % gone: \u{e4}\n");
        assert_eq!(headers[STATUS], "14");
        assert_eq!(headers[MESSAGE], "100 %25 gone: %C3%A4");
        assert_eq!(decode(&headers[MESSAGE]), "100 % gone: ä");
        assert_eq!(decode(&HeaderValue::from_static("100% %2 %zz%")), "100% %2 %zz%");
    }
}
