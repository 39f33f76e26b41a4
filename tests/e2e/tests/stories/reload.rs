//! Changes of the folder: atomic, quick, harmless to what is under way, and never for the worse.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::json;
use weir_e2e::{Load, RECOGNITION, Story, Terrain, brief, rule, until};
use weir_lab::client::Request;

const LIMIT: Duration = Duration::from_secs(20);

/// A change must be in force within this.
const IN_FORCE: Duration = Duration::from_secs(1);

/// Everybody with the tag goes to the canary.
fn tagged(tag: &str) -> String {
    format!(
        "{{services: [vehicle-recognition], match: {{headers: {{x-user-tag: {tag}}}}}, \
         route: {{destination: {{host: service-canary, port: 8080}}}}}}"
    )
}

fn url() -> String {
    format!("http://{}/", RECOGNITION[0])
}

fn version_of(story: &Story, tag: &str) -> String {
    story.get("client", &url(), &[&format!("x-user-tag: {tag}")])
}

#[test]
fn five_hundred_reloads_under_load_fail_no_request() {
    let story = Story::begin(&Terrain::standard().rule("tag", &tagged("t0")).rule("keep", &tagged("always")));
    let request = Request::new("GET", &format!("http://{}/fast", RECOGNITION[0])).unwrap();
    let to = |server: &'static str| {
        move |response: &weir_lab::client::Response| match brief(response) {
            right if right == format!("200 {server}") => Ok(()),
            other => Err(format!("{other} instead of {server}")),
        }
    };
    let old = Load::start(&story.lab, "client", 2, &request, to("v1"));
    let new = Load::start(&story.lab, "client", 2, &request.header("x-user-tag", "always"), to("v2"));
    old.await_good(50);
    let (first, begun) = (story.admin.sequence(), Instant::now());
    let accepted = story.admin.connections("accepted");
    let mut times = Vec::new();
    for number in 1..=500 {
        let written = Instant::now();
        let version = story.apply_rule("tag", &tagged(&format!("t{number}")));
        times.push(written.elapsed());
        assert_eq!(version["sequence"], json!(first + number), "one version for each change");
    }
    let took = begun.elapsed();
    assert_eq!(story.admin.connections("accepted"), accepted, "no client had to connect again");
    let (old, new) = (old.stop(), new.stop());
    assert_eq!((old.failed, new.failed), (0, 0), "{old:?} {new:?}");
    assert!(old.good + new.good > 1000, "a real load: {old:?} {new:?}");
    times.sort();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    // All but a few: what a single change takes is the machine's business when others use it too.
    assert!(times[494] < IN_FORCE, "more than 5 changes took more than {IN_FORCE:?}: {times:?}");
    assert_eq!(version_of(&story, "t500"), "200 v2");
    println!(
        "500 reloads in {took:?}, the median {median:?}, the slowest {slowest:?}; {} requests, 0 failed, the slowest {:?}",
        old.good + new.good,
        old.slowest.max(new.slowest)
    );
}

#[test]
fn a_running_request_keeps_its_snapshot_and_its_connection() {
    let spec = "{services: [vehicle-recognition], timeouts: {request: 10s}}";
    let story = Story::begin(&Terrain::standard().rule("all", spec));
    let mut connection = story.connect("client", RECOGNITION[0]);
    let slow = "GET /drip?bytes=30&every=50ms HTTP/1.1\r\nhost: a\r\n\r\n";
    let before = story.counted("v1")["total"].as_u64().unwrap();
    connection.send_raw(slow.as_bytes(), LIMIT).unwrap();
    until("v1 has the request", || {
        let total = story.counted("v1")["total"].as_u64();
        if total > Some(before) { Ok(()) } else { Err(format!("{total:?}")) }
    });
    // Under the new rule this request would go elsewhere, and could not last that long.
    let other = "{services: [vehicle-recognition], route: {destination: {host: shadow}}, timeouts: {request: 100ms}}";
    story.apply_rule("all", other);
    assert_eq!(story.get("client", &url(), &[]), "200 shadow", "new requests see the new rule");
    let response = connection.receive_raw(LIMIT).unwrap();
    assert_eq!((brief(&response).as_str(), response.body.len()), ("200 v1", 30));
    let request = Request::new("GET", &url()).unwrap();
    assert_eq!(brief(&connection.exchange(&request, LIMIT).unwrap()), "200 shadow", "the connection went on");
}

#[test]
fn a_config_map_volume_is_followed() {
    let story = Story::prepare(&Terrain::standard());
    let volume = story.rules().join("volume");
    fs::create_dir(&volume).unwrap();
    // As the kubelet does it: a folder with a new name, then one rename of the link that all files go through.
    let publish = |number: u32, tag: &str| {
        let data = format!("..2026_11_25_{number}");
        fs::create_dir(volume.join(&data)).unwrap();
        fs::write(volume.join(&data).join("rule.yaml"), rule("tag", &tagged(tag))).unwrap();
        symlink(&data, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        if number > 0 {
            fs::remove_dir_all(volume.join(format!("..2026_11_25_{}", number - 1))).unwrap();
        }
    };
    publish(0, "a0");
    symlink("..data/rule.yaml", volume.join("rule.yaml")).unwrap();
    let mut story = story;
    story.start();
    assert_eq!(version_of(&story, "a0"), "200 v2");
    for number in 1..6 {
        let before = story.admin.sequence();
        publish(number, &format!("a{number}"));
        let version = story.await_version_after(before);
        assert_eq!(version["sequence"], json!(before + 1), "one version for a swap: {version}");
        assert_eq!(version_of(&story, &format!("a{number}")), "200 v2");
        assert_eq!(version_of(&story, &format!("a{}", number - 1)), "200 v1");
    }
}

#[test]
fn what_is_wrong_changes_nothing_in_memory_and_on_disk() {
    let mut story = Story::begin(&Terrain::standard().rule("tag", &tagged("good")));
    let good = story.admin.current();
    let broken = "apiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {name: broken}\nspec:\n  match:\n    haeders: {}\n  \
                  route:\n    destination: {host: service-canary, port: 99999}\n";
    story.write("broken.yaml", broken);
    let wrong = story.await_rejection();
    let fields: Vec<_> =
        wrong.iter().map(|one| (one["line"].clone(), one["field"].as_str().unwrap_or_default())).collect();
    assert_eq!(wrong.len(), 2, "everything wrong at once: {wrong:#?}");
    assert!(fields.contains(&(json!(8), "spec.route.destination.port")), "{fields:?}");
    assert!(
        wrong.iter().all(|one| one["file"].as_str().is_some_and(|file| file.ends_with("broken.yaml"))),
        "{wrong:#?}"
    );
    story.write("tag.yaml", &rule("tag", &tagged("later")));
    until("the second look at the folder", || {
        let log = story.log();
        if story.admin.status()["rejected"].is_object() && version_of(&story, "later") == "200 v1" {
            Ok(())
        } else {
            Err(log)
        }
    });
    assert_eq!(story.admin.current()["version_id"], good["version_id"], "the last good one stays");
    assert_eq!(version_of(&story, "good"), "200 v2");

    // In order and by force: a restart comes back with the last good version although the folder is bad.
    story.restart();
    assert_eq!(story.admin.current()["version_id"], good["version_id"]);
    assert_eq!(version_of(&story, "good"), "200 v2");
    story.await_rejection();
    story.kill9();
    story.start();
    assert_eq!(story.admin.current()["version_id"], good["version_id"]);
    assert_eq!(version_of(&story, "good"), "200 v2");

    let before = story.admin.sequence();
    fs::remove_file(story.rules().join("broken.yaml")).unwrap();
    story.await_version_after(before);
    assert_eq!((version_of(&story, "later"), version_of(&story, "good")), ("200 v2".to_owned(), "200 v1".to_owned()));
    assert!(story.admin.status()["rejected"].is_null());
}

#[test]
fn editors_deletions_and_new_folders_are_seen() {
    let story = Story::begin(&Terrain::standard().rule("tag", &tagged("one")));
    let file = story.rules().join("tag.yaml");
    // In place: truncated, then written.
    let before = story.admin.sequence();
    fs::write(&file, rule("tag", &tagged("two"))).unwrap();
    story.await_version_after(before);
    assert_eq!(version_of(&story, "two"), "200 v2");
    // As vim does it: the old file moves away, a new one takes its name, the old one goes.
    let before = story.admin.sequence();
    let backup = story.rules().join("tag.yaml~");
    fs::rename(&file, &backup).unwrap();
    fs::write(&file, rule("tag", &tagged("three"))).unwrap();
    fs::remove_file(&backup).unwrap();
    until("the saved rule is in force", || match version_of(&story, "three").as_str() {
        "200 v2" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert!(story.admin.sequence() > before);
    let gone = story.remove("tag.yaml");
    assert_eq!(gone["change_log"]["removed"].as_array().unwrap().len(), 1, "{gone}");
    assert_eq!(version_of(&story, "three"), "200 v1");
    let before = story.admin.sequence();
    fs::create_dir_all(story.rules().join("team/a")).unwrap();
    fs::write(story.rules().join("team/a/tag.yaml"), rule("tag", &tagged("four"))).unwrap();
    story.await_version_after(before);
    assert_eq!(version_of(&story, "four"), "200 v2");
}

#[test]
fn equal_content_is_no_new_version() {
    let story = Story::begin(&Terrain::standard().rule("tag", &tagged("a")));
    let before = story.admin.current();
    let cycles = || story.admin.get("/api/v1/cycles").to_string();
    let seen = cycles();
    // The same rule, written in another way, in another file.
    fs::remove_file(story.rules().join("tag.yaml")).unwrap();
    let other = "# the same\nkind: RouteRule\napiVersion: weir.dev/v1\nspec:\n  route:\n    destination:\n      port: 8080\n      \
                 host: service-canary\n  services: [vehicle-recognition]\n  match:\n    headers:\n      X-User-Tag: {exact: a}\n\
                 metadata:\n  name: tag\n";
    story.write("other-name.yaml", other);
    until("the change was looked at", || if cycles() == seen { Err(seen.clone()) } else { Ok(()) });
    until("the same content is in force", || {
        let now = story.admin.current();
        if now["version_id"] == before["version_id"] { Ok(()) } else { Err(now.to_string()) }
    });
    assert_eq!(version_of(&story, "a"), "200 v2");
}
