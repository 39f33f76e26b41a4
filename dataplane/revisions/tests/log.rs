//! The version log by itself: what it keeps, what it drops, and what it does with a file that is not as it should be.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use redb::{ReadableDatabase, TableDefinition};
use support::*;
use weir_core::revision::Sequence;
use weir_revisions::*;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

fn open(state: &Path) -> Log {
    Log::open(state, Retention::default()).unwrap()
}

fn append(log: &Log, sequence: u64, host: &str) -> Record {
    let documents = documents(&leading_to(host));
    let record = record(sequence, &documents);
    log.append(&record, &Default::default(), &documents, None).unwrap();
    record
}

fn sequences(log: &Log) -> Vec<u64> {
    log.list(usize::MAX, None).unwrap().iter().map(|record| record.sequence.0).collect()
}

#[test]
fn what_was_appended_is_there_after_opening_again() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path());
    assert_eq!(log.latest().unwrap(), None);
    let first = append(&log, 1, "a");
    let second = append(&log, 2, "b");
    let seen = Seen { content_hash: ContentHash([1; 32]), version_id: first.version_id };
    log.note_seen("folder", &seen).unwrap();
    drop(log);
    let log = open(state.path());
    assert_eq!(log.list(9, None).unwrap(), [second.clone(), first.clone()]);
    assert_eq!(log.list(1, None).unwrap(), std::slice::from_ref(&second));
    assert_eq!(log.list(9, Some(Sequence(2))).unwrap(), std::slice::from_ref(&first));
    assert_eq!(log.seen("folder").unwrap(), Some(seen));
    assert_eq!(log.seen("git").unwrap(), None);
    let kept = log.documents(first.sequence).unwrap();
    let expected = documents(&leading_to("a"));
    assert!(kept.iter().map(|document| document.canonical.as_str()).eq(expected.iter().map(|d| &*d.canonical)));
    // The same once more is the same; another in its place is refused.
    log.append(&second, &Default::default(), &documents(&leading_to("b")), None).unwrap();
    let other = record(2, &expected);
    assert!(log.append(&other, &Default::default(), &expected, None).is_err());
    assert_eq!(sequences(&log), [2, 1]);
}

#[test]
fn selectors_name_one_revision_or_say_why_not() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path());
    let first = append(&log, 1, "a");
    append(&log, 2, "b");
    append(&log, 3, "a");
    let prefix = |length| first.version_id.to_string()[..length].to_owned();
    // Content that came back is named by its newest revision.
    for (text, expected) in
        [("current", 3), ("2", 2), ("1", 1), (&prefix(8), 3), (&prefix(64), 3), (&prefix(9).to_uppercase(), 3)]
    {
        assert_eq!(log.find(&text.parse().unwrap()).unwrap().sequence.0, expected, "{text}");
    }
    for malformed in ["", "abc", &prefix(7).replace(|c: char| c.is_ascii_digit(), "a"), "latest", "-1", &"a".repeat(65)]
    {
        assert!(matches!(malformed.parse::<Selector>(), Err(SelectError::Malformed(_))), "{malformed}");
    }
    assert!(matches!(log.find(&"4".parse().unwrap()), Err(SelectError::NotFound(_))));
}

#[test]
fn an_ambiguous_prefix_names_its_candidates() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path());
    let documents = documents(&leading_to("a"));
    for sequence in [1, 2] {
        let mut record = record(sequence, &documents);
        record.version_id.0[31] = sequence as u8;
        log.append(&record, &Default::default(), &documents, None).unwrap();
    }
    let prefix: Selector = documents.id().to_string()[..10].parse().unwrap();
    match log.find(&prefix) {
        Err(SelectError::Ambiguous { candidates, .. }) => assert_eq!(candidates.len(), 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn retention_drops_the_oldest_with_what_only_they_had() {
    let state = tempfile::tempdir().unwrap();
    let log = Log::open(state.path(), Retention { revisions: 3, ..Retention::default() }).unwrap();
    for (sequence, host) in (1..).zip(["a", "b", "c", "a", "d", "a"]) {
        append(&log, sequence, host);
    }
    assert_eq!(sequences(&log), [6, 5, 4]);
    // What is kept is whole, although it shares documents with what was dropped.
    for sequence in [4, 5, 6] {
        log.documents(Sequence(sequence)).unwrap();
    }
    assert!(log.documents(Sequence(1)).is_err());
}

#[test]
fn retention_by_size_keeps_the_one_in_force() {
    let state = tempfile::tempdir().unwrap();
    let log = Log::open(state.path(), Retention { revisions: 100, bytes: 250 << 10 }).unwrap();
    for (sequence, host) in (1..).zip(["a", "b", "c"]) {
        // Each of its own, so that nothing is shared.
        let documents = documents(&padded(host, 100 + host.as_bytes()[0] as usize % 7));
        log.append(&record(sequence, &documents), &Default::default(), &documents, None).unwrap();
    }
    assert_eq!(sequences(&log), [3, 2]);
    let documents = documents(&padded("d", 400));
    log.append(&record(4, &documents), &Default::default(), &documents, None).unwrap();
    assert_eq!(sequences(&log), [4]);
    log.documents(Sequence(4)).unwrap();
    let on_disk = || fs::metadata(log.path()).unwrap().len();
    let before = on_disk();
    for sequence in 5..40 {
        let documents = support::documents(&padded("e", 100 + sequence as usize));
        log.append(&record(sequence, &documents), &Default::default(), &documents, None).unwrap();
    }
    assert!(on_disk() < before.max(1 << 20) * 3, "{before} became {}", on_disk());
}

#[test]
fn only_one_process_has_the_log() {
    let state = tempfile::tempdir().unwrap();
    let _first = open(state.path());
    match Log::open(state.path(), Retention::default()) {
        Err(error @ LogError::InUse { .. }) => {
            assert!(error.to_string().contains("revisions.redb is in use"), "{error}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let state = tempfile::tempdir().unwrap();
    drop(open(state.path()));
    let path = state.path().join(log::FILE);
    let database = redb::Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert("schema", 9).unwrap();
    write.commit().unwrap();
    drop(database);
    match Log::open(state.path(), Retention::default()) {
        Err(error @ LogError::Newer { found: 9, .. }) => {
            assert!(error.to_string().contains("newer version"), "{error}")
        }
        other => panic!("{other:?}"),
    }
    assert!(!state.path().join("revisions.redb.damaged").exists());
    let database = redb::Database::open(&path).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    assert_eq!(meta.get("schema").unwrap().unwrap().value(), 9);
}

#[test]
fn an_older_schema_is_no_log() {
    let state = tempfile::tempdir().unwrap();
    drop(open(state.path()));
    let database = redb::Database::open(state.path().join(log::FILE)).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert("schema", 1).unwrap();
    write.commit().unwrap();
    drop(database);
    assert_eq!(sequences(&open(state.path())), [0; 0]);
    assert!(state.path().join("revisions.redb.damaged").exists());
}

#[test]
fn a_damaged_file_is_moved_aside_and_a_new_log_begun() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("garbage", |path| fs::write(path, "not a database".repeat(1000)).unwrap()),
        ("cut short", |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(6000).unwrap()),
        ("cut to nothing but a header", |path| {
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(512).unwrap()
        }),
        ("overwritten behind the header", |path| {
            let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
            let length = file.metadata().unwrap().len();
            file.seek(SeekFrom::Start(4096)).unwrap();
            file.write_all(&vec![0xa5; length as usize - 4096]).unwrap();
        }),
        ("zeroed", |path| {
            let length = fs::metadata(path).unwrap().len();
            fs::write(path, vec![0; length as usize]).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let state = tempfile::tempdir().unwrap();
        let log = open(state.path());
        append(&log, 1, "a");
        append(&log, 2, "b");
        drop(log);
        damage(&state.path().join(log::FILE));
        let log = match Log::open(state.path(), Retention::default()) {
            Ok(log) => log,
            Err(error) => panic!("{what}: {error:?}"),
        };
        assert_eq!(sequences(&log), [0; 0], "{what}");
        assert!(state.path().join("revisions.redb.damaged").exists(), "{what}");
        append(&log, 1, "c");
        drop(log);
        assert_eq!(sequences(&open(state.path())), [1], "{what}");
    }
}

/// Each byte of the file flipped in turn would take long; a sample of all regions does.
#[test]
fn a_flipped_bit_is_never_taken_for_content() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path());
    let expected = append(&log, 1, "a");
    drop(log);
    let path = state.path().join(log::FILE);
    let whole = fs::read(&path).unwrap();
    let mut noticed = 0;
    for at in (0..whole.len()).step_by(whole.len() / 400) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(&path, &flipped).unwrap();
        let log = Log::open(state.path(), Retention::default());
        match log.and_then(|log| Ok((log.latest()?, log.documents(Sequence(1))))) {
            // Unused space, or what redb keeps twice.
            Ok((Some(latest), Ok(_))) => assert_eq!(latest.version_id, expected.version_id, "byte {at}"),
            Ok((None, _)) | Err(_) => noticed += 1,
            Ok(other) => panic!("byte {at}: {other:?}"),
        }
    }
    println!("{noticed} of about 400 flips were noticed");
}
