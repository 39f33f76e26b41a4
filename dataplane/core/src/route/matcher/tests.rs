use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::route::Source;

/// A request written as `METHOD /path?query`, followed by `name: value` lines.
fn check(matcher: &Matcher, request: &str, expected: Result<(), &str>) {
    let mut lines = request.lines().map(str::trim);
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let method = method.parse().unwrap();
    let source = Source { address: IpAddr::V4(Ipv4Addr::LOCALHOST), workload: None };
    let request = Request { method: &method, path, query, headers: &headers, source, attributes: &[] };
    let found = matcher.mismatch(&request).map(|mismatch| mismatch.describe(&request));
    assert_eq!(found.as_deref(), expected.err(), "{matcher} against {request:?}");
}

fn on(field: Field, text: TextMatch) -> Matcher {
    Matcher { conditions: vec![Condition { field, text }], ..Matcher::default() }
}

fn header(text: TextMatch) -> Matcher {
    on(Field::Header(HeaderName::from_static("x-user-tag")), text)
}

fn regex(pattern: &str) -> Regex {
    Regex::new(&format!("^(?:{pattern})$")).unwrap()
}

#[test]
fn header_conditions() {
    let exact = header(TextMatch::Exact("canary-user".into()));
    check(&exact, "GET /\nx-user-tag: canary-user", Ok(()));
    check(&exact, "GET /\nX-User-Tag: other\nx-user-tag: canary-user", Ok(()));
    check(&exact, "GET /", Err("header x-user-tag must be exactly \"canary-user\", it is absent"));
    check(
        &exact,
        "GET /\nx-user-tag: Canary-User",
        Err("header x-user-tag must be exactly \"canary-user\", it is \"Canary-User\""),
    );
    check(&header(TextMatch::Prefix("canary-".into())), "GET /\nx-user-tag: canary-user", Ok(()));
    check(&header(TextMatch::Suffix("-user".into())), "GET /\nx-user-tag: canary-user", Ok(()));
    check(&header(TextMatch::Regex(regex("canary|beta"))), "GET /\nx-user-tag: beta", Ok(()));
    check(
        &header(TextMatch::Regex(regex("canary|beta"))),
        "GET /\nx-user-tag: beta2",
        Err("header x-user-tag must be regex \"canary|beta\", it is \"beta2\""),
    );
    check(&header(TextMatch::Present), "GET /\nx-user-tag: x", Ok(()));
    check(&header(TextMatch::Present), "GET /", Err("header x-user-tag must be present, it is absent"));
    check(&header(TextMatch::Absent), "GET /", Ok(()));
    check(&header(TextMatch::Absent), "GET /\nx-user-tag: x", Err("header x-user-tag must be absent, it is \"x\""));
}

#[test]
fn path_conditions() {
    let path = |path| Matcher { path: Some(path), ..Matcher::default() };
    check(&path(PathMatch::prefix("/v2/")), "GET /v2", Ok(()));
    check(&path(PathMatch::prefix("/v2")), "GET /v2/x?y=1", Ok(()));
    check(
        &path(PathMatch::prefix("/v2")),
        "GET /v2example",
        Err("the path must be prefix \"/v2\" in whole segments, it is \"/v2example\""),
    );
    check(&path(PathMatch::prefix("/")), "GET /anything", Ok(()));
    check(&path(PathMatch::Exact("/a".into())), "GET /a?b=c", Ok(()));
    check(&path(PathMatch::Exact("/a".into())), "GET /a/", Err("the path must be exactly \"/a\", it is \"/a/\""));
    check(&path(PathMatch::Suffix(".jpg".into())), "GET /p/1.jpg", Ok(()));
    check(&path(PathMatch::Regex(regex("/u/[0-9]+"))), "GET /u/12", Ok(()));
    check(
        &path(PathMatch::Regex(regex("/u/[0-9]+"))),
        "GET /u/12/x",
        Err("the path must be regex \"/u/[0-9]+\", it is \"/u/12/x\""),
    );
}

#[test]
fn cookies_queries_and_methods() {
    let cookie = on(Field::Cookie("user".into()), TextMatch::Exact("ann".into()));
    check(&cookie, "GET /\ncookie: a=b; user=ann", Ok(()));
    check(&cookie, "GET /\ncookie: a=b\ncookie: user=ann", Ok(()));
    check(&cookie, "GET /\ncookie: xuser=ann", Err("cookie user must be exactly \"ann\", it is absent"));
    let query = on(Field::Query("name".into()), TextMatch::Exact("a b".into()));
    check(&query, "GET /?x=1&name=a%20b", Ok(()));
    check(&query, "GET /?name=a+b", Ok(()));
    check(&query, "GET /?name=a", Err("query parameter name must be exactly \"a b\", it is \"a\""));
    check(&on(Field::Query("debug".into()), TextMatch::Present), "GET /?debug", Ok(()));
    let methods = Matcher { methods: vec![Method::GET, Method::HEAD], ..Matcher::default() };
    check(&methods, "HEAD /", Ok(()));
    check(&methods, "POST /", Err("the method must be GET or HEAD, it is POST"));
}

#[test]
fn every_condition_counts_and_none_matches_everything() {
    let mut both = header(TextMatch::Present);
    both.conditions.push(Condition { field: Field::Query("v".into()), text: TextMatch::Present });
    check(&both, "GET /?v=1\nx-user-tag: a", Ok(()));
    check(&both, "GET /\nx-user-tag: a", Err("query parameter v must be present, it is absent"));
    check(&Matcher::default(), "DELETE /x", Ok(()));
    assert_eq!(Matcher::default().to_string(), "every request");
    assert_eq!(both.to_string(), "header x-user-tag present and query parameter v present");
}

#[test]
fn a_value_that_is_not_text_is_present_but_equals_nothing() {
    let mut headers = HeaderMap::new();
    headers.insert("x-user-tag", HeaderValue::from_bytes(b"\xff").unwrap());
    let source = Source { address: IpAddr::V4(Ipv4Addr::LOCALHOST), workload: None };
    let request = Request { method: &Method::GET, path: "/", query: None, headers: &headers, source, attributes: &[] };
    assert!(header(TextMatch::Present).mismatch(&request).is_none());
    assert!(header(TextMatch::Absent).mismatch(&request).is_some());
    assert!(header(TextMatch::Prefix("".into())).mismatch(&request).is_some());
}
