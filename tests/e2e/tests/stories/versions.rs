//! The version log: what was in force when, what changed, and the way back; over HTTP and from the command line.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use weir_e2e::{RECOGNITION, Story, Terrain, until};

fn tagged(tag: &str) -> String {
    format!(
        "{{services: [vehicle-recognition], match: {{headers: {{x-user-tag: {tag}}}}}, \
         route: {{destination: {{host: service-canary, port: 8080}}}}}}"
    )
}

fn version_of(story: &Story, tag: &str) -> String {
    story.get("client", &format!("http://{}/", RECOGNITION[0]), &[&format!("x-user-tag: {tag}")])
}

/// A node whose log has three versions: tag a, tag b, and one more rule.
fn three_versions() -> (Story, Vec<Value>) {
    let story = Story::begin(&Terrain::standard().rule("tag", &tagged("a")));
    let mut versions = vec![story.admin.current()];
    versions.push(story.apply_rule("tag", &tagged("b")));
    versions.push(story.apply_rule("more", "{services: [shadow], timeouts: {request: 5s}}"));
    (story, versions)
}

fn number(version: &Value) -> u64 {
    version["sequence"].as_u64().unwrap()
}

fn applied_at(version: &Value) -> SystemTime {
    let text = version["applied_at"].as_str().unwrap();
    assert!(text.ends_with('Z'), "{text}");
    humantime::parse_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn every_version_is_told_with_its_changes() {
    let begun = SystemTime::now();
    let (mut story, versions) = three_versions();
    let of_before = versions[2]["applied_at"].clone();
    story.restart();
    assert_eq!(story.admin.current()["applied_at"], of_before, "a restart applies nothing new");
    let admin = &story.admin;
    assert_eq!(admin.call("GET", "/healthz", None).unwrap().0, 200);
    let listed = admin.get("/api/v1/versions?limit=10")["versions"].clone();
    let listed = listed.as_array().unwrap();
    let sequences: Vec<u64> = listed.iter().map(number).collect();
    let mut newest_first = sequences.clone();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(sequences, newest_first);
    assert_eq!(listed[0]["version_id"], versions[2]["version_id"]);
    for version in &versions {
        let id = version["version_id"].as_str().unwrap();
        assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        let by_id = admin.get(&format!("/api/v1/versions/{id}"));
        let by_number = admin.get(&format!("/api/v1/versions/{}", number(version)));
        assert_eq!((&by_id["sequence"], &by_id["change_log"]), (&version["sequence"], &version["change_log"]));
        assert_eq!(by_number, by_id);
        assert_eq!(by_id["applied_at"], version["applied_at"]);
    }
    // In UTC, within the time that passed here, and in order.
    let times: Vec<SystemTime> = versions.iter().map(applied_at).collect();
    // Told to a millisecond.
    assert!(times[0] >= begun - Duration::from_millis(1) && times[2] <= SystemTime::now(), "{begun:?} {times:?}");
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(versions[1]["parent"]["version_id"], versions[0]["version_id"]);
    let changed = &versions[1]["change_log"]["changed"][0];
    let field = &changed["fields"][0];
    assert_eq!(changed["object"]["name"], "tag", "{changed}");
    assert_eq!((&field["from"], &field["to"]), (&json!("a"), &json!("b")), "{field}");
    assert!(field["path"].as_str().unwrap().contains("x-user-tag"), "{field}");
    assert_eq!(versions[2]["change_log"]["added"][0]["name"], "more");
    let diff = admin.get(&format!("/api/v1/versions/{}/diff/current", number(&versions[0])));
    assert_eq!(diff["change_log"]["changed"].as_array().unwrap().len(), 1, "{diff:#}");
    assert_eq!(diff["change_log"]["added"].as_array().unwrap().len(), 1, "{diff:#}");
    assert!(diff["graph"].is_object(), "{diff:#}");
    for (path, status) in [
        ("/api/v1/versions/9999", 404),
        ("/api/v1/versions/nonsense!", 400),
        ("/api/v1/versions/0000000000000000000000000000000000000000000000000000000000000000", 404),
        ("/api/v1/nothing", 404),
    ] {
        let (got, text) = admin.call("GET", path, None).unwrap();
        assert_eq!(got, status, "{path}: {text}");
        let error: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
        assert!(error["error"].is_string(), "{path}: {text}");
    }
}

#[test]
fn an_update_cycle_is_visible_step_by_step() {
    let (story, versions) = three_versions();
    let cycles = story.admin.get("/api/v1/cycles").to_string();
    let id = versions[2]["version_id"].as_str().unwrap();
    assert!(cycles.contains(id), "the last version's cycle is there: {cycles}");
    for step in ["detect", "compar", "diff", "plan", "appl", "record", "announce"] {
        assert!(cycles.to_lowercase().contains(step), "no step like {step}: {cycles}");
    }
}

#[test]
fn rollback_is_a_new_version_that_holds_until_the_source_changes() {
    let (mut story, versions) = three_versions();
    let back = story.admin.json("POST", &format!("/api/v1/versions/{}/rollback", number(&versions[0])), None);
    assert_eq!(back["version_id"], versions[0]["version_id"]);
    assert_eq!(number(&back), number(&versions[2]) + 1, "recorded as a new one: {back}");
    assert_eq!((version_of(&story, "a"), version_of(&story, "b")), ("200 v2".to_owned(), "200 v1".to_owned()));

    story.restart();
    let now = story.admin.current();
    assert_eq!(now["version_id"], versions[0]["version_id"], "a restart does not undo a rollback: {now}");
    assert_eq!(version_of(&story, "a"), "200 v2");
    story.kill9();
    story.start();
    assert_eq!(story.admin.current()["version_id"], versions[0]["version_id"]);

    // A change of the source: the folder's content is what counts again.
    story.apply_rule("tag", &tagged("c"));
    let answers = ["a", "b", "c"].map(|tag| version_of(&story, tag));
    assert_eq!(answers, ["200 v1", "200 v1", "200 v2"]);
    let listed = story.admin.get("/api/v1/versions?limit=1000")["versions"].clone();
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|version| version["version_id"].clone()).collect();
    assert!(versions.iter().all(|version| ids.contains(&version["version_id"])), "history is never rewritten");
    let (status, text) = story.admin.call("POST", "/api/v1/versions/4711/rollback", None).unwrap();
    assert_eq!(status, 404, "{text}");
}

#[test]
fn the_command_line_tells_the_same() {
    let (story, versions) = three_versions();
    let listed = story.weir_json(&["versions"]);
    assert_eq!(listed["versions"][0]["version_id"], versions[2]["version_id"]);
    let one = story.weir_json(&["versions", &versions[1]["version_id"].as_str().unwrap()[..12]]);
    assert_eq!(one["change_log"], versions[1]["change_log"]);
    let diff = story.weir_json(&["diff", &number(&versions[0]).to_string()]);
    assert_eq!(diff["change_log"]["changed"][0]["object"]["name"], "tag");
    let text = String::from_utf8(story.weir(&["diff", &number(&versions[0]).to_string()]).stdout).unwrap();
    assert!(text.contains("tag") && text.contains("more"), "{text}");
    let status = story.weir_json(&["status"]);
    assert_eq!((&status["version_id"], &status["ready"]), (&versions[2]["version_id"], &json!(true)));

    let url = format!("http://{}/", RECOGNITION[0]);
    let live = story.weir_json(&["explain", &url, "-H", "x-user-tag: b", "--from", "client"]);
    let rules = story.rules();
    let offline = ["explain", &url, "-H", "x-user-tag: b", "--from", "client", "--files", rules.to_str().unwrap()];
    let offline = story.weir_json(&offline);
    for field in ["version_id", "rule", "destinations", "entries"] {
        assert_eq!(live[field], offline[field], "{field}");
    }
    assert!(live["rule"].as_str().unwrap().ends_with("tag"), "{live}");

    let back = story.weir_json(&["rollback", &number(&versions[0]).to_string()]);
    assert_eq!(back["version_id"], versions[0]["version_id"]);
    assert_eq!(version_of(&story, "a"), "200 v2");
    let unknown = story.weir(&["rollback", "4711"]);
    assert!(!unknown.status.success() && !unknown.stderr.is_empty(), "{unknown:?}");
}

#[test]
fn check_tells_everything_at_once_without_a_node() {
    let story = Story::prepare(&Terrain::standard().rule("tag", &tagged("a")));
    let rules = story.rules();
    let good = story.weir_json(&["check", rules.to_str().unwrap()]);
    assert_eq!(good["errors"], 0, "{good}");
    story.write(
        "bad.yaml",
        "kind: RouteRule\napiVersion: weir.dev/v1\nmetadata: {name: BAD}\nspec: {route: {destination: {port: 0}}}\n",
    );
    story.write("worse.yaml", "a: [");
    let output = story.weir(&["check", rules.to_str().unwrap(), "--output", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files: Vec<_> = told["diagnostics"].as_array().unwrap().iter().map(|one| one["file"].to_string()).collect();
    assert!(
        files.iter().any(|file| file.contains("bad.yaml")) && files.iter().any(|file| file.contains("worse.yaml")),
        "{told:#}"
    );
    let nobody = story.weir(&["status"]);
    let why = String::from_utf8_lossy(&nobody.stderr);
    assert!(!nobody.status.success() && why.contains("no node answers"), "{why}");
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let (story, _) = three_versions();
    let client = format!("http://{}/", RECOGNITION[0]);
    assert_eq!(story.get("client", &client, &["x-user-tag: b"]), "200 v2");
    until("the request is counted", || {
        let labels = ["rule=\"default/tag\"", "status=\"2xx\""];
        match story.admin.metric("weir_proxy_requests_total", &labels) {
            count if count >= 1.0 => Ok(()),
            _ => Err(story.admin.metrics()),
        }
    });
    let text = story.admin.metrics();
    assert!(text.trim_end().ends_with("# EOF"), "OpenMetrics ends with # EOF");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(line.starts_with("weir_") && value.parse::<f64>().is_ok(), "{line}");
    }
}
