//! The access log: what it tells of real pods' requests, and that it follows who moves it away.

use std::fs;

use serde_json::Value;
use weir_e2e::{RECOGNITION, Story, Terrain, rule};

#[test]
fn each_request_has_a_line_with_its_source_rule_version_and_mirror() {
    let to_v2 = "{match: {headers: {x-user-tag: {exact: canary-user}}},
                  route: {destination: {host: service-canary, port: 8080}},
                  mirror: {destination: {host: shadow}, methods: ['*']}}";
    let closed = "{match: {path: {exact: /closed}}, directResponse: {status: 503, body: closed}}";
    let story =
        Story::begin(&Terrain::standard().file("rules.yaml", [rule("to-v2", to_v2), rule("closed", closed)].concat()));
    let ask = |path: &str, lines: &[&str]| story.get("client", &format!("http://{}{path}", RECOGNITION[0]), lines);
    assert_eq!(ask("/canary?plate=1", &["x-user-tag: canary-user"]), "200 v2");
    assert_eq!(ask("/plain", &[]), "200 v1");
    assert_eq!(story.curl("client", &[&format!("http://{}/closed", RECOGNITION[0])]).status, 503);
    let canary = &story.await_access("/canary", 1)[0];
    for (field, expected) in [
        ("source", "default/client"),
        ("service", "default/vehicle-recognition:80"),
        ("rule", "RouteRule default/to-v2"),
        ("destination", "default/service-canary:8080"),
        ("version", "v2"),
        ("host", RECOGNITION[0]),
    ] {
        assert_eq!(canary[field], expected, "{canary}");
    }
    assert_eq!(canary["mirrors"][0], "default/shadow:80", "{canary}");
    assert_eq!(canary["revision"].as_u64(), Some(story.admin.sequence()), "{canary}");
    let plain = &story.await_access("/plain", 1)[0];
    assert_eq!((&plain["rule"], &plain["version"]), (&Value::Null, &Value::from("v1")), "{plain}");
    let closed = &story.await_access("/closed", 1)[0];
    assert_eq!((closed["status"].as_u64(), &closed["destination"]), (Some(503), &Value::Null), "{closed}");

    // As logrotate does it.
    let path = story.folder().join("access.log");
    fs::rename(&path, path.with_extension("old")).unwrap();
    assert_eq!(ask("/moved", &[]), "200 v1");
    story.await_access("/moved", 1);
    assert_eq!(story.access_log().len(), 1);
}
