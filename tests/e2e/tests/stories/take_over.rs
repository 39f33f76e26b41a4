//! One node process takes over from another, as an upgrade does it; or fails to, and the other goes on.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use weir_e2e::{Load, RECOGNITION, Story, Terrain, brief};
use weir_lab::client::Request;

const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_secs(20);
const RULE: &str = "{services: [vehicle-recognition], timeouts: {request: 5s}}";
/// Sends requests of testers to `v2`.
const CANARY: &str = "{services: [vehicle-recognition], match: {headers: {x-user-tag: {exact: tester}}}, \
                      route: {destination: {host: service-canary, port: 8080}}}";

fn url(path: &str) -> String {
    format!("http://{}{path}", RECOGNITION[0])
}

/// Clients with kept connections, and clients with a new connection for each request.
fn loads(story: &Story) -> [Load; 2] {
    let kept = Request::new("GET", &url("/fast")).unwrap();
    let new = kept.clone().header("connection", "close");
    [kept, new].map(|request| {
        Load::start(&story.lab, "client", 3, &request, |response| match brief(response) {
            right if right == "200 v1" => Ok(()),
            other => Err(other),
        })
    })
}

#[track_caller]
#[expect(clippy::print_stdout, reason = "the figures are worth a look")]
fn nothing_failed(loads: [Load; 2]) {
    for (load, what) in loads.into_iter().zip(["kept connections", "new connections"]) {
        let report = load.stop();
        println!("{what}: {} requests good, the slowest {:?}", report.good, report.slowest);
        assert_eq!(report.failed, 0, "{what}: {report:#?}");
    }
}

#[test]
fn another_process_takes_over_and_no_request_is_lost() {
    let mut story = Story::begin(&Terrain::standard().rule("all", RULE));
    let before = story.footprint_names();
    let loads = loads(&story);
    let is_over = Arc::new(AtomicBool::new(false));
    let asking = {
        let (admin, is_over) = (story.admin.clone(), Arc::clone(&is_over));
        thread::spawn(move || {
            let mut asked = 0;
            while !is_over.load(Ordering::Relaxed) {
                let answer = admin.call("GET", "/healthz", None);
                assert!(matches!(&answer, Ok((200, _))), "the API after {asked} answers: {answer:?}");
                asked += 1;
            }
            asked
        })
    };
    for round in 0..ROUNDS {
        loads.iter().for_each(|load| load.await_good(100));
        // Under way while the processes change: answered by the old one.
        let mut slow = story.connect("client", RECOGNITION[0]);
        let request = Request::new("GET", &url("/drip?bytes=40&every=50ms")).unwrap();
        let slow = thread::spawn(move || slow.exchange(&request, LIMIT));
        let pid = story.pid();
        let ended = story.take_over();
        assert!(ended.success(), "{ended}");
        assert_ne!(story.pid(), pid);
        let response = slow.join().unwrap().unwrap();
        assert_eq!((response.status, response.body.len()), (200, 40));
        // The new process is the node: it puts changes in force, and goes on with the log.
        let version = story.apply_rule(&format!("canary-{round}"), CANARY);
        assert_eq!(version["sequence"], 2 * round + 2);
        assert_eq!(story.get("client", &url("/"), &["x-user-tag: tester"]), "200 v2");
        story.remove(&format!("canary-{round}.yaml"));
    }
    loads.iter().for_each(|load| load.await_good(100));
    nothing_failed(loads);
    is_over.store(true, Ordering::Relaxed);
    let asked = asking.join().unwrap();
    assert!(asked > 0);
    assert_eq!(story.footprint_names(), before, "no program is attached twice");
    assert!(story.stop().success());
    assert!(story.footprint_names().is_empty(), "the last one removes everything");
}

#[test]
fn who_fails_to_take_over_leaves_the_other_as_it_was() {
    let mut story = Story::begin(&Terrain::standard().rule("all", RULE));
    let before = story.footprint_names();
    let loads = loads(&story);
    let pid = story.pid();
    // Fails when the log is its own already, and before anything else is.
    story.overlay(json!({ "interception": { "bridge": "absent0" } }));
    assert!(!story.fail_beside(&["--take-over"]).success());
    story.await_log(&["absent0"]);
    story.overlay(json!({ "interception": { "bridge": "cni0" } }));
    story.await_log(&["this process is the node again"]);
    loads.iter().for_each(|load| load.await_good(100));

    // Without being asked to, nobody takes over, and the message says how.
    assert!(!story.fail_beside(&[]).success());
    story.await_log(&["in use by another process", "--take-over"]);

    assert_eq!(story.pid(), pid);
    story.apply_rule("canary", CANARY);
    assert_eq!(story.get("client", &url("/"), &["x-user-tag: tester"]), "200 v2");
    assert_eq!(story.footprint_names(), before);
    nothing_failed(loads);
    assert!(story.take_over().success(), "the next that tries can");
}

/// Plays a process that asks to take over, as far as it wants.
fn ask(story: &Story) -> (BufReader<UnixStream>, String) {
    let mut stream = UnixStream::connect(story.folder().join("state/take-over.sock")).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"{\"takeOver\":1}\n").unwrap();
    let mut stream = BufReader::new(stream);
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    (stream, answer)
}

#[test]
fn while_another_gets_ready_requests_are_served_and_nothing_changes() {
    let story = Story::begin(&Terrain::standard().rule("all", RULE));
    story.apply_rule("canary", CANARY);
    let loads = loads(&story);
    let (other, answer) = ask(&story);
    assert!(answer.starts_with("{\"lent\":"), "{answer}");
    loads.iter().for_each(|load| load.await_good(100));
    let refused = story.admin.call("POST", "/api/v1/versions/1/rollback", None).unwrap();
    assert_eq!(refused.0, 503, "{refused:?}");
    assert_eq!(story.admin.current()["sequence"], 2, "what is in force is still told");
    drop(other);
    story.await_log(&["this process is the node again"]);
    let rolled_back = story.weir_json(&["rollback", "1"]);
    assert_eq!(story.get("client", &url("/"), &["x-user-tag: tester"]), "200 v1", "{rolled_back}");
    nothing_failed(loads);
}
