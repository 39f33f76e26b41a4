use http::Request;

use super::*;

fn parts(target: &str, headers: &[(&str, &str)]) -> request::Parts {
    let builder = headers.iter().fold(Request::get(target), |builder, (name, value)| builder.header(*name, *value));
    builder.body(()).unwrap().into_parts().0
}

fn shown(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

#[test]
fn heads_that_are_refused() {
    type Lines = &'static [(&'static str, &'static str)];
    let cases: [(Lines, Result<(), Cause>); 4] = [
        (&[("host", "a")], Ok(())),
        (&[("host", "")], Ok(())),
        (&[], Err(Cause::BadRequest)),
        (&[("host", "a"), ("host", "b")], Err(Cause::BadRequest)),
    ];
    for (headers, expected) in cases {
        assert_eq!(check(&parts("/", headers)), expected, "{headers:?}");
    }
    let mut connect = parts("/", &[("host", "a")]);
    connect.method = Method::CONNECT;
    assert_eq!(check(&connect), Err(Cause::ConnectMethod));
}

#[test]
fn what_concerns_one_connection_is_removed() {
    let mut head = parts(
        "/",
        &[
            ("host", "a"),
            ("connection", "close, X-Secret , host, keep-alive"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "websocket"),
            ("x-request-id", "kept"),
            ("traceparent", "00-1-2-3"),
        ],
    );
    assert_eq!(prepare_request(&mut head, &HeaderValue::from_static("10.0.0.1"), &Random::new()), Upgrading::No);
    assert_eq!(
        shown(&head.headers),
        [
            "host: a",
            "traceparent: 00-1-2-3",
            "x-forwarded-for: 10.0.0.1",
            "x-forwarded-proto: http",
            "x-request-id: kept"
        ]
    );
}

#[test]
fn forwarding_headers_are_appended_to_or_kept() {
    let given =
        [("host", "a"), ("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2"), ("x-forwarded-proto", "https")];
    let mut head = parts("/", &given);
    prepare_request(&mut head, &HeaderValue::from_static("10.0.0.1"), &Random::new());
    assert_eq!(head.headers["x-forwarded-for"], "1.1.1.1, 2.2.2.2, 10.0.0.1");
    assert_eq!(head.headers["x-forwarded-proto"], "https");
    let id = head.headers["x-request-id"].to_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[test]
fn a_whole_uri_becomes_host_and_path() {
    let mut head = parts("http://user@real:81/path?q=1", &[("host", "claimed")]);
    prepare_request(&mut head, &HeaderValue::from_static("10.0.0.1"), &Random::new());
    assert_eq!(
        (head.uri.to_string().as_str(), &head.headers["host"]),
        ("/path?q=1", &HeaderValue::from_static("real:81"))
    );
}

#[test]
fn upgrades_that_are_passed_on() {
    for (connection, upgrade, expected) in [
        ("Upgrade", "websocket", Upgrading::Yes),
        ("keep-alive, upgrade", "websocket", Upgrading::Yes),
        ("keep-alive", "websocket", Upgrading::No),
        ("Upgrade, HTTP2-Settings", "h2c", Upgrading::No),
    ] {
        let mut head = parts("/", &[("host", "a"), ("connection", connection), ("upgrade", upgrade)]);
        let upgrading = prepare_request(&mut head, &HeaderValue::from_static("10.0.0.1"), &Random::new());
        assert_eq!(upgrading, expected, "{connection} {upgrade}");
        assert_eq!(head.headers.contains_key("upgrade"), expected == Upgrading::Yes, "{connection} {upgrade}");
    }
}
