//! Requests that are tried again, by `HTTPRoute` and by `RouteRule`: what clients get, and what endpoints really saw.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_e2e::{Answer, RECOGNITION, Story, Terrain, rule};

fn route(rules: &str) -> String {
    let parent = "{group: '', kind: Service, name: vehicle-recognition}";
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: route}}\n\
         spec: {{parentRefs: [{parent}], rules: {rules}}}\n"
    )
}

fn ask(story: &Story, path: &str, arguments: &[&str]) -> Answer {
    let url = format!("http://{}{path}", RECOGNITION[0]);
    let arguments: Vec<&str> = std::iter::once(&*url).chain(arguments.iter().copied()).collect();
    story.curl("client", &arguments)
}

/// The row of the status about this destination.
fn row(story: &Story, destination: &str) -> Value {
    let status = story.admin.status();
    let rows = status["routes"].as_array().unwrap();
    rows.iter().find(|row| row["destination"] == destination).cloned().unwrap_or_default()
}

#[test]
fn an_http_route_tries_again_what_its_codes_name() {
    let v1 = "backendRefs: [{name: vehicle-recognition, port: 80}]";
    let story = Story::begin(&Terrain::standard().file(
        "route.yaml",
        route(&format!(
            "[{{matches: [{{path: {{value: /flaky/500}}}}], retry: {{codes: [500], attempts: 3, backoff: 10ms}}, {v1}}},
              {{matches: [{{path: {{value: /flaky/503}}}}], retry: {{codes: [500, 502, 503, 504], attempts: 2}}, {v1}}},
              {{matches: [{{path: {{value: /post}}, method: POST}}], retry: {{codes: [503]}}, {v1},
                filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /flaky/503}}}}}}]}},
              {{matches: [{{path: {{value: /reset}}}}, {{path: {{value: /hang}}}}], retry: {{attempts: 1}}, timeouts: {{backendRequest: 300ms}}, {v1}}},
              {{{v1}}}]"
        )),
    ));
    let post: &[&str] = &["-X", "POST", "-d", "content"];
    for (path, arguments, expected, seen) in [
        ("/flaky/500?times=3&a", &[][..], "200 v1", &[4][..]),
        ("/flaky/500?times=4&b", &[], "500 v1", &[4]),
        ("/flaky/503?times=2&c", &[], "200 v1", &[3]),
        ("/flaky/503?times=3&d", &[], "503 v1", &[3]),
        // Not a status that the rule names; not a rule that tries again.
        ("/flaky/504?times=1&e", &[], "504 v1", &[1]),
        ("/flaky/503?times=1&f", post, "503 v1", &[1]),
        ("/post?times=2&g", post, "200 v1", &[3]),
        // One more where a connection that was kept is taken for one that the endpoint has closed by itself.
        ("/reset", &[], "502 upstream_closed", &[2, 3]),
        ("/hang", &[], "504 per_try_timeout", &[2]),
    ] {
        story.forget("v1");
        assert_eq!(ask(&story, path, arguments).brief(), expected, "{path}");
        let counts = story.counted("v1");
        assert!(seen.iter().any(|seen| counts["total"] == *seen), "{path}: {counts}");
        let requests = story.seen("v1");
        // The same request each time, down to its id; and what the rule changes is changed once.
        let ids: BTreeSet<&str> = requests.iter().filter_map(|one| one["headers"]["x-request-id"].as_str()).collect();
        let told: BTreeSet<String> = requests
            .iter()
            .map(|one| format!("{} {} {}", one["path"], one["headers"]["host"], one["body_bytes"]))
            .collect();
        let is_seen = !requests.is_empty();
        assert_eq!((ids.len(), told.len()), (usize::from(is_seen), usize::from(is_seen)), "{path}: {told:?}");
        if arguments == post {
            assert!(told.iter().all(|one| one.contains("flaky/503") && one.ends_with(" 7")), "{told:?}");
        }
    }
}

#[test]
fn users_of_a_canary_that_fails_get_the_stable_version() {
    // The canary gets another path, at which it fails; the stable one gets what the client sent.
    let canary = "{name: service-canary, port: 8080, weight: 1000000, filters: [
        {type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /status/503}}}]}";
    let split = format!("backendRefs: [{{name: vehicle-recognition, port: 80, weight: 1}}, {canary}]");
    let rules = format!("[{{retry: {{codes: [503], attempts: 1, backoff: 1ms}}, {split}}}]");
    let story = Story::begin(&Terrain::standard().file("route.yaml", route(&rules)));
    for number in 0..20 {
        let path = format!("/n/{number}");
        let answer = ask(&story, &path, &[]);
        assert_eq!((answer.brief(), &answer.json()["path"]), ("200 v1".to_owned(), &Value::from(path)));
    }
    let [stable, canary] = ["default/vehicle-recognition:80", "default/service-canary:8080"].map(|to| row(&story, to));
    // The error rate of the canary is known although no client saw an error, and each request is counted once.
    let failed = canary["failed_tries"].as_u64().unwrap_or_default();
    assert!(failed >= 19 && stable["retries"]["taken_over"] == failed, "{stable:#} {canary:#}");
    assert_eq!((&stable["requests"], &stable["errors"], &canary["requests"]), (&20.into(), &0.into(), &0.into()));
    let labels = ["rule=\"default/route\"", "destination=\"default/service-canary:8080\"", "event=\"failed_5xx\""];
    assert_eq!(story.admin.metric("weir_proxy_retries_total", &labels) as u64, failed);
    let told = String::from_utf8(story.weir(&["status"]).stdout).unwrap();
    assert!(told.contains("failed tries"), "{told}");
}

#[test]
fn a_rule_says_where_and_after_what() {
    let story = Story::begin(&Terrain::standard().file(
        "rules.yaml",
        [
            rule(
                "elsewhere",
                "{match: {path: {prefix: /flaky}, headers: {x-canary: '1'}}, route: {destination: {host: service-canary}},
                  retry: {on: [5xx, 429], destination: {host: vehicle-recognition}, backoff: 1ms}}",
            ),
            rule("same", "{match: {path: {prefix: /flaky}}, retry: {on: [gateway-error], destination: same, backoff: 50ms}}"),
        ]
        .concat(),
    ));
    let canary: &[&str] = &["-H", "x-canary: 1"];
    for (path, arguments, expected) in [
        // Each server counts for itself: the one that takes over fails once as well.
        ("/flaky/500?a", canary, "200 v1"),
        ("/flaky/429?b", canary, "200 v1"),
        ("/flaky/404?c", canary, "404 v2"),
        ("/flaky/503?d", &[][..], "200 v1"),
        ("/flaky/500?e", &[], "500 v1"),
    ] {
        assert_eq!(ask(&story, path, arguments).brief(), expected, "{path}");
    }
    let begun = Instant::now();
    assert_eq!(ask(&story, "/flaky/503?times=2&f", &[]).brief(), "200 v1");
    assert!(begun.elapsed() >= Duration::from_millis(50 + 100), "the backoff is the least that a retry waits");
    let explained = story.explain("client", "http://vehicle-recognition/flaky/x", &["x-canary: 1"]);
    assert_eq!(
        explained["retry"],
        "tried again up to 2 times, at default/vehicle-recognition:80, after at least 1ms, on 429, 500 to 599",
        "{explained:#}"
    );
}
