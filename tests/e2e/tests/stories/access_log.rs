//! The access log: what it tells of real pods' requests, and that it follows who moves it away.

use std::fs;

use serde_json::Value;
use weir_e2e::{RECOGNITION, Story, Terrain, rule, until};

fn lines(story: &Story) -> Vec<Value> {
    let text = fs::read_to_string(story.folder().join("access.log")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[track_caller]
fn await_line(story: &Story, path: &str) -> Value {
    until("a line of the access log", || {
        let lines = lines(story);
        let found = lines.iter().find(|line| line["path"] == path);
        found.cloned().ok_or_else(|| format!("none about {path} in {lines:#?}"))
    })
}

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
    let canary = await_line(&story, "/canary");
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
    let plain = await_line(&story, "/plain");
    assert_eq!((&plain["rule"], &plain["version"]), (&Value::Null, &Value::from("v1")), "{plain}");
    let closed = await_line(&story, "/closed");
    assert_eq!((closed["status"].as_u64(), &closed["destination"]), (Some(503), &Value::Null), "{closed}");

    // As logrotate does it.
    let path = story.folder().join("access.log");
    fs::rename(&path, path.with_extension("old")).unwrap();
    assert_eq!(ask("/moved", &[]), "200 v1");
    await_line(&story, "/moved");
    assert_eq!(lines(&story).len(), 1);
}
