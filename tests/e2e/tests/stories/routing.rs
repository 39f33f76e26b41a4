//! Which requests go where: conditions, precedence, destinations, timeouts, over the wire.

use std::time::Duration;

use weir_e2e::{CANARY, RECOGNITION, Story, Terrain, brief, rule};
use weir_lab::client::{Connection, Request};

/// The user's own rule, word for word apart from the group.
const USERS_RULE: &str = "apiVersion: GROUP
kind: RouteRule
metadata:
  name: user-header-canary
spec:
  match:
    headers:
      x-user-tag:
        exact: canary-user
  route:
    destination:
      host: service-canary
      port: 8080
";

const LIMIT: Duration = Duration::from_secs(10);

/// Status and server for a request to `vehicle-recognition` over a kept connection.
#[track_caller]
fn ask(connection: &mut Connection, method: &str, target: &str, headers: &[&str]) -> String {
    let mut request = Request::new(method, &format!("http://{}{target}", RECOGNITION[0])).unwrap();
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    match connection.exchange(&request, LIMIT) {
        Ok(response) => brief(&response),
        Err(error) => panic!("{method} {target} {headers:?}: {error}"),
    }
}

#[test]
fn the_users_rule_works_as_written_in_both_groups() {
    for group in ["gateway.example.com/v1", "weir.dev/v1"] {
        let story = Story::begin(&Terrain::standard().file("rule.yaml", USERS_RULE.replace("GROUP", group)));
        for vip in [format!("http://{}/", RECOGNITION[0]), format!("http://[{}]/", RECOGNITION[1])] {
            let cases: [(&[&str], &str); 5] = [
                (&["x-user-tag: canary-user"], "200 v2"),
                (&["X-USER-TAG: canary-user"], "200 v2"),
                (&[], "200 v1"),
                (&["x-user-tag: canary-users"], "200 v1"),
                (&["x-user: canary-user"], "200 v1"),
            ];
            for (headers, expected) in cases {
                assert_eq!(story.get("client", &vip, headers), expected, "{group} {vip} {headers:?}");
            }
        }
    }
}

/// Conditions of one match (beside the path, which tells the cases apart), and requests: method, what follows the
/// path, headers, whether they meet it.
type Case = (&'static str, &'static [(&'static str, &'static str, &'static [&'static str], bool)]);

const CONDITIONS: [Case; 12] = [
    ("headers: {x-a: {exact: b}}", &[("GET", "", &["x-a: b"], true), ("GET", "", &["x-a: bb"], false)]),
    ("headers: {x-a: {prefix: be}}", &[("GET", "", &["x-a: beta"], true), ("GET", "", &["x-a: abe"], false)]),
    ("headers: {x-a: {suffix: ta}}", &[("GET", "", &["x-a: beta"], true), ("GET", "", &["x-a: tab"], false)]),
    ("headers: {x-a: {regex: 'v[0-9]+'}}", &[("GET", "", &["x-a: v12"], true), ("GET", "", &["x-a: xv12"], false)]),
    ("headers: {x-a: {present: true}}", &[("GET", "", &["x-a: any"], true), ("GET", "", &["x-b: any"], false)]),
    ("headers: {x-a: {absent: true}}", &[("GET", "", &["x-b: any"], true), ("GET", "", &["x-a: any"], false)]),
    ("method: POST", &[("POST", "", &[], true), ("GET", "", &[], false)]),
    ("method: [PUT, DELETE]", &[("PUT", "", &[], true), ("DELETE", "", &[], true), ("POST", "", &[], false)]),
    (
        "query: {lang: {exact: 'd e'}}",
        &[("GET", "?lang=d%20e", &[], true), ("GET", "?x=1&lang=d+e", &[], true), ("GET", "?lang=en", &[], false)],
    ),
    ("query: {beta: {present: true}}", &[("GET", "?beta", &[], true), ("GET", "?alpha", &[], false)]),
    (
        "cookies: {session: {prefix: new-}}",
        &[("GET", "", &["cookie: a=b; session=new-7"], true), ("GET", "", &["cookie: a=new-7; session=old"], false)],
    ),
    (
        "headers: {x-a: {exact: b}}, method: GET, query: {q: '1'}",
        &[
            ("GET", "?q=1", &["x-a: b"], true),
            ("GET", "?q=2", &["x-a: b"], false),
            ("GET", "?q=1", &[], false),
            ("POST", "?q=1", &["x-a: b"], false),
        ],
    ),
];

#[test]
fn every_kind_of_condition_over_the_wire() {
    let mut rules = String::new();
    for (number, (conditions, _)) in CONDITIONS.iter().enumerate() {
        let spec = format!("{{match: {{path: {{prefix: /c{number}}}, {conditions}}}, {TO_V2}}}");
        rules += &rule(&format!("c{number}"), &spec);
    }
    let story = Story::begin(&Terrain::standard().file("conditions.yaml", rules));
    let mut connection = story.connect("client", RECOGNITION[0]);
    for (number, (conditions, requests)) in CONDITIONS.iter().enumerate() {
        for (method, suffix, headers, meets) in *requests {
            let expected = if *meets { "200 v2" } else { "200 v1" };
            let got = ask(&mut connection, method, &format!("/c{number}{suffix}"), headers);
            assert_eq!(got, expected, "{conditions}: {method} {suffix} {headers:?}");
        }
    }
}

const TO_V2: &str = "route: {destination: {host: service-canary, port: 8080}}";

#[test]
fn paths_and_several_matches() {
    let several = format!("{{match: [{{path: {{exact: /one}}}}, {{headers: {{x-two: {{present: true}}}}}}], {TO_V2}}}");
    let terrain = Terrain::standard()
        .rule("exact", &format!("{{match: {{path: {{exact: /exact}}}}, {TO_V2}}}"))
        .rule("prefix", &format!("{{match: {{path: {{prefix: /prefix}}}}, {TO_V2}}}"))
        .rule("suffix", &format!("{{match: {{path: {{suffix: .jpg}}}}, {TO_V2}}}"))
        .rule("regex", &format!("{{match: {{path: {{regex: '/r/[0-9]{{2}}'}}}}, {TO_V2}}}"))
        .rule("several", &several);
    let story = Story::begin(&terrain);
    let mut connection = story.connect("client", RECOGNITION[0]);
    let cases: [(&str, &[&str], &str); 14] = [
        ("/exact", &[], "200 v2"),
        ("/exact?q=1", &[], "200 v2"),
        ("/exact/", &[], "200 v1"),
        ("/exactly", &[], "200 v1"),
        ("/prefix", &[], "200 v2"),
        ("/prefix/a", &[], "200 v2"),
        ("/prefixed", &[], "200 v1"),
        ("/a/b.jpg", &[], "200 v2"),
        ("/a/b.jpg.txt", &[], "200 v1"),
        ("/r/42", &[], "200 v2"),
        ("/r/421", &[], "200 v1"),
        ("/one", &[], "200 v2"),
        ("/other", &["x-two: "], "200 v2"),
        ("/other", &[], "200 v1"),
    ];
    for (target, headers, expected) in cases {
        assert_eq!(ask(&mut connection, "GET", target, headers), expected, "{target} {headers:?}");
    }
}

#[test]
fn the_more_specific_rule_wins_and_explain_agrees() {
    let to = |host: &str, port: u16| format!("route: {{destination: {{host: {host}, port: {port}}}}}");
    let (v1, v2, shadow) = (to("vehicle-recognition", 80), to("service-canary", 8080), to("shadow", 80));
    let only = "services: [vehicle-recognition]";
    let terrain = Terrain::standard()
        .rule("a-prefix", &format!("{{{only}, match: {{path: {{prefix: /a}}}}, {v1}}}"))
        .rule("b-longer", &format!("{{{only}, match: {{path: {{prefix: /a/b}}}}, {v2}}}"))
        .rule("c-exact", &format!("{{{only}, match: {{path: {{exact: /a/b/c}}}}, {shadow}}}"))
        .rule("d-header", &format!("{{{only}, match: {{path: {{prefix: /a}}, headers: {{x-h: '1'}}}}, {v2}}}"))
        .rule("e-method", &format!("{{{only}, match: {{path: {{prefix: /a}}, method: PUT}}, {shadow}}}"))
        .rule("f-first", &format!("{{{only}, match: {{headers: {{x-same: '1'}}}}, {v2}}}"))
        .rule("g-second", &format!("{{{only}, match: {{headers: {{x-same: '1'}}}}, {shadow}}}"))
        .rule("h-priority", &format!("{{{only}, priority: 10, match: {{headers: {{x-urgent: '1'}}}}, {shadow}}}"));
    let story = Story::begin(&terrain);
    let mut connection = story.connect("client", RECOGNITION[0]);
    let cases: [(&str, &str, &[&str], &str, &str); 8] = [
        ("GET", "/a", &[], "200 v1", "a-prefix"),
        ("GET", "/a/b/x", &[], "200 v2", "b-longer"),
        ("GET", "/a/b/c", &[], "200 shadow", "c-exact"),
        ("GET", "/a", &["x-h: 1"], "200 v2", "d-header"),
        ("PUT", "/a", &["x-h: 1"], "200 shadow", "e-method"),
        ("GET", "/", &["x-same: 1"], "200 v2", "f-first"),
        ("GET", "/a/b/c", &["x-urgent: 1"], "200 shadow", "h-priority"),
        ("GET", "/", &[], "200 v1", ""),
    ];
    for (method, target, headers, expected, rule) in cases {
        assert_eq!(ask(&mut connection, method, target, headers), expected, "{method} {target} {headers:?}");
        let described = serde_json::json!({ "url": format!("http://vehicle-recognition{target}"), "method": method,
            "headers": headers, "from": "client" });
        let explained = story.admin.json("POST", "/api/v1/explain", Some(&described));
        let winner = explained["rule"].as_str().unwrap_or_default().to_owned();
        assert!(winner.ends_with(rule) && winner.is_empty() == rule.is_empty(), "{target}: {explained:#}");
    }
}

#[test]
fn a_rule_that_names_a_service_leaves_the_others_alone() {
    let spec = "{services: [vehicle-recognition], route: {destination: {host: shadow}}}";
    let story = Story::begin(&Terrain::standard().rule("only-one", spec));
    assert_eq!(story.get("client", &format!("http://{}/", RECOGNITION[0]), &[]), "200 shadow");
    assert_eq!(story.get("client", &format!("http://{}:8080/", CANARY[0]), &[]), "200 v2");
    let explained = story.explain("client", "http://service-canary:8080/", &[]);
    assert!(explained["interception"].as_str().unwrap().starts_with("not intercepted"), "{explained}");
}

#[test]
fn an_unresolved_destination_answers_500_and_says_so() {
    let spec = "{services: [vehicle-recognition], match: {path: {prefix: /new}}, \
                route: {destination: {host: no-such-service, port: 80}}}";
    let port = "{services: [vehicle-recognition], match: {path: {prefix: /port}}, \
                route: {destination: {host: service-canary, port: 9}}}";
    let story = Story::begin(&Terrain::standard().rule("new", spec).rule("port", port));
    let answer = story.curl("client", &[&format!("http://{}/new", RECOGNITION[0])]);
    assert_eq!((answer.status, answer.header("x-weir-cause")), (500, "unresolved"), "{answer:?}");
    let told = "no-such-service.default:80 of RouteRule default/new does not resolve: no such service";
    assert!(answer.body.contains(told), "the body tells the caller: {}", answer.body);
    let explained = story.explain("client", "http://vehicle-recognition/new", &[]).to_string();
    assert!(explained.contains("500") && explained.contains("no-such-service"), "names what is missing: {explained}");
    let answer = story.curl("client", &[&format!("http://{}/port", RECOGNITION[0])]);
    assert_eq!(answer.brief(), "500 unresolved");
    let told = "service-canary.default:9 of RouteRule default/port does not resolve: the service has no such port";
    assert!(answer.body.contains(told), "{}", answer.body);
    assert_eq!(story.get("client", &format!("http://{}/", RECOGNITION[0]), &[]), "200 v1");
    let labels = ["cause=\"unresolved\"", "rule=\"default/new\""];
    assert!(story.admin.metric("weir_proxy_local_replies_total", &labels) >= 1.0, "{}", story.admin.metrics());
}

#[test]
fn timeouts_answer_504_in_time() {
    let terrain = Terrain::standard()
        .rule("whole", "{services: [vehicle-recognition], match: {headers: {x-t: whole}}, timeouts: {request: 300ms}}")
        .rule(
            "try",
            "{services: [vehicle-recognition], match: {headers: {x-t: try}}, timeouts: {request: 5s, perTry: 200ms}}",
        );
    let story = Story::begin(&terrain);
    let slow = format!("http://{}/delay/3s", RECOGNITION[0]);
    for (header, expected, bound) in [
        ("x-t: whole", "504 request_timeout", 1.5),
        ("x-t: try", "504 per_try_timeout", 1.5),
        ("x-t: none", "200 v1", 6.0),
    ] {
        let answer = story.curl("client", &[&slow, "-H", header]);
        assert_eq!(answer.brief(), expected, "{header}: {answer:?}");
        assert!(answer.seconds < bound, "{header} took {} s", answer.seconds);
    }
}
