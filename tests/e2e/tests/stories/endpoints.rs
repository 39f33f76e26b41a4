//! Which endpoint of a service gets requests, by what a `BackendTrafficPolicy` and the service itself say.

use serde_json::json;
use weir_e2e::{RECOGNITION, Story, Terrain, until};

/// `vehicle-recognition` with both pods. No rule concerns it: its policy is reason enough for the proxy to see its
/// requests.
fn terrain() -> Terrain {
    let mut terrain = Terrain::standard();
    terrain.services[0].pods = vec!["v1".to_owned(), "v2".to_owned()];
    // One worker: each has its own view of the endpoints.
    terrain.settings(json!({"workers": 1}))
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1\nkind: BackendTrafficPolicy\nmetadata: {{name: recognition}}\n\
         spec: {{targetRefs: [{{name: vehicle-recognition}}], {spec}}}\n"
    )
}

/// Who answers so many requests.
fn answers(story: &Story, path: &str, headers: &[&str], count: usize) -> Vec<String> {
    let url = format!("http://{}{path}", RECOGNITION[0]);
    (0..count).map(|_| story.get("client", &url, headers)).collect()
}

fn count(answers: &[String], answer: &str) -> usize {
    answers.iter().filter(|one| *one == answer).count()
}

#[test]
fn a_policy_says_how_endpoints_are_picked_and_is_followed_at_once() {
    let story = Story::begin(&terrain().file("policy.yaml", policy("loadBalancer: {type: RoundRobin}")));
    let got = answers(&story, "/", &[], 10);
    assert_eq!([count(&got, "200 v1"), count(&got, "200 v2")], [5, 5], "{got:?}");
    let explained = story.explain("client", "http://vehicle-recognition/", &[]);
    assert_eq!(explained["destinations"][0]["picked"], "one after the other", "{explained:#}");

    let hash = "loadBalancer: {type: ConsistentHash, consistentHash: {type: Header, header: {name: x-user}}}";
    story.apply("policy.yaml", &policy(hash));
    let users: Vec<String> = (0..12)
        .map(|user| {
            let header = format!("x-user: {user}");
            let got = answers(&story, "/", &[&header], 3);
            assert!(got.iter().all(|one| *one == got[0]), "{user}: {got:?}");
            got[0].clone()
        })
        .collect();
    assert!(count(&users, "200 v1") > 0 && count(&users, "200 v2") > 0, "{users:?}");

    story.remove("policy.yaml");
    let explained = story.explain("client", "http://vehicle-recognition/", &[]);
    assert_eq!(explained["destinations"][0]["picked"], json!(null), "{explained:#}");
    assert!(explained["interception"].as_str().unwrap().starts_with("not intercepted"), "{explained:#}");
}

#[test]
fn an_endpoint_that_fails_is_left_alone_until_it_is_well() {
    let passive = "loadBalancer: {type: RoundRobin}, healthCheck: {passive: {consecutive5XxErrors: 2,
        consecutiveLocalOriginFailures: 2, baseEjectionTime: 2s}}";
    let mut story = Story::begin(&terrain().file("policy.yaml", policy(passive)));
    story.silence("v2");
    let got = answers(&story, "/", &[], 20);
    // Once, or on a slow machine again when the first ejection is over.
    let failed = count(&got, "503 connect_failed");
    assert!((2..=4).contains(&failed) && count(&got, "200 v1") == 20 - failed, "{got:?}");
    assert!(story.admin.connections("endpoint_ejected") >= 1);
    story.serve("v2", weir_lab::server::Mode::Http, "v2");
    until("the endpoint to be well again", || {
        let got = answers(&story, "/", &[], 2);
        if count(&got, "200 v2") == 1 { Ok(()) } else { Err(got.join(", ")) }
    });
    assert!(story.admin.connections("endpoint_readmitted") >= 1);
    let told = String::from_utf8(story.weir(&["status"]).stdout).unwrap();
    assert!(told.contains("endpoint_ejected"), "{told}");
}

#[test]
fn an_endpoint_that_fails_its_checks_gets_no_requests() {
    let active = "healthCheck: {active: {type: HTTP, interval: 100ms, unhealthyThreshold: 2, http: {path: /healthz}}}";
    let mut story = Story::begin(&terrain().file("policy.yaml", policy(active)));
    let who = |story: &Story| {
        let mut got = answers(story, "/", &[], 12);
        got.sort();
        got.dedup();
        got.join(", ")
    };
    let await_answers = |story: &Story, expected: &str| {
        until(expected, || {
            let got = who(story);
            if got == expected { Ok(()) } else { Err(got) }
        });
    };
    await_answers(&story, "200 v1, 200 v2");
    story.silence("v2");
    await_answers(&story, "200 v1");
    assert!(story.log().contains("an endpoint fails its health checks"));
    story.serve("v2", weir_lab::server::Mode::Http, "v2");
    await_answers(&story, "200 v1, 200 v2");
    let asked = story.seen("v1");
    let asked = asked.iter().find(|request| request["path"] == "/healthz").unwrap();
    assert!(asked["headers"]["user-agent"].as_str().unwrap().starts_with("weir-health/"), "{asked}");
}
