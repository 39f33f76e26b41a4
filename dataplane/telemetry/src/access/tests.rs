use std::path::Path;

use weir_core::name::ServiceName;

use super::*;
use crate::Telemetry;

fn cluster(name: &str) -> ClusterName {
    ClusterName { service: ServiceName::new("shop", name), port: 80 }
}

fn lines_of(format: &Format, records: &[AccessRecord<'_>]) -> String {
    let mut text = Vec::new();
    records.iter().for_each(|record| format.write(record, &mut text));
    String::from_utf8(text).unwrap()
}

fn with_record(mut test: impl FnMut(AccessRecord<'_>)) {
    let (service, destination, mirror) = (cluster("cart"), cluster("cart-v2"), cluster("cart-v3"));
    test(AccessRecord {
        began: SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000),
        revision: Some(7),
        source: Some(("shop", "web-1")),
        client: "10.42.0.7:4711".parse().unwrap(),
        method: "GET",
        host: Some("cart"),
        path: "/items",
        protocol: "HTTP/1.1",
        service: Some(&service),
        rule: Some("shop/canary".to_owned()),
        destination: Some(&destination),
        version: Some("v2"),
        endpoint: Some("10.42.0.9:8080".parse().unwrap()),
        mirrors: vec![&mirror],
        plugins: &[("shop/auth".into(), Duration::from_micros(12))],
        status: Some(200),
        call: None,
        cause: None,
        retries: 1,
        duration: Duration::from_micros(1_234),
        response_time: Some(Duration::from_millis(1)),
        request_bytes: 3,
        response_bytes: 5,
        request_id: Some("abc"),
        trace_id: None,
        user_agent: Some("curl"),
    });
}

#[test]
fn a_line_has_the_fields_that_the_request_has() {
    with_record(|record| {
        let expected = concat!(
            r#"{"time":"1970-01-01T00:00:01.500000Z","revision":7,"source":"shop/web-1","client":"10.42.0.7:4711","#,
            r#""method":"GET","host":"cart","path":"/items","protocol":"HTTP/1.1","service":"shop/cart:80","#,
            r#""rule":"shop/canary","destination":"shop/cart-v2:80","version":"v2","endpoint":"10.42.0.9:8080","#,
            r#""mirrors":["shop/cart-v3:80"],"plugins":["shop/auth 12us"],"status":200,"retries":1,"duration_us":1234,"response_us":1000,"#,
            r#""request_bytes":3,"response_bytes":5,"request_id":"abc","user_agent":"curl"}"#,
            "\n"
        );
        assert_eq!(lines_of(&Format::default(), &[record]), expected);
    });
}

#[test]
fn templates_have_fields_in_braces() {
    let cases = [
        ("{method} {path} {status}", Ok("GET /items 200\n")),
        ("{{{method}}} {cause} {mirrors}", Ok("{GET} - shop/cart-v3:80\n")),
        ("", Ok("\n")),
        ("plain", Ok("plain\n")),
        ("{", Err("the '{' at byte 0 has no partner; a brace of its own is written twice")),
        ("a}", Err("the '}' at byte 1 has no partner; a brace of its own is written twice")),
        ("{method", Err("the '{' at byte 0 has no partner; a brace of its own is written twice")),
        ("a\nb", Err("a template has no line breaks")),
    ];
    with_record(|record| {
        for (text, expected) in cases {
            let line = Format::template(text).map(|format| lines_of(&format, std::slice::from_ref(&record)));
            assert_eq!(line.as_deref().map_err(ToString::to_string), expected.map_err(str::to_owned), "{text:?}");
        }
        let error = Format::template("{methode}").unwrap_err().to_string();
        assert!(error.starts_with("\"methode\" is no field of the access log; there are time, revision,"), "{error}");
    });
}

#[test]
fn what_clients_send_cannot_break_a_line() {
    let (long, evil) = ("ä".repeat(2_000), "/a\"b\\c\nd\u{7f}");
    with_record(|record| {
        let record = AccessRecord { path: evil, host: Some(&long), ..record };
        let text = lines_of(&Format::template("{path} {host}").unwrap(), std::slice::from_ref(&record));
        assert_eq!(text, format!("/a\\x22b\\x5Cc\\x0Ad\\x7F {}\n", "ä".repeat(512)));
        let json = lines_of(&Format::default(), &[record]);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((json.lines().count(), read["path"].as_str()), (1, Some(evil)));
    });
}

#[test]
fn what_failed_is_always_notable() {
    let failed = CallStatus::new(14);
    let cases = [
        ((Some(200), None, None), false),
        ((Some(404), None, None), false),
        ((Some(500), None, None), true),
        ((None, None, None), true),
        ((Some(404), None, Some(Cause::NoRoute)), true),
        ((Some(200), Some(failed), None), true),
        ((Some(200), Some(CallStatus::new(0)), None), false),
    ];
    for ((status, call, cause), expected) in cases {
        assert_eq!(is_notable(status, call, cause), expected, "{status:?} {call:?} {cause:?}");
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Writes a line of this size with a log of its own.
fn write(destination: &Destination, telemetry: &Telemetry, text: &str) {
    let log = AccessLog::open(destination, Format::template(text).unwrap(), telemetry).unwrap();
    with_record(|record| log.sink().write(&record));
    log.close();
}

#[test]
fn a_full_file_is_moved_away_and_one_that_is_gone_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let destination = Destination::File { path: path.clone(), max_bytes: 8 };
    let telemetry = Telemetry::default();
    for (text, (expected, before)) in [
        ("one", ("one\n", "")),
        ("two", ("one\ntwo\n", "")),
        ("three", ("three\n", "one\ntwo\n")),
        ("four", ("three\nfour\n", "one\ntwo\n")),
        ("five", ("five\n", "three\nfour\n")),
    ] {
        write(&destination, &telemetry, text);
        assert_eq!((&*read(&path), &*read(&moved)), (expected, before), "{text}");
    }
    let log = AccessLog::open(&destination, Format::template("six").unwrap(), &telemetry).unwrap();
    std::fs::remove_file(&path).unwrap();
    with_record(|record| log.sink().write(&record));
    log.close();
    assert_eq!(read(&path), "six\n");
}

#[test]
fn lines_that_cannot_be_written_are_lost_and_counted() {
    let telemetry = Telemetry::default();
    let full = Destination::File { path: "/dev/full".into(), max_bytes: u64::MAX };
    write(&full, &telemetry, "one");
    let text = telemetry.encode(&[]).unwrap();
    assert!(text.contains("weir_access_log_lines_total{outcome=\"lost\"} 1\n"), "{text}");
    let missing = Destination::File { path: "/no/such/folder/a".into(), max_bytes: 1 };
    let error = AccessLog::open(&missing, Format::default(), &telemetry).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot open the access log /no/such/folder/a: No such file or directory (os error 2)"
    );
}

#[test]
fn who_writes_never_waits_for_a_file_that_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Open for reading, and never read.
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let telemetry = Telemetry::default();
    let destination = Destination::File { path, max_bytes: u64::MAX };
    let log = AccessLog::open(&destination, Format::default(), &telemetry).unwrap();
    let mut sink = log.sink();
    // Several times what the pipe and the queue have room for.
    with_record(|record| (0..40_000).for_each(|_| sink.write(&record)));
    let text = telemetry.encode(&[]).unwrap();
    let lost = text.lines().find(|line| line.contains("outcome=\"lost\"")).unwrap();
    assert!(!lost.ends_with(" 0"), "{lost}");
    drop(sink);
    drop(reader);
    log.close();
}
