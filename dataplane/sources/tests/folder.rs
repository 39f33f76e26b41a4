//! The folder source against real folders: every way in which files are changed, and every way in which that fails.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as expected")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weir_config::SourceFile;
use weir_sources::{Change, Events, Folder, Limits, Settings, State, Status};

/// How long anything may take before a test fails. Far above what is expected, because tests share their machine.
const DEADLINE: Duration = Duration::from_secs(10);

struct Watched {
    runtime: tokio::runtime::Runtime,
    scratch: TempDir,
    folder: Folder,
}

impl Watched {
    /// A folder `rules` in a new directory, prepared by `prepare`, and watched.
    fn new(settings: Settings, prepare: impl FnOnce(&Path)) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        prepare(&scratch.path().join("rules"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let folder = Folder::watch(scratch.path().join("rules"), settings).unwrap();
        Self { runtime, scratch, folder }
    }

    fn with_files(settings: Settings, files: &[(&str, &str)]) -> Self {
        Self::new(settings, |rules| write_all(rules, files))
    }

    fn rules(&self) -> PathBuf {
        self.scratch.path().join("rules")
    }

    fn next(&mut self, what: &str) -> Arc<Change> {
        let next = async { tokio::time::timeout(DEADLINE, self.folder.next()).await };
        match self.runtime.block_on(next) {
            Ok(Some(change)) => change,
            other => panic!("{what}: no change in time ({other:?}), status {:?}", *self.folder.status().borrow()),
        }
    }

    /// The next change has exactly these files, each as `name=text`.
    fn expect(&mut self, expected: &[&str], what: &str) {
        let change = self.next(what);
        assert_eq!(shown(&change, &self.rules()), expected, "{what}");
    }

    fn until(&self, what: &str, condition: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.folder.status();
        let wait = async { tokio::time::timeout(DEADLINE, status.wait_for(condition)).await };
        match self.runtime.block_on(wait) {
            Ok(Ok(status)) => status.clone(),
            _ => panic!("{what}: status stays {:?}", *self.folder.status().borrow()),
        }
    }
}

fn write_all(folder: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(folder).unwrap();
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn shown(change: &Change, root: &Path) -> Vec<String> {
    shown_files(&change.files, root)
}

fn shown_files(files: &[Arc<SourceFile>], root: &Path) -> Vec<String> {
    let one = |file: &Arc<SourceFile>| format!("{}={}", file.path.strip_prefix(root).unwrap().display(), file.text);
    files.iter().map(one).collect()
}

#[test]
fn every_way_of_changing_files_is_seen() {
    let settings = Settings { check: Duration::from_secs(3600), ..Settings::default() };
    let mut watched = Watched::with_files(
        settings,
        &[
            ("b.yaml", "b"),
            ("a.yml", "a"),
            ("sub/c.json", "c"),
            (".hidden.yaml", "no"),
            ("notes.txt", "no"),
            (".git/x.yaml", "no"),
        ],
    );
    let rules = watched.rules();
    watched.expect(&["a.yml=a", "b.yaml=b", "sub/c.json=c"], "first");

    type Step = (&'static str, fn(&Path), &'static [&'static str]);
    let steps: [Step; 10] = [
        ("write in place", |r| fs::write(r.join("a.yml"), "A").unwrap(), &["a.yml=A", "b.yaml=b", "sub/c.json=c"]),
        (
            "save by renaming",
            |r| {
                fs::write(r.join(".b.yaml.swp"), "B").unwrap();
                fs::rename(r.join(".b.yaml.swp"), r.join("b.yaml")).unwrap();
            },
            &["a.yml=A", "b.yaml=B", "sub/c.json=c"],
        ),
        ("remove", |r| fs::remove_file(r.join("a.yml")).unwrap(), &["b.yaml=B", "sub/c.json=c"]),
        (
            "new folder with a file",
            |r| write_all(r, &[("deep/er/d.yaml", "d")]),
            &["b.yaml=B", "deep/er/d.yaml=d", "sub/c.json=c"],
        ),
        (
            "write in the new folder",
            |r| fs::write(r.join("deep/er/d.yaml"), "D").unwrap(),
            &["b.yaml=B", "deep/er/d.yaml=D", "sub/c.json=c"],
        ),
        (
            "move a folder",
            |r| fs::rename(r.join("deep"), r.join("moved")).unwrap(),
            &["b.yaml=B", "moved/er/d.yaml=D", "sub/c.json=c"],
        ),
        (
            "write in the moved folder",
            |r| fs::write(r.join("moved/er/d.yaml"), "E").unwrap(),
            &["b.yaml=B", "moved/er/d.yaml=E", "sub/c.json=c"],
        ),
        (
            "move a folder out",
            |r| fs::rename(r.join("moved"), r.join("../out")).unwrap(),
            &["b.yaml=B", "sub/c.json=c"],
        ),
        (
            "replace the folder",
            |r| {
                fs::rename(r, r.join("../old")).unwrap();
                write_all(r, &[("new.yaml", "n")]);
            },
            &["new.yaml=n"],
        ),
        (
            "write in the replaced folder after a touch",
            |r| {
                fs::File::open(r.join("new.yaml")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
                fs::write(r.join("new.yaml"), "N").unwrap();
            },
            &["new.yaml=N"],
        ),
    ];
    for (what, step, expected) in steps {
        let begun = Instant::now();
        step(&rules);
        watched.expect(expected, what);
        // Required: in force within a second; looking for it may take a third of that, on a machine of its own.
        assert!(begun.elapsed() < Duration::from_secs(1), "{what} took {:?}", begun.elapsed());
        println!("{what}: {:?}", begun.elapsed());
    }
}

/// What the kubelet does: a new directory, `..data` swapped by a rename, then the links that people see.
#[test]
fn a_changed_file_leaves_the_others_as_they_are() {
    let mut watched =
        Watched::with_files(Settings::default(), &[("a.yaml", "a"), ("b.yaml", "b"), ("sub/c.yaml", "c")]);
    let first = watched.next("first");
    let rules = watched.rules();
    fs::write(rules.join(".b"), "B").unwrap();
    fs::rename(rules.join(".b"), rules.join("b.yaml")).unwrap();
    let second = watched.next("one is replaced");
    // Anything may have changed, but the content says that it did not.
    fs::create_dir(rules.join("more")).unwrap();
    fs::write(rules.join("more/d.yaml"), "d").unwrap();
    let third = watched.next("a folder more");
    let same =
        |one: &Change, at: usize, other: &Change, other_at: usize| Arc::ptr_eq(&one.files[at], &other.files[other_at]);
    assert!(same(&first, 0, &second, 0) && !same(&first, 1, &second, 1) && same(&first, 2, &second, 2));
    assert!(same(&second, 0, &third, 0) && same(&second, 1, &third, 1) && same(&second, 2, &third, 3));
}

/// Whatever is done, and however little of it is told, what is delivered in the end is what is there.
#[test]
fn what_is_told_comes_to_what_is_there() {
    let settings = Settings {
        check: Duration::from_secs(3600),
        debounce: Duration::from_millis(20),
        whole: Duration::from_millis(5),
        ..Settings::default()
    };
    let mut watched = Watched::with_files(settings, &[("a.yaml", "a")]);
    let rules = watched.rules();
    let mut delivered = shown(&watched.next("first"), &rules);
    // A generator of its own (xorshift), so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let names = ["a.yaml", "b.yaml", "sub/c.yaml", "sub/d.json", ".real.yaml", "notes.txt", "deep/er/e.yaml"];
    let folders = ["sub", "deep", "deep/er", "other"];
    let mut compared = 0;
    for step in 0..200 {
        let mut done = Vec::new();
        for _ in 0..=draw(3) {
            let (name, other, folder) = (names[draw(7)], names[draw(7)], folders[draw(4)]);
            // What cannot be done in the state that there is, is not.
            let result = match draw(14) {
                0..=6 => fs::write(rules.join(name), format!("{step}")),
                7 => fs::remove_file(rules.join(name)),
                8 | 9 => fs::rename(rules.join(name), rules.join(other)),
                10 | 11 => fs::create_dir_all(rules.join(folder)),
                12 => fs::rename(rules.join(folder), rules.join(folders[draw(4)])),
                _ => symlink(rules.join(other), rules.join(name)),
            };
            done.push(format!("{name} {other} {folder} {result:?}"));
        }
        // A link that leads nowhere is an error, after which the folder is as it was.
        let leads_nowhere = |name: &&&str| rules.join(name).is_symlink() && !rules.join(name).exists();
        names.iter().filter(leads_nowhere).for_each(|name| fs::remove_file(rules.join(name)).unwrap());
        let Ok(there) = weir_sources::read(std::slice::from_ref(&rules), &Limits::default()) else { continue };
        let there = shown_files(&there, &rules);
        compared += usize::from(there != delivered);
        let deadline = Instant::now() + DEADLINE;
        while delivered != there {
            assert!(Instant::now() < deadline, "step {step}: {done:#?} {delivered:?} instead of {there:?}");
            delivered = shown(&watched.next(&format!("step {step}: {done:#?} {there:?}")), &rules);
        }
    }
    assert!(compared > 100, "the steps come to too little: {compared}");
}

fn config_map(volume: &Path, version: u32, files: &[(&str, &str)]) {
    let real = volume.join(format!("..2026_{version}"));
    write_all(&real, files);
    symlink(real.file_name().unwrap(), volume.join("..data_tmp")).unwrap();
    let old = fs::read_link(volume.join("..data")).ok();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for (name, _) in files {
        if fs::symlink_metadata(volume.join(name)).is_err() {
            symlink(format!("..data/{name}"), volume.join(name)).unwrap();
        }
    }
    for entry in fs::read_dir(volume).unwrap().map(Result::unwrap) {
        if !entry.path().exists() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    if let Some(old) = old {
        fs::remove_dir_all(volume.join(old)).unwrap();
    }
}

#[test]
fn config_map_volumes_swap_their_content() {
    let settings = Settings { check: Duration::from_secs(3600), ..Settings::default() };
    let mut watched = Watched::new(settings, |rules| config_map(rules, 1, &[("a.yaml", "1"), ("b.yaml", "1")]));
    watched.expect(&["a.yaml=1", "b.yaml=1"], "first");
    for version in 2..6 {
        let text = version.to_string();
        config_map(&watched.rules(), version, &[("a.yaml", &text), ("b.yaml", &text)]);
        watched.expect(&[&format!("a.yaml={version}"), &format!("b.yaml={version}")], "swap");
    }
    config_map(&watched.rules(), 6, &[("b.yaml", "6"), ("c.yaml", "6")]);
    watched.expect(&["b.yaml=6", "c.yaml=6"], "other files");
}

#[test]
fn a_folder_that_is_a_link_is_followed_elsewhere() {
    let settings = Settings { check: Duration::from_secs(3600), ..Settings::default() };
    let mut watched = Watched::new(settings, |rules| {
        let parent = rules.parent().unwrap();
        write_all(&parent.join("one"), &[("a.yaml", "1")]);
        write_all(&parent.join("two"), &[("a.yaml", "2")]);
        symlink("one", rules).unwrap();
    });
    watched.expect(&["a.yaml=1"], "first");
    symlink("two", watched.scratch.path().join("next")).unwrap();
    fs::rename(watched.scratch.path().join("next"), watched.rules()).unwrap();
    watched.expect(&["a.yaml=2"], "swapped");
    fs::write(watched.scratch.path().join("two/a.yaml"), "3").unwrap();
    watched.expect(&["a.yaml=3"], "written behind the link");
}

#[test]
fn a_folder_that_is_not_there_is_waited_for() {
    let settings = Settings { check: Duration::from_secs(3600), ..Settings::default() };
    let mut watched = Watched::new(settings, |_| {});
    let status = watched.until("missing", |status| status.state == State::Missing);
    assert!(status.problems[0].to_string().contains("rules: there is no such file or folder"), "{status:?}");
    write_all(&watched.rules(), &[("a.yaml", "1")]);
    watched.expect(&["a.yaml=1"], "created");
    fs::remove_dir_all(watched.rules()).unwrap();
    watched.until("removed", |status| status.state == State::Missing);
    // The removal itself delivers nothing: what comes next is what is there again.
    write_all(&watched.rules(), &[("a.yaml", "2")]);
    watched.expect(&["a.yaml=2"], "created again");
    watched.until("current", |status| status.state == State::Current && status.problems.is_empty());
}

#[test]
fn the_check_finds_what_no_event_told() {
    let check = Duration::from_millis(20);
    let settings = Settings { events: Events::CheckOnly, check, debounce: check, ..Settings::default() };
    let mut watched = Watched::with_files(settings, &[("a.yaml", "1")]);
    watched.expect(&["a.yaml=1"], "first");
    fs::write(watched.rules().join("a.yaml"), "2").unwrap();
    watched.expect(&["a.yaml=2"], "written");
    fs::remove_file(watched.rules().join("a.yaml")).unwrap();
    watched.expect(&[], "removed");
}

#[test]
fn a_file_is_never_delivered_half_written() {
    let whole = |n: u32| format!("begin {n}\n{}end {n}\n", "line\n".repeat(2000));
    let mut watched = Watched::with_files(Settings::default(), &[("a.yaml", &whole(0))]);
    watched.next("first");
    let path = watched.rules().join("a.yaml");
    for n in 1..4 {
        let (path, text) = (path.clone(), whole(n));
        // Truncates, then writes slowly: pauses are shorter than the debounce time, the whole longer.
        let writer = thread::spawn(move || {
            use std::io::Write;
            let mut file = fs::File::create(path).unwrap();
            for part in text.as_bytes().chunks(text.len() / 8) {
                thread::park_timeout(Duration::from_millis(30));
                file.write_all(part).unwrap();
            }
        });
        let change = watched.next("written slowly");
        writer.join().unwrap();
        assert_eq!(change.files[0].text.len(), whole(n).len());
        assert_eq!(*change.files[0].text, whole(n));
    }
}

#[test]
fn emptied_and_then_written_is_one_change() {
    let mut watched = Watched::with_files(Settings::default(), &[("a.yaml", "1")]);
    watched.next("first");
    let path = watched.rules().join("a.yaml");
    fs::write(&path, "").unwrap();
    // Longer than the debounce time: a shell that computes what it redirects.
    thread::park_timeout(Duration::from_millis(200));
    fs::write(&path, "2").unwrap();
    watched.expect(&["a.yaml=2"], "emptied and written");
    fs::write(&path, "").unwrap();
    watched.expect(&["a.yaml="], "emptied for good");
}

#[test]
fn a_folder_that_never_rests_is_taken_all_the_same() {
    let mut watched = Watched::with_files(Settings::default(), &[("a.yaml", "0")]);
    watched.next("first");
    let (stop, rules) = (Arc::new(AtomicBool::new(false)), watched.rules());
    let stopped = Arc::clone(&stop);
    let writer = thread::spawn(move || {
        let mut count = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            count += 1;
            fs::write(rules.join(".new"), format!("{count} {count}")).unwrap();
            fs::rename(rules.join(".new"), rules.join("a.yaml")).unwrap();
            thread::park_timeout(Duration::from_millis(5));
        }
        count
    });
    let mut last = 0;
    for _ in 0..3 {
        let begun = Instant::now();
        let change = watched.next("flapping");
        let (one, two) = change.files[0].text.split_once(' ').expect("a whole file");
        assert_eq!(one, two);
        let count: u64 = one.parse().unwrap();
        assert!(count > last, "{count} after {last}");
        last = count;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    let count = writer.join().unwrap();
    let until = Instant::now() + DEADLINE;
    // What was written last is what is delivered in the end.
    while last != count {
        assert!(Instant::now() < until, "{last} instead of {count}");
        last = watched.next("the end").files[0].text.split_once(' ').unwrap().0.parse().unwrap();
    }
}

#[test]
fn what_cannot_be_read_is_reported_and_the_last_set_stays() {
    let limits = Limits { file_bytes: 1000, files: 4, total_bytes: 1500, depth: 4 };
    let settings = Settings { check: Duration::from_secs(3600), limits, ..Settings::default() };
    let mut watched = Watched::with_files(settings, &[("a.yaml", "1")]);
    watched.expect(&["a.yaml=1"], "first");

    type Case = (&'static str, fn(&Path), &'static str, &'static str);
    let cases: [Case; 7] = [
        ("large", |r| fs::write(r.join("x.yaml"), "x".repeat(1001)).unwrap(), "x.yaml", "larger than 1000 bytes"),
        (
            "all large",
            |r| write_all(r, &[("x.yaml", &"x".repeat(900)), ("y.yaml", &"y".repeat(900))]),
            "y.yaml",
            "more than 1500 bytes",
        ),
        (
            "many",
            |r| ["v", "w", "x", "y"].iter().for_each(|n| fs::write(r.join(format!("{n}.yaml")), "").unwrap()),
            "y.yaml",
            "more than the 4 files",
        ),
        (
            "not text",
            |r| fs::write(r.join("x.yaml"), b"ok\xff").unwrap(),
            "x.yaml",
            "not UTF-8 text (first wrong byte at 2)",
        ),
        (
            "dangling",
            |r| symlink("nowhere", r.join("x.yaml")).unwrap(),
            "x.yaml",
            "a link to something that is not there",
        ),
        (
            "pipe",
            |r| nix::unistd::mkfifo(&r.join("x.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "x.yaml",
            "not a regular file",
        ),
        ("deep", |r| write_all(r, &[("1/2/3/4/5/x.yaml", "")]), "1/2/3/4", "more than 4 folders deep"),
    ];
    for (n, (what, break_it, file, message)) in cases.into_iter().enumerate() {
        break_it(&watched.rules());
        let status = watched.until(what, |status| status.state == State::Failed);
        let text = status.problems[0].to_string();
        assert!(text.starts_with(&watched.rules().join(file).display().to_string()), "{what}: {text}");
        assert!(text.contains(message), "{what}: {text}");
        let text = format!("good {n}");
        fs::remove_dir_all(watched.rules()).unwrap();
        write_all(&watched.rules(), &[("a.yaml", &text)]);
        watched.expect(&[&format!("a.yaml={text}")], what);
        watched.until(what, |status| status.state == State::Current);
    }
}

#[test]
fn links_that_lead_back_end() {
    let mut watched = Watched::new(Settings::default(), |rules| {
        write_all(rules, &[("sub/a.yaml", "1")]);
        symlink("..", rules.join("sub/up")).unwrap();
        symlink("loop", rules.join("loop")).unwrap();
    });
    watched.expect(&["sub/a.yaml=1"], "first");
}

#[test]
fn a_single_file_can_be_watched() {
    let settings = Settings { check: Duration::from_secs(3600), ..Settings::default() };
    let mut watched = Watched::new(settings, |rules| fs::write(rules, "1").unwrap());
    assert_eq!(watched.next("first").files[0].text.as_ref(), "1");
    let new = watched.scratch.path().join("new");
    fs::write(&new, "2").unwrap();
    fs::rename(new, watched.rules()).unwrap();
    assert_eq!(watched.next("renamed over").files[0].text.as_ref(), "2");
}

/// Needs root: the mount is made in a mount namespace of the test's own thread, and goes with it.
#[test]
fn a_file_mounted_by_itself_is_warned_of() {
    use nix::mount::{MsFlags, mount};
    let in_own_namespace = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("root, to make a mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let mut watched = Watched::new(Settings::default(), |rules| {
            write_all(rules, &[("a.yaml", "1"), ("b.yaml", "1")]);
            let outside = rules.with_file_name("outside");
            fs::write(&outside, "2").unwrap();
            mount(Some(&outside), &rules.join("b.yaml"), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        });
        watched.expect(&["a.yaml=1", "b.yaml=2"], "first");
        let status = watched.until("warned", |status| !status.warnings.is_empty());
        assert_eq!(status.warnings.len(), 1);
        let text = status.warnings[0].to_string();
        assert!(text.contains("b.yaml: warning: is mounted as a single file"), "{text}");
    };
    thread::spawn(in_own_namespace).join().unwrap();
}
