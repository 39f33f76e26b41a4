//! What a proxy changes in the heads of messages.

mod trace;

use std::borrow::Cow;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, Version, request};
use weir_core::filter::Scheme;
use weir_core::share::Share;
use weir_telemetry::Cause;

pub(crate) use self::trace::id as trace_id;
use crate::random::Random;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What proxies say of the client behind them.
static OF_PROXIES: [HeaderName; 5] = [
    FORWARDED_FOR,
    FORWARDED_PROTO,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    http::header::FORWARDED,
];

/// Headers that have another value in every message.
static OF_ONE_MESSAGE: [HeaderName; 2] = [REQUEST_ID, trace::PARENT];

const HOPS: usize = 6;

/// Headers that concern one connection only (RFC 9110, section 7.6.1).
static HOP_BY_HOP: [HeaderName; HOPS] = [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION];

/// Brings the head of a request into the one form that everything else looks at: a path as its target, and the host in
/// `Host`; of `CONNECT`, where it is passed on, an authority as its target. Refuses what the parser lets through and what
/// must not be passed on.
pub(crate) fn normalise(head: &mut request::Parts, passes_connect: bool) -> Result<(), Cause> {
    if head.method == Method::CONNECT && (!passes_connect || head.version == Version::HTTP_2) {
        return Err(Cause::ConnectMethod);
    }
    if let Some(authority) = head.uri.authority() {
        let host = checked_host(head, authority)?;
        head.headers.insert(HOST, host);
        if head.method != Method::CONNECT {
            let uri = std::mem::take(&mut head.uri).into_parts();
            head.uri = Uri::from(uri.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")));
        }
    } else if head.method == Method::CONNECT {
        return Err(Cause::BadRequest);
    }
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    // Chunks are undone on the way in and made anew on the way out; any other coding would be lost with them.
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let has_other_coding = head.headers.get(TRANSFER_ENCODING).is_some_and(|coding| !is_chunked(coding));
    // Exactly one Host, empty or not, in HTTP/1.1 (RFC 9112, section 3.2), and one way to say so in HTTP/2. And at most
    // one length: whoever looks at another one of two sees another request, so that even equal ones are refused.
    let headers = &head.headers;
    let is_missing = head.version >= Version::HTTP_11 && !headers.contains_key(HOST);
    let is_repeated = |name| headers.get_all(name).iter().nth(1).is_some();
    // Most requests repeat nothing.
    let has_repeated = headers.len() > headers.keys_len();
    let has_twice = has_repeated && [HOST, CONTENT_LENGTH, TRANSFER_ENCODING].into_iter().any(is_repeated);
    if is_missing || has_other_coding || has_twice {
        return Err(Cause::BadRequest);
    }
    Ok(())
}

/// `Host`, made of the authority in the target. The two must not differ (RFC 9112, section 3.2; RFC 9113, section
/// 8.3.1): what routes by one of them and what answers by the other would not mean the same request.
fn checked_host(head: &request::Parts, authority: &Authority) -> Result<HeaderValue, Cause> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let is_missing = head.version == Version::HTTP_11 && !head.headers.contains_key(HOST);
    let differs = |host: &HeaderValue| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
    // User information has no place in a request (RFC 9110, section 4.2.4).
    if is_missing || authority.as_str().contains('@') || hosts.any(differs) {
        return Err(Cause::BadRequest);
    }
    HeaderValue::try_from(authority.as_str()).map_err(|_| Cause::BadRequest)
}

/// Joins what HTTP/2 lets a client send in pieces (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(second)) = (all.next(), all.next()) {
        let pieces: Vec<&[u8]> = [first, second].into_iter().chain(all).map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
    }
}

/// The protocol that a request wants to change to, if it may. HTTP/2 is not among them: its requests would be out of
/// the rules' sight.
fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let names_it = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let is_http = protocol.as_bytes().get(..2).is_none_or(|start| start.eq_ignore_ascii_case(b"h2"));
    (names_it && !is_http).then(|| protocol.clone())
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Removes what concerns one connection only, and what `Connection` names. Headers that say where a message goes and
/// where it ends stay, whatever `Connection` says; and of `TE` what holds from end to end, on which gRPC insists:
/// whether trailers are welcome.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let mut present = [false; HOPS];
    for name in headers.keys() {
        for (position, hop) in HOP_BY_HOP.iter().enumerate() {
            present[position] |= name == hop;
        }
    }
    if present[0] {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION).filter_map(|token| token.parse().ok()).collect();
        for name in named.iter().filter(|name| ![HOST, CONTENT_LENGTH, TE].contains(name)) {
            headers.remove(name);
        }
    }
    let takes_trailers = present[1] && tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    for (hop, _) in HOP_BY_HOP.iter().zip(present).filter(|(_, present)| *present) {
        headers.remove(hop);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether a request asks for another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrading {
    Yes,
    No,
}

/// The host that a request is for, in lower case, without a port and a dot at its end; empty where it says none. The head
/// must be normalised.
pub(crate) fn host(headers: &HeaderMap) -> Cow<'_, str> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(host, _)| host);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// What endpoints are told of whoever sends a request.
pub(crate) struct Client {
    /// The address as it stands in `x-forwarded-for`.
    pub(crate) address: HeaderValue,
    /// What clients outside the mesh say of others is not believed.
    pub(crate) is_outside: bool,
    /// How the client speaks to the proxy.
    pub(crate) scheme: Scheme,
}

/// Makes the head of a request ready for an endpoint. The head must be normalised.
///
/// `x-forwarded-for` is appended to, not replaced: a gateway in a pod names its clients there. Its last entry is the
/// address that this node's kernel has checked, and the only one to trust. `x-forwarded-proto` and `x-request-id` are
/// kept where they are and made where they are not; so is `traceparent`, where `traces` says which share of new traces is
/// to be recorded. What clients outside the mesh say of `x-forwarded-...` is not believed, and goes.
pub(crate) fn prepare_request(
    head: &mut request::Parts,
    client: &Client,
    traces: Option<Share>,
    random: &Random,
) -> Upgrading {
    let headers = &mut head.headers;
    let upgrade = wanted_upgrade(headers);
    strip_hop_by_hop(headers);
    if client.is_outside {
        OF_PROXIES.iter().for_each(|name| drop(headers.remove(name)));
    }
    forwarded_for(headers, &client.address);
    if !headers.contains_key(FORWARDED_PROTO) {
        let scheme = match client.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, request_id(random));
    }
    if let Some(sampled) = traces {
        trace::begin(headers, sampled, random);
    }
    match upgrade {
        Some(protocol) => {
            headers.insert(UPGRADE, protocol);
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            Upgrading::Yes
        }
        None if head.method == Method::CONNECT => Upgrading::Yes,
        None => Upgrading::No,
    }
}

fn forwarded_for(headers: &mut HeaderMap, peer: &HeaderValue) {
    let value = if headers.contains_key(FORWARDED_FOR) {
        let mut all = Vec::new();
        for value in headers.get_all(FORWARDED_FOR) {
            all.extend_from_slice(value.as_bytes());
            all.extend_from_slice(b", ");
        }
        all.extend_from_slice(peer.as_bytes());
        HeaderValue::from_maybe_shared(bytes::Bytes::from(all)).unwrap_or_else(|_| peer.clone())
    } else {
        peer.clone()
    };
    headers.insert(FORWARDED_FOR, value);
}

fn request_id(random: &Random) -> HeaderValue {
    HeaderValue::from_bytes(&hex(random)).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// A random number of 128 bits in digits.
fn hex(random: &Random) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = (u128::from(random.next()) << 64) | u128::from(random.next());
    std::array::from_fn(|position| DIGITS[(bits >> (124 - 4 * position)) as usize & 15])
}

/// Keeps what is of one message alone out of the tables of HPACK (RFC 7541, section 7.1.3): it would push out what comes
/// again, and comparing it with all those that came before costs more than sending it.
pub(crate) fn keep_out_of_tables(headers: &mut HeaderMap) {
    for name in &OF_ONE_MESSAGE {
        headers.get_mut(name).into_iter().for_each(|value| value.set_sensitive(true));
    }
}

/// Makes the head of a response ready for the client.
pub(crate) fn prepare_response(headers: &mut HeaderMap, upgraded: Upgrading) {
    let protocol = if upgraded == Upgrading::Yes { headers.get(UPGRADE).cloned() } else { None };
    strip_hop_by_hop(headers);
    if let Some(protocol) = protocol {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

#[cfg(test)]
mod tests;
