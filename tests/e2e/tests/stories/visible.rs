//! What the node knows is seen: in the status, over HTTP, by who waits, and in the metrics.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;

use serde_json::{Value, json};
use weir_e2e::{Admin, RECOGNITION, Story, Terrain, until};

const RULE: &str = "{services: [vehicle-recognition], timeouts: {request: 5s}}";

fn served(story: &Story) -> String {
    story.get("client", &format!("http://{}/", RECOGNITION[0]), &[])
}

fn text_of(story: &Story) -> String {
    String::from_utf8(story.weir(&["status"]).stdout).unwrap()
}

/// The source's row of the status.
fn source(story: &Story) -> Value {
    story.admin.status()["sources"][0].clone()
}

#[track_caller]
fn await_state(story: &Story, state: &str) -> Value {
    until("the state of the source", || {
        let source = source(story);
        if source["state"] == state { Ok(source) } else { Err(format!("{source}, wanted {state}")) }
    })
}

/// What is wrong with the source is the same at every place where it is told.
#[track_caller]
fn assert_told(story: &Story, file: &str, what: &str, errors_total: f64) {
    let source = source(story);
    let problem = &source["problems"][0];
    assert!(problem["file"].as_str().is_some_and(|told| told.ends_with(file)), "{source}");
    assert!(problem["message"].as_str().is_some_and(|told| told.contains(what)), "{source}");
    let text = text_of(story);
    assert!(text.contains("CANNOT be read") && text.contains(file) && text.contains(what), "{text}");
    // Ready, because the last good revision serves; and says what is wrong.
    let (status, ready) = story.admin.call("GET", "/readyz", None).unwrap();
    assert!(status == 200 && ready.starts_with("ready\nsource folder cannot be read: "), "{status} {ready}");
    assert!(ready.contains(file) && ready.contains(what), "{ready}");
    let label = ["source=\"folder\""];
    assert_eq!(story.admin.metric("weir_source_error", &label), 1.0, "{}", story.admin.metrics());
    assert_eq!(story.admin.metric("weir_source_errors_total", &label), errors_total, "{}", story.admin.metrics());
    assert_eq!(served(story), "200 v1");
}

#[test]
fn a_folder_that_cannot_be_read_is_told_everywhere_and_what_is_in_force_serves() {
    let story = Story::begin(&Terrain::standard().rule("all", RULE));
    let place = |name: &str| story.rules().join(name);
    let good = story.admin.sequence();
    assert_eq!(await_state(&story, "current")["problems"], json!([]));
    assert_eq!(story.admin.call("GET", "/readyz", None).unwrap(), (200, "ready\n".to_owned()));
    assert!(!text_of(&story).contains("CANNOT"), "{}", text_of(&story));
    let cases: [(&str, &str, &dyn Fn(&str)); 4] = [
        ("dangling.yaml", "link to something that is not there", &|name| symlink("nowhere", place(name)).unwrap()),
        ("loop.yaml", "cannot be read", &|name| symlink(name, place(name)).unwrap()),
        ("bytes.yaml", "not UTF-8", &|name| fs::write(place(name), b"a: \xff").unwrap()),
        ("pipe.yaml", "not a regular file", &|name| {
            story.told("node", &["mkfifo", place(name).to_str().unwrap()]);
        }),
    ];
    let mut errors = 0.0;
    for (name, what, spoil) in cases {
        spoil(name);
        await_state(&story, "failed");
        errors += 1.0;
        assert_told(&story, name, what, errors);
        fs::remove_file(place(name)).unwrap();
        await_state(&story, "current");
        assert_eq!(story.admin.metric("weir_source_error", &["source=\"folder\""]), 0.0);
    }
    let away = story.folder().join("away");
    fs::rename(story.rules(), &away).unwrap();
    await_state(&story, "missing");
    assert_told(&story, "rules", "no such file or folder", errors + 1.0);
    fs::rename(&away, story.rules()).unwrap();
    await_state(&story, "current");
    assert_eq!(story.admin.call("GET", "/readyz", None).unwrap(), (200, "ready\n".to_owned()));
    assert_eq!(story.admin.sequence(), good, "nothing of it made a version");
}

#[test]
fn a_node_without_a_revision_says_what_it_waits_for_and_why() {
    let mut story = Story::prepare(&Terrain::standard());
    symlink("nowhere", story.rules().join("dangling.yaml")).unwrap();
    story.launch();
    until("the node says why it is not ready", || match story.admin.ready() {
        Err(why) if why.starts_with("503 waiting for the first revision") && why.contains("dangling.yaml") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    fs::remove_file(story.rules().join("dangling.yaml")).unwrap();
    story.await_ready();
}

#[test]
fn warnings_of_the_revision_in_force_are_seen_for_as_long_as_they_hold() {
    let lost = "{services: [vehicle-recognition], match: {headers: {x-lost: a}}, route: {destination: {host: nobody, port: 80}}}";
    let mut story = Story::begin(&Terrain::standard().rule("all", RULE));
    assert_eq!(story.admin.metric("weir_revision_warnings", &[]), 0.0, "{}", story.admin.status()["warnings"]);
    let version = story.apply_rule("lost", lost);
    let wanted = "there is no Service default/nobody";
    let is_told = |warnings: &Value| {
        let warnings = warnings.as_array().unwrap();
        let place = |one: &Value| one["file"].as_str().is_some_and(|file| file.ends_with("lost.yaml"));
        warnings.iter().any(|one| place(one) && one["message"].to_string().contains(wanted))
    };
    assert!(is_told(&version["warnings"]), "{version:#}");
    let told = |story: &Story| {
        let status = story.admin.status();
        assert!(is_told(&status["warnings"]), "{}", status["warnings"]);
        let text = text_of(story);
        assert!(text.contains("in force with 1 warning:") && text.contains(wanted), "{text}");
        assert_eq!(story.admin.metric("weir_revision_warnings", &[]), 1.0);
    };
    told(&story);
    let cycle = story.admin.get("/api/v1/cycles")["cycles"][0].clone();
    assert_eq!(cycle["outcome"]["result"], "applied");
    assert!(is_told(&cycle["warnings"]), "{cycle:#}");
    story.await_log(&["WARN", "in force all the same", "lost.yaml", wanted]);
    // The log has documents without their places; the folder has them.
    story.restart();
    until("the warnings are told with their places again", || {
        let warnings = story.admin.status()["warnings"].clone();
        if is_told(&warnings) { Ok(()) } else { Err(warnings.to_string()) }
    });
    told(&story);
    story.remove("lost.yaml");
    assert_eq!(story.admin.status()["warnings"], json!([]));
    assert_eq!(story.admin.metric("weir_revision_warnings", &[]), 0.0);
}

#[test]
fn cycles_and_reloads_are_counted_and_the_build_is_named() {
    let story = Story::begin(&Terrain::standard().rule("all", RULE));
    let cycles = |outcome: &str| story.admin.metric("weir_revision_cycles_total", &[&format!("outcome=\"{outcome}\"")]);
    let reloads = || story.admin.metric("weir_revision_reload_duration_seconds_count", &[]);
    let count = || ["applied", "restored", "unchanged", "rejected", "failed"].map(cycles);
    let (before, reloaded) = (count(), reloads());
    assert!(reloaded >= 1.0, "the first revision: {}", story.admin.metrics());
    story.apply_rule("all", "{services: [vehicle-recognition], timeouts: {request: 4s}}");
    story.write("bad.yaml", "kind: RouteRule\n");
    story.await_rejection();
    let (status, ready) = story.admin.call("GET", "/readyz", None).unwrap();
    assert!(status == 200 && ready.contains("folder was rejected: "), "{status} {ready}");
    fs::remove_file(story.rules().join("bad.yaml")).unwrap();
    until("the folder is as it was", || match cycles("unchanged") - before[2] {
        1.0 => Ok(()),
        other => Err(other.to_string()),
    });
    let first = story.admin.json("POST", "/api/v1/versions/1/rollback", None);
    assert_eq!(first["cause_detail"]["type"], "rollback");
    let now = count();
    let more: Vec<f64> = now.iter().zip(before).map(|(now, before)| now - before).collect();
    assert_eq!(more, [2.0, 0.0, 1.0, 1.0, 0.0], "applied twice, one of them a rollback; unchanged; rejected");
    assert_eq!(reloads() - reloaded, 1.0, "a rollback is no change of the source");
    let sum = story.admin.metric("weir_revision_reload_duration_seconds_sum", &[]);
    assert!(sum > 0.0, "{}", story.admin.metrics());
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(story.admin.metric("weir_build_info", &[&version]), 1.0, "{}", story.admin.metrics());
}

#[test]
fn who_waits_for_a_version_is_told_and_counted() {
    let story = Story::begin(&Terrain::standard().rule("all", RULE));
    let before = story.admin.sequence();
    // An earlier one is in force already.
    assert_eq!(story.admin.get(&format!("/api/v1/version/current?after={}", before - 1))["sequence"], before);
    // Whether both wait already when the version comes shows by the count of those who were told: else once more.
    until("two callers are told", || {
        let before = story.admin.sequence();
        let path = format!("/api/v1/version/current?after={before}");
        let wait = |admin: Admin, path: String| thread::spawn(move || admin.get(&path));
        let waiting = [(); 2].map(|()| wait(story.admin.clone(), path.clone()));
        let spec = format!("{{services: [vehicle-recognition], timeouts: {{request: {}s}}}}", 10 + before);
        let applied = story.apply_rule("all", &spec);
        for caller in waiting {
            assert_eq!(caller.join().unwrap()["version_id"], applied["version_id"]);
        }
        let steps = story.admin.get("/api/v1/cycles")["cycles"][0]["steps"].clone();
        let announced = steps.as_array().unwrap().last().cloned().unwrap();
        assert_eq!(announced["name"], "announced");
        if announced["detail"] == "2 waiting callers told" { Ok(()) } else { Err(announced.to_string()) }
    });
    let (status, text) = story.admin.call("GET", "/api/v1/version/current?later=1", None).unwrap();
    assert_eq!(status, 400, "{text}");
}

#[test]
fn a_loss_is_logged_once_with_the_pod_that_caused_it() {
    let story = Story::begin(&Terrain::standard().rule("all", RULE));
    story.told("client", &["ip", "addr", "add", "10.77.0.99/32", "dev", "eth0"]);
    let url = format!("http://{}/", RECOGNITION[0]);
    let answer = story.curl("client", &["--max-time", "2", "--interface", "10.77.0.99", &url]);
    assert_eq!(answer.exit, 28, "nothing comes back: {answer:?}");
    let lines = || -> Vec<String> {
        let told = |line: &&str| line.contains("spoofed") && line.contains(" WARN ");
        story.log().lines().filter(told).map(str::to_owned).collect()
    };
    let logged = until("each loss is logged", || {
        let (counted, lines) = (story.admin.kernel("dropped_spoofed"), lines());
        assert!(lines.len() as u64 <= counted, "{counted} losses, but {lines:#?}");
        if counted > 0 && lines.len() as u64 == counted { Ok(lines) } else { Err(format!("{counted}: {lines:#?}")) }
    });
    assert_eq!(story.admin.kernel("event_suppressed"), 0);
    for line in logged {
        for part in ["weir::kernel: dropped", "link_pod=\"default/client\"", "10.77.0.99"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
