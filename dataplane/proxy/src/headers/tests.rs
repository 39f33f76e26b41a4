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

/// A client in the mesh.
fn client() -> Client {
    Client { address: HeaderValue::from_static("10.0.0.1"), is_outside: false, scheme: Scheme::Http }
}

#[test]
fn heads_that_are_refused() {
    type Lines = &'static [(&'static str, &'static str)];
    let (ok, refused) = (Ok(()), Err(Cause::BadRequest));
    let cases: [(&str, Lines, _); 12] = [
        ("/", &[("host", "a")], ok),
        ("/", &[("host", "")], ok),
        ("/", &[], refused),
        ("/", &[("host", "a"), ("host", "b")], refused),
        ("/", &[("host", "a"), ("host", "a")], refused),
        ("/", &[("host", "a"), ("content-length", "3")], ok),
        ("/", &[("host", "a"), ("content-length", "3"), ("content-length", "3")], refused),
        ("http://a/", &[("host", "A")], ok),
        ("http://a:80/", &[("host", "a")], refused),
        ("http://a/", &[("host", "b")], refused),
        ("http://a/", &[], refused),
        ("http://user@a/", &[("host", "user@a")], refused),
    ];
    for (target, headers, expected) in cases {
        assert_eq!(normalise(&mut parts(target, headers), false), expected, "{target} {headers:?}");
    }
    let mut connect = parts("/", &[("host", "a")]);
    connect.method = Method::CONNECT;
    assert_eq!(normalise(&mut connect, false), Err(Cause::ConnectMethod));
}

#[test]
fn heads_of_http2_get_the_form_of_http1() {
    let cases: [(&str, &[(&str, &str)], Option<&[&str]>); 5] = [
        ("http://a:81/path?q=1", &[], Some(&["host: a:81"])),
        ("http://a/", &[("host", "a")], Some(&["host: a"])),
        ("/", &[("host", "a")], Some(&["host: a"])),
        (
            "http://a/",
            &[("cookie", "x=1"), ("cookie", "y=2"), ("cookie", "z=3")],
            Some(&["cookie: x=1; y=2; z=3", "host: a"]),
        ),
        ("http://a/", &[("host", "b")], None),
    ];
    for (target, headers, expected) in cases {
        let mut head = parts(target, headers);
        head.version = Version::HTTP_2;
        let is_ok = normalise(&mut head, false).is_ok();
        assert_eq!(
            is_ok.then(|| shown(&head.headers)),
            expected.map(|lines| lines.iter().map(|line| line.to_string()).collect()),
            "{target}"
        );
        assert!(!is_ok || head.uri.authority().is_none(), "{target}");
    }
}

#[test]
fn what_concerns_one_connection_is_removed() {
    let mut head = parts(
        "/",
        &[
            ("host", "a"),
            ("connection", "close, X-Secret , host, te, keep-alive"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip;q=0.5, trailers"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "websocket"),
            ("x-request-id", "kept"),
            ("traceparent", "00-1-2-3"),
        ],
    );
    assert_eq!(prepare_request(&mut head, &client(), None, &Random::new()), Upgrading::No);
    assert_eq!(
        shown(&head.headers),
        [
            "host: a",
            "te: trailers",
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
    prepare_request(&mut head, &client(), None, &Random::new());
    assert_eq!(head.headers["x-forwarded-for"], "1.1.1.1, 2.2.2.2, 10.0.0.1");
    assert_eq!(head.headers["x-forwarded-proto"], "https");
    let id = head.headers["x-request-id"].to_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[test]
fn hosts_lose_their_case_and_port() {
    for (said, expected) in [
        ("a.example.com", "a.example.com"),
        ("A.Example.COM:8080", "a.example.com"),
        ("a.example.com.:80", "a.example.com"),
        ("a:", "a"),
        ("[fd00::1]:80", "[fd00::1]"),
        ("[fd00::1]", "[fd00::1]"),
        ("a:b", "a:b"),
        ("", ""),
    ] {
        assert_eq!(host(&parts("/", &[("host", said)]).headers), expected, "{said}");
    }
    assert_eq!(host(&parts("/", &[]).headers), "");
}

#[test]
fn a_whole_uri_becomes_host_and_path() {
    let mut head = parts("http://real:81/path?q=1", &[("host", "REAL:81")]);
    assert_eq!(normalise(&mut head, false), Ok(()));
    let host = &HeaderValue::from_static("real:81");
    assert_eq!((head.uri.to_string().as_str(), &head.headers["host"]), ("/path?q=1", host));
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
        let upgrading = prepare_request(&mut head, &client(), None, &Random::new());
        assert_eq!(upgrading, expected, "{connection} {upgrade}");
        assert_eq!(head.headers.contains_key("upgrade"), expected == Upgrading::Yes, "{connection} {upgrade}");
    }
}

#[test]
fn what_is_of_one_message_alone_is_kept_out_of_the_tables_of_hpack() {
    let lines = [("x-request-id", "1"), ("traceparent", "00-1-2-01"), ("x-forwarded-for", "10.0.0.1"), ("host", "a")];
    let mut headers = parts("/", &lines).headers;
    keep_out_of_tables(&mut headers);
    let kept_out: Vec<_> = lines.iter().map(|(name, _)| headers[*name].is_sensitive()).collect();
    assert_eq!(kept_out, [true, true, false, false]);
}
