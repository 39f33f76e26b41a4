//! `sessionPersistence`: clients come back to the version and the pod that they had, by cookie as a browser keeps it, and
//! by header.

use std::collections::BTreeSet;

use weir_e2e::{Answer, RECOGNITION, Story, Terrain};

/// A route whose rule splits evenly and has this session.
fn route(weights: [u32; 2], session: &str) -> String {
    let [v1, v2] = weights;
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: route}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: vehicle-recognition}}]\n  rules:\n  - backendRefs: \
         [{{name: vehicle-recognition, port: 80, weight: {v1}}}, {{name: service-canary, port: 8080, weight: {v2}}}]\n    \
         sessionPersistence: {session}\n"
    )
}

fn ask(story: &Story, arguments: &[&str]) -> Answer {
    let url = format!("http://{}/", RECOGNITION[0]);
    let arguments: Vec<&str> = std::iter::once(&*url).chain(arguments.iter().copied()).collect();
    story.curl("client", &arguments)
}

#[test]
fn browsers_keep_their_version_through_a_release_by_cookie() {
    let session = "{sessionName: basket, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}";
    let story = Story::begin(&Terrain::standard().file("route.yaml", route([1, 1], session)));
    // Two browsers, each with a jar: one of each version.
    let jars = ["v1", "v2"].map(|version| (version, story.folder().join(version)));
    for (version, jar) in &jars {
        let jar = jar.to_str().unwrap();
        loop {
            let answer = ask(&story, &["-c", jar]);
            let cookie = answer.header("set-cookie");
            assert!(cookie.starts_with("basket=") && cookie.contains("Max-Age=3600"), "{cookie}");
            assert!(!cookie.contains("10.42."), "no address of the inside: {cookie}");
            if answer.brief() == format!("200 {version}") {
                break;
            }
        }
    }
    let stay = |when: &str| {
        for (version, jar) in &jars {
            for _ in 0..6 {
                let answer = ask(&story, &["-b", jar.to_str().unwrap()]);
                assert_eq!((answer.brief(), answer.header("set-cookie")), (format!("200 {version}"), ""), "{when}");
            }
        }
    };
    stay("as it began");
    // The release is stopped for new clients, and goes on for those that it has.
    story.apply("route.yaml", &route([1, 0], session));
    stay("without weight for the canary");
    let new: BTreeSet<String> = (0..8).map(|_| ask(&story, &[]).brief()).collect();
    assert_eq!(new, BTreeSet::from(["200 v1".to_owned()]));
    let explained = story.explain("client", "http://vehicle-recognition/", &[]);
    assert_eq!(explained["session"], "the cookie basket keeps clients at their endpoint for 3600s");
}

#[test]
fn callers_that_are_no_browsers_keep_their_version_by_header() {
    let story =
        Story::begin(&Terrain::standard().file("route.yaml", route([1, 1], "{type: Header, sessionName: X-Session}")));
    let mut seen = BTreeSet::new();
    for _ in 0..24 {
        let first = ask(&story, &[]);
        let token = format!("x-session: {}", first.header("x-session"));
        assert!(token.len() > "x-session: ".len(), "no token: {first:?}");
        let again: BTreeSet<String> = (0..3).map(|_| ask(&story, &["-H", &token]).brief()).collect();
        assert_eq!(again, BTreeSet::from([first.brief()]));
        seen.insert(first.brief());
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}
