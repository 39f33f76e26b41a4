//! Copies: whole, marked, only of what may be copied, and never at the client's cost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_e2e::{RECOGNITION, Story, Terrain, brief, until, until_within};
use weir_lab::client::{Payload, Request};
use weir_lab::content::{SEED, sha256};
use weir_lab::server::Mode;

const LIMIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;
/// Everything that is done to `vehicle-recognition`, copied to the shadow.
const ALL: &str = "{services: [vehicle-recognition], mirror: {destination: {host: shadow}, methods: ['*']}}";

fn request(method: &str, target: &str, body: Payload) -> Request {
    let request = Request::new(method, &format!("http://{}{target}", RECOGNITION[0])).unwrap();
    request.header("host", "recognition.example").limit(LIMIT).body(body)
}

#[track_caller]
fn send(story: &Story, request: &Request) -> weir_lab::client::Response {
    weir_lab::client::send(&story.lab, "client", request).unwrap()
}

/// The copies that the shadow got, when it has this many.
#[track_caller]
fn await_copies(story: &Story, count: usize) -> Vec<Value> {
    until("the copies", || {
        let seen = story.seen("shadow");
        if seen.len() >= count { Ok(seen) } else { Err(format!("{} of {count}: {:?}", seen.len(), mirrors(story))) }
    })
}

/// The one mirror's row of the status.
#[track_caller]
fn mirrors(story: &Story) -> Value {
    story.admin.status()["mirrors"].as_array().and_then(|rows| rows.first()).cloned().unwrap_or_default()
}

/// Waits until each of these counts of the mirror is at least so large.
#[track_caller]
fn await_counts(story: &Story, wanted: &[(&str, u64)]) -> Value {
    until_within(Duration::from_secs(40), "the copies are counted", || {
        let row = mirrors(story);
        let holds = wanted.iter().all(|(name, least)| row[*name].as_u64().is_some_and(|count| count >= *least));
        if holds { Ok(row) } else { Err(format!("{row}, wanted {wanted:?}")) }
    })
}

#[test]
fn a_copy_is_whole_marked_and_keeps_its_host() {
    let story = Story::begin(&Terrain::standard().rule("mirror", ALL));
    for (number, body) in
        [Payload::Chunked(5 * MIB), Payload::Content(3 * MIB + 7), Payload::None].into_iter().enumerate()
    {
        let bytes = match body {
            Payload::Chunked(n) | Payload::Content(n) => n,
            _ => 0,
        };
        let response = send(&story, &request("POST", &format!("/upload?n={number}"), body).header("x-user", "u1"));
        let told = response.json().unwrap();
        assert_eq!(
            (brief(&response).as_str(), &told["body_sha256"]),
            ("200 v1", &json!(sha256(SEED, bytes))),
            "{told}"
        );
        let copy = await_copies(&story, number + 1).pop().unwrap();
        assert_eq!(copy["body_sha256"], sha256(SEED, bytes), "{copy} {}", mirrors(&story));
        assert_eq!((&copy["body_bytes"], &copy["complete"]), (&json!(bytes), &json!(true)));
        assert_eq!((&copy["method"], &copy["path"]), (&json!("POST"), &json!(format!("/upload?n={number}"))));
        assert_eq!(copy["headers"]["host"], "recognition.example", "the copy keeps Host: {copy}");
        assert_eq!(copy["headers"]["x-user"], "u1");
        assert!(copy["headers"]["x-weir-mirror"].is_string(), "the copy is marked: {copy}");
        assert!(told["headers"]["x-weir-mirror"].is_null(), "the request itself is not: {told}");
    }
    let row = await_counts(&story, &[("sent", 3)]);
    assert_eq!(row["status"]["2xx"], 3, "{row}");
    // Each copy's response is counted by its own status, whatever the client got.
    for (status, class, count) in [(404, "4xx", 1.0), (503, "5xx", 1.0), (503, "5xx", 2.0)] {
        assert_eq!(send(&story, &request("GET", &format!("/status/{status}"), Payload::None)).status, status);
        until("the mirror's response is counted", || {
            match story.admin.metric("weir_mirror_responses_total", &[&format!("status=\"{class}\"")]) {
                found if found == count => Ok(()),
                found => Err(format!("{class}: {found}, not {count}")),
            }
        });
    }
    let exported = |name: &str, label: &str| story.admin.metric(name, &[label]);
    assert_eq!(exported("weir_mirror_responses_total", "status=\"2xx\""), 3.0, "{}", story.admin.metrics());
    assert_eq!(exported("weir_mirror_copies_total", "outcome=\"sent\""), 6.0, "{}", story.admin.metrics());
}

#[test]
fn only_safe_methods_unless_said_otherwise_and_only_the_share() {
    let spec =
        |rest: &str| format!("{{services: [vehicle-recognition], mirror: {{destination: {{host: shadow}}{rest}}}}}");
    let story = Story::begin(&Terrain::standard().rule("mirror", &spec("")));
    for method in ["POST", "PUT", "DELETE", "PATCH", "GET", "HEAD", "OPTIONS"] {
        assert_eq!(send(&story, &request(method, "/a", Payload::None)).status, 200, "{method}");
    }
    await_copies(&story, 3);
    let mut methods: Vec<_> = story.seen("shadow").iter().map(|copy| copy["method"].to_string()).collect();
    methods.sort();
    assert_eq!(methods, ["\"GET\"", "\"HEAD\"", "\"OPTIONS\""]);

    story.apply_rule("mirror", &spec(", methods: [POST]"));
    story.forget("shadow");
    for method in ["GET", "PUT", "POST"] {
        send(&story, &request(method, "/b", Payload::None));
    }
    await_copies(&story, 1);
    assert_eq!(story.counted("shadow")["by_method"], json!({ "POST": { "plain": 0, "mirrored": 1 } }));

    story.apply_rule("mirror", &spec(", percentage: 20"));
    story.forget("shadow");
    let sent_before = mirrors(&story)["sent"].as_u64().unwrap();
    let mut connection = story.connect("client", RECOGNITION[0]);
    for _ in 0..1000 {
        connection.exchange(&request("GET", "/fast", Payload::None), LIMIT).unwrap();
    }
    // No more requests come, so the count is final once nothing is under way.
    let row = until("no copy is under way", || {
        let row = mirrors(&story);
        if row["in_flight"] == 0 && row["sent"].as_u64() > Some(sent_before + 100) {
            Ok(row)
        } else {
            Err(row.to_string())
        }
    });
    let copied = row["sent"].as_u64().unwrap() - sent_before;
    assert!((124..276).contains(&copied), "20 % of 1000, six standard deviations of 12.6: {copied}");
}

#[test]
fn the_answer_to_a_copy_never_reaches_the_client() {
    let mut story = Story::begin(&Terrain::standard().rule("mirror", ALL));
    story.silence("shadow");
    story.serve("shadow", Mode::Http, "shadow");
    let mut connection = story.connect("client", RECOGNITION[0]);
    for number in 0..200 {
        // The path makes both servers answer with statuses of their own; only v1's may be seen.
        let response = connection.exchange(&request("GET", &format!("/x{number}"), Payload::None), LIMIT).unwrap();
        assert_eq!(brief(&response), "200 v1");
        let told = response.json().unwrap();
        assert_eq!((&told["server"], &told["path"]), (&json!("v1"), &json!(format!("/x{number}"))));
    }
    await_counts(&story, &[("sent", 200)]);
}

/// What the mirror does, and the counts of which at least one must tell of the copies.
const BAD: [(&str, Option<Mode>, &[&str]); 4] = [
    ("nobody there", None, &["connect", "breaker"]),
    ("refusing", Some(Mode::Refuse), &["connect", "breaker"]),
    ("hanging", Some(Mode::Hang), &["timeout", "busy", "breaker", "failed"]),
    ("reading a byte a second", Some(Mode::SlowRead), &["timeout", "busy", "overflow", "breaker", "budget"]),
];

/// Every way in which a copy can end.
const REASONS: [&str; 11] = [
    "sent",
    "overflow",
    "busy",
    "budget",
    "connect",
    "timeout",
    "unresolved",
    "no_endpoint",
    "aborted",
    "failed",
    "breaker",
];

#[test]
fn a_bad_mirror_costs_the_client_nothing_and_is_counted() {
    let settings = json!({ "proxy": { "mirror": { "deadline": "4s", "copyBytes": 65536 } } });
    let mut story = Story::begin(&Terrain::standard().rule("mirror", ALL).settings(settings));
    for (what, mode, reasons) in BAD {
        match mode {
            Some(mode) => story.serve("shadow", mode, "bad"),
            None => story.silence("shadow"),
        }
        let sum =
            |row: &Value, of: &[&str]| of.iter().map(|reason| row[*reason].as_u64().unwrap_or_default()).sum::<u64>();
        let first = mirrors(&story);
        let mut connection = story.connect("client", RECOGNITION[0]);
        let mut slowest = Duration::ZERO;
        for number in 0..40 {
            let body = if number % 4 == 0 { Payload::Content(MIB) } else { Payload::Bytes(vec![7; 100]) };
            let begun = Instant::now();
            let response = connection.exchange(&request("POST", "/work", body), LIMIT).unwrap();
            slowest = slowest.max(begun.elapsed());
            assert_eq!(brief(&response), "200 v1", "{what}");
        }
        // A mirror that could hold a request up would do so for its deadline.
        assert!(slowest < Duration::from_secs(3), "{what}: a request took {slowest:?}");
        until("every copy is counted", || {
            let row = mirrors(&story);
            let counted = sum(&row, &REASONS) - sum(&first, &REASONS);
            let expected = sum(&row, reasons) - sum(&first, reasons);
            if counted == 40 && expected > 0 { Ok(()) } else { Err(format!("{what}: {row}, before {first}")) }
        });
    }
    assert_eq!(story.get("client", &format!("http://{}/", RECOGNITION[0]), &[]), "200 v1");
}

#[test]
fn a_mirror_with_an_unresolved_or_empty_destination_is_counted_and_harmless() {
    let unresolved =
        "{services: [vehicle-recognition], mirror: {destination: {host: nobody, port: 80}, methods: ['*']}}";
    let story = Story::begin(&Terrain::standard().rule("mirror", unresolved));
    assert_eq!(brief(&send(&story, &request("POST", "/", Payload::Content(MIB)))), "200 v1");
    await_counts(&story, &[("unresolved", 1)]);
}

#[test]
fn a_hanging_mirror_cannot_eat_memory() {
    let mut story = Story::begin(&Terrain::standard().serve("shadow", Mode::Hang).rule("mirror", ALL));
    let mut connection = story.connect("client", RECOGNITION[0]);
    // The first requests make buffers, pools and thread stacks.
    for _ in 0..4 {
        connection.exchange(&request("POST", "/warm", Payload::Content(MIB)), LIMIT).unwrap();
    }
    let before = story.resident();
    let mut most = before;
    for number in 0..25 {
        // Too much for a copy, which is given up; and what waits in a copy until its deadline.
        let size = if number % 2 == 0 { 20 * MIB } else { 6 * MIB };
        let response = connection.exchange(&request("POST", "/big", Payload::Chunked(size)), LIMIT).unwrap();
        assert_eq!(brief(&response), "200 v1");
        most = most.max(story.resident());
    }
    // 16 MiB for the copies of a worker (the default), and room for the allocator.
    let grown = (most - before) / MIB;
    let row = mirrors(&story);
    let given_up = ["overflow", "budget"].iter().filter_map(|reason| row[*reason].as_u64()).sum::<u64>();
    let in_flight = row["in_flight"].as_u64().unwrap();
    assert!(given_up > 5 && row["bytes"].as_u64() > Some(100_000), "copies were tried: {row}");
    // The first four, and perhaps two of 6 MiB; what is given up is over, though the server has never read a byte.
    assert!(given_up + in_flight == 29 && in_flight < 10, "what was given up is still under way: {row}");
    assert!(grown < 32, "the node grew by {grown} MiB while 332 MiB were mirrored to a server that reads nothing");
    assert!(story.is_running());
}

#[test]
fn a_client_that_goes_away_ends_its_copy() {
    let story = Story::begin(&Terrain::standard().rule("mirror", ALL));
    let mut connection = story.connect("client", RECOGNITION[0]);
    let head = "POST /broken HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
    connection.send_raw(format!("{head}{}", "x".repeat(5000)).as_bytes(), LIMIT).unwrap();
    until("the copy began", || match mirrors(&story)["in_flight"].as_u64() {
        Some(1..) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(connection);
    await_counts(&story, &[("aborted", 1)]);
    until("the shadow knows", || {
        let seen = story.seen("shadow");
        if seen.iter().any(|copy| copy["path"] == "/broken" && copy["complete"] == json!(false)) {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
}
