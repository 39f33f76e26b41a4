//! What rules do to requests instead of passing them on: their own answers, limits and faults, and what is told of them.

use std::time::{Duration, Instant};

use weir_e2e::{RECOGNITION, Story, Terrain, rule};

#[test]
fn rules_answer_limit_and_fail_and_say_so() {
    let rules = [
        rule("closed", "{match: {path: {exact: /closed}}, directResponse: {status: 503, body: 'closed on Sundays'}}"),
        rule("few", "{match: {path: {exact: /few}}, rateLimit: {requests: 2, unit: 1h, per: {source: identity}}}"),
        rule("slow", "{match: {path: {exact: /slow}}, fault: {delay: {fixedDelay: 300ms}}}"),
        rule("broken", "{match: {path: {exact: /broken}}, fault: {abort: {httpStatus: 418}}}"),
    ];
    let story = Story::begin(&Terrain::standard().file("rules.yaml", rules.concat()));
    let url = |path: &str| format!("http://{}{path}", RECOGNITION[0]);
    let closed = story.curl("client", &[&url("/closed")]);
    assert_eq!((closed.status, &*closed.body), (503, "closed on Sundays"));
    assert_eq!(story.get("client", &url("/broken"), &[]), "418 fault");
    let begun = Instant::now();
    assert_eq!(story.get("client", &url("/slow"), &[]), "200 v1");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let few: Vec<String> = (0..4).map(|_| story.get("client", &url("/few"), &[])).collect();
    assert_eq!(few, ["200 v1", "200 v1", "429 rate_limited", "429 rate_limited"]);
    assert_eq!(story.get("plain", &url("/few"), &[]), "200 v1", "another identity has its own");
    // A change of something else does not fill the buckets.
    story.apply_rule("other.yaml", "{match: {path: {exact: /other}}, timeouts: {request: 1s}}");
    assert_eq!(story.get("client", &url("/few"), &[]), "429 rate_limited");
    assert_eq!(story.get("client", &url("/"), &[]), "200 v1");

    let explained = |path: &str| story.explain("client", &format!("http://vehicle-recognition{path}"), &[]);
    assert_eq!(explained("/closed")["answer"], "503: the rule's own answer");
    assert_eq!(explained("/few")["filters"][0], "limit: 2 requests in 3600s, 2 at once, for each calling identity");
    assert_eq!(explained("/slow")["filters"][0], "fault: 100 % wait for 300ms");
    for (cause, count) in [("rate_limited", 3.0), ("fault", 1.0)] {
        let label = format!("cause=\"{cause}\"");
        assert_eq!(story.admin.metric("weir_proxy_local_replies_total", &[&label]), count, "{cause}");
    }
}
