//! Heads of requests, as hyper and h2 hand them over: whatever they say, what goes to an endpoint has one host, one form of
//! target and nothing of the connection that it came by, and of hosts the same listener is found as by trying all.
#![no_main]

#[path = "../../../dataplane/proxy/src/headers/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "a module of the proxy, by itself")]
mod headers;
#[path = "../../../dataplane/proxy/src/random.rs"]
mod random;

use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::{Method, Request, Uri, Version, request};
use libfuzzer_sys::fuzz_target;
use weir_core::filter::Scheme;
use weir_core::gateway::{Hostname, Hosts};
use weir_core::share::Share;

use self::headers::{Client, Upgrading, host, normalise, prepare_request, prepare_response, trace_id};
use self::random::Random;

fuzz_target!(|data: &[u8]| {
    let Some(head) = head(data) else { return };
    let version = head.version;
    let mut normal = head.clone();
    let passes_connect = data.len() % 2 == 0;
    if normalise(&mut normal, passes_connect).is_err() {
        return;
    }
    let mut again = normal.clone();
    normalise(&mut again, passes_connect).expect("what is normal stays so");
    assert_eq!((&again.uri, &again.headers), (&normal.uri, &normal.headers));
    let is_connect = normal.method == Method::CONNECT;
    assert!(normal.uri.authority().is_some() == is_connect && normal.uri.scheme().is_none(), "{:?}", normal.uri);
    assert!(passes_connect || !is_connect);
    assert!(normal.headers.get_all(HOST).iter().count() <= 1);
    let named = host(&normal.headers).into_owned();
    assert!(named.bytes().all(|byte| !byte.is_ascii_uppercase()));
    found_as_by_trying(&named);

    for (is_outside, scheme) in [(true, Scheme::Https), (false, Scheme::Http)] {
        let mut sent = normal.clone();
        let client = Client { address: HeaderValue::from_static("192.0.2.1"), is_outside, scheme };
        let upgrading = prepare_request(&mut sent, &client, Some(Share::ALL), &Random::new());
        let get = |name: &str| sent.headers.get(name).map(HeaderValue::as_bytes);
        assert!(get("x-forwarded-for").is_some_and(|list| list.ends_with(b"192.0.2.1")));
        if is_outside {
            assert_eq!(
                (get("x-forwarded-for"), get("x-forwarded-proto")),
                (Some(&b"192.0.2.1"[..]), Some(&b"https"[..]))
            );
            assert!(["x-forwarded-host", "x-forwarded-port", "forwarded"].iter().all(|name| get(name).is_none()));
        }
        assert!(get("x-request-id").is_some() && trace_id(&sent.headers).is_some());
        only_for_the_next(&sent.headers, upgrading == Upgrading::Yes && !is_connect);
        // What the request names as its connection's alone is gone; who gets it and where it ends are not its to name.
        let tokens = normal.headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        for name in
            tokens.flat_map(|value| value.split(',')).filter_map(|token| token.trim().parse::<HeaderName>().ok())
        {
            let is_made_anew = [UPGRADE, CONNECTION, TE, HOST, http::header::CONTENT_LENGTH].contains(&name)
                || ["x-forwarded-for", "x-forwarded-proto", "x-request-id", "traceparent"].contains(&name.as_str());
            assert!(is_made_anew || !sent.headers.contains_key(&name), "{name}");
        }
        assert_eq!(sent.headers.get(HOST), normal.headers.get(HOST));
    }
    let mut response = head.headers;
    prepare_response(&mut response, Upgrading::No);
    only_for_the_next(&response, false);
    assert!(version == normal.version);
});

/// A method, a target, a version, and fields.
fn head(data: &[u8]) -> Option<request::Parts> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let method = Method::from_bytes(line()).ok()?;
    let target = Uri::try_from(line()).ok()?;
    let version = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][usize::from(*line().first()?) % 3];
    let mut request = Request::builder().method(method).uri(target).version(version);
    for field in lines.take(64) {
        let (name, value) = field.split_at(field.iter().position(|byte| *byte == b':').unwrap_or(0));
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.get(1..).unwrap_or_default()))
        {
            request = request.header(name, value);
        }
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// What concerns one connection is not there, but for a change of the protocol.
fn only_for_the_next(headers: &http::HeaderMap, is_upgrade: bool) {
    assert!(!headers.contains_key(TRANSFER_ENCODING) && !headers.contains_key("keep-alive"));
    assert_eq!((headers.contains_key(UPGRADE), headers.contains_key(CONNECTION)), (is_upgrade, is_upgrade));
    assert!(headers.get_all(TE).iter().all(|te| te == "trailers"));
}

/// The listener for a host is that of the most specific name that means it.
fn found_as_by_trying(host: &str) {
    let own = (!host.is_empty()).then(|| Hostname::Exact(host.into()));
    let suffix = host.split_once('.').map(|(_, rest)| Hostname::Suffix(format!(".{rest}").into()));
    let fixed = ["*.example.com", "*.com", "a.example.com"].map(Hostname::new);
    let names: Vec<Hostname> = own.into_iter().chain(suffix).chain(fixed).chain([Hostname::Any]).collect();
    for without in 0..names.len() {
        let some = names.iter().enumerate().filter(|(at, _)| *at != without).map(|(_, name)| name);
        let hosts: Hosts<Hostname> = some.clone().map(|name| (name.clone(), name.clone())).collect();
        let found = hosts.find(host);
        let tried = some.filter(|name| name.matches(host)).max_by_key(|name| name.specificity());
        // No name is that long: only what is for all of them means it.
        if host.len() > 253 {
            assert!(found.is_none_or(|name| *name == Hostname::Any));
        } else {
            assert_eq!(found, tried, "{host}");
        }
    }
}
