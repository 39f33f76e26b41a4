//! The laboratory that people start: `weir lab` as they run it, what it prints, and that nothing of it stays.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_e2e::{Footprint, until_within, weir};
use weir_lab::run;

/// A whole story takes some seconds; a busy machine makes it more.
const LIMIT: Duration = Duration::from_secs(120);
const VIP: &str = "10.96.0.10";
const V1: &str = "vehicle-recognition-v1";
const V2: &str = "vehicle-recognition-v2";

/// An id that no other test has, also when tests are processes of their own.
fn id(letter: char) -> String {
    format!("{letter}{:x}", std::process::id())
}

/// `weir` with arguments, to its end.
#[track_caller]
fn weir_run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(weir());
    command.args(arguments);
    told(run(command, b"", LIMIT).unwrap())
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The server that answers in a lab, with these arguments of curl.
#[track_caller]
fn server(id: &str, arguments: &[&str]) -> String {
    let words = ["lab", "exec", "--id", id, "client", "--", "curl", "-sS", "--max-time", "5"];
    let (status, answer, complaint) = weir_run(&[&words, arguments].concat());
    assert_eq!(status, Some(0), "{answer}{complaint}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    answer["server"].as_str().unwrap().to_owned()
}

/// A lab in the background.
struct Up {
    process: Child,
    lines: Receiver<String>,
    /// Everything it has printed so far.
    said: String,
    id: String,
}

impl Up {
    /// Starts `weir lab` and waits until it invites.
    #[track_caller]
    fn start(id: &str, arguments: &[&str]) -> Self {
        let mut up = Self::begin(id, arguments);
        up.await_line("Ctrl-C stops the node");
        up
    }

    #[track_caller]
    fn begin(id: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(weir());
        command.args(["lab", "--id", id]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { process, lines, said: String::new(), id: id.to_owned() }
    }

    #[track_caller]
    fn await_line(&mut self, part: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.said.contains(part) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said += &(line + "\n"),
                Err(error) => panic!("no {part:?} ({error}) in:\n{}", self.said),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    /// Signals it and waits for its end.
    #[track_caller]
    fn end(&mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        let process = &mut self.process;
        until_within(LIMIT, "the lab ends", || process.try_wait().unwrap().ok_or("running")).code()
    }

    fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf/weir").join(format!("lab-{}", self.id))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        let _ = kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.process.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy())).collect()
}

/// Folders, pins, namespaces, cgroups and records that bear a lab's id, and processes that know of it.
fn traces(id: &str) -> BTreeSet<String> {
    let mut places = vec!["/run/netns", "/var/run/netns", "/run/weir-lab", "/tmp", "/sys/fs/bpf/weir"];
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let cgroups = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroups: Vec<String> = cgroups.filter(|words| words[2] == "cgroup2").map(|words| words[1].to_owned()).collect();
    places.extend(cgroups.iter().map(String::as_str));
    let bears = |path: &String| path.split(['/', '-', '.']).any(|part| part == id);
    let files = places.into_iter().flat_map(names_in).filter(bears);
    files.chain(processes(id)).collect()
}

/// Processes whose command line has the id in the name of one of the lab's files, or that are in one of its cgroups.
fn processes(id: &str) -> BTreeSet<String> {
    let pids = names_in("/proc").into_iter().filter(|path| path[6..].bytes().all(|byte| byte.is_ascii_digit()));
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let of_lab = |pid: &String| {
        let line = read(format!("{pid}/cmdline"));
        line.contains(&format!("weir-lab-{id}/")) || read(format!("{pid}/cgroup")).contains(&format!("weir-{id}"))
    };
    pids.filter(of_lab).collect()
}

/// A process, told from a later one of the same number by its start time (field 22 of proc_pid_stat(5)).
type Resident = (String, String);

fn start_of(process: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("{process}/stat")).ok()?;
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    // One that has ended and that nobody has asked about yet is gone.
    if fields.next()? == "Z" { None } else { fields.nth(18).map(str::to_owned) }
}

/// The processes in a lab's namespaces, which live as long as one of them does. The inode of a namespace alone would
/// not do: the kernel gives it to the next one.
fn residents(id: &str) -> Vec<Resident> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = |path: &str| fs::metadata(path).ok().map(|meta| meta.ino());
    let named = names_in("/run/netns").into_iter().filter(|path| path.contains(&format!("/weir-{id}-")));
    let spaces: BTreeSet<u64> = named.filter_map(|path| inode(&path)).collect();
    assert!(spaces.len() >= 6, "{spaces:?}");
    let inside = |process: &String| inode(&format!("{process}/ns/net")).is_some_and(|inode| spaces.contains(&inode));
    let processes = names_in("/proc").into_iter().filter(inside);
    processes.filter_map(|process| Some((process.clone(), start_of(&process)?))).collect()
}

/// A lab of which nothing may be left: with its namespaces go the bridge and every link in them.
#[track_caller]
fn assert_gone(id: &str, residents: &[Resident], footprint: &Footprint) {
    assert_eq!(traces(id), BTreeSet::new());
    let alive: Vec<_> = residents.iter().filter(|(process, start)| start_of(process).as_ref() == Some(start)).collect();
    assert!(alive.is_empty(), "processes {alive:?}");
    let links = Command::new("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(!links.contains(id), "{links}");
    footprint.await_gone();
}

#[test]
fn check_tells_every_step_and_leaves_nothing() {
    let id = id('c');
    let (status, told, complaint) = weir_run(&["lab", "--check", "--id", &id]);
    assert_eq!((status, complaint.as_str()), (Some(0), ""), "{told}");
    let is_title =
        |line: &&str| line.trim_start().starts_with(|letter: char| letter.is_ascii_digit()) && line.contains(". ");
    let titles: Vec<&str> = told.lines().filter(is_title).collect();
    let count = |start: &str| told.lines().filter(|line| line.starts_with(start)).count();
    assert!(titles.len() >= 11, "{told}");
    for (position, title) in titles.iter().enumerate() {
        assert!(title.trim_start().starts_with(&format!("{}. ", position + 1)), "{title}");
    }
    // Each has its command, its outcome and its reason, and no command needs anything but pasting.
    assert_eq!(
        [count("    $ "), count("    ok    "), count("    why   "), count("    FAILED")],
        [titles.len(), titles.len(), titles.len(), 0]
    );
    assert!(told.trim_end().ends_with(&format!("all {} steps as they must be", titles.len())), "{told}");
    let program = weir().display().to_string();
    for command in
        told.lines().filter_map(|line| line.strip_prefix("    $ ")).filter(|command| command.contains("weir lab"))
    {
        assert!(command.starts_with(&format!("{program} lab exec --id {id} ")), "{command}");
    }
    assert_eq!(traces(&id), BTreeSet::new());
}

#[test]
fn a_lab_stays_up_until_it_is_interrupted() {
    let id = id('u');
    let mut up = Up::start(&id, &[]);
    let url = format!("http://{VIP}/");
    assert_eq!(server(&id, &[&url]), V1);
    assert_eq!(server(&id, &[&url, "-H", "x-user-tag: canary-user"]), V2);
    // The commands that it prints are pasted into a shell.
    let paste = |part: &str| {
        let line =
            up.said.lines().rfind(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part} in {}", up.said));
        let mut shell = Command::new("sh");
        shell.args(["-c", line.trim()]);
        told(run(shell, b"", LIMIT).unwrap())
    };
    let (status, answer, _) = paste("-- curl -s http://10.96.0.10/ -H 'x-user-tag: canary-user'");
    assert!(status == Some(0) && answer.contains(V2), "{answer}");
    let (status, told, _) = paste("explain http://vehicle-recognition/");
    assert!(status == Some(0) && told.contains("WINS  RouteRule default/user-header-canary"), "{told}");
    let (status, told, _) = paste(" status");
    assert!(status == Some(0) && told.contains("ready") && told.contains("vehicle-recognition-v1"), "{told}");
    let (status, told, _) = paste(" versions");
    assert!(status == Some(0) && told.contains("(in force)"), "{told}");
    // The status of the command is the status of exec.
    let (status, ..) = weir_run(&["lab", "exec", "--id", &id, "client", "--", "sh", "-c", "exit 7"]);
    assert_eq!(status, Some(7));
    let (status, _, why) = weir_run(&["lab", "exec", "--id", &id, "nobody", "--", "true"]);
    assert!(status == Some(1) && why.contains("no pod `nobody`") && why.contains("client"), "{why}");

    let (inside, footprint) = (residents(&id), Footprint::read(&up.pins()));
    assert!(inside.len() >= 4 && !footprint.links.is_empty(), "{inside:?} {footprint:?}");
    assert_eq!(up.end(Signal::SIGINT), Some(0));
    assert_gone(&id, &inside, &footprint);
}

#[test]
fn a_step_that_fails_is_named_and_the_status_says_so() {
    let (id, folder) = (id('f'), tempfile::tempdir().unwrap());
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k3s/examples");
    for entry in fs::read_dir(examples).unwrap().map(Result::unwrap) {
        let text = fs::read_to_string(entry.path()).unwrap();
        // The canary's rule leads to the version in use.
        let is_canary = entry.file_name() == "user-header-canary.yaml";
        let text =
            if is_canary { text.replace("service-canary", "vehicle-recognition").replace("8080", "80") } else { text };
        fs::write(folder.path().join(entry.file_name()), text).unwrap();
    }
    let rules = folder.path().to_str().unwrap();
    let (status, told, _) = weir_run(&["lab", "--check", "--id", &id, "--rules", rules]);
    assert_eq!(status, Some(1), "{told}");
    let (_, summary) = told.rsplit_once(" steps failed:\n").unwrap_or_else(|| panic!("{told}"));
    let named: Vec<&str> = summary.lines().collect();
    assert!(named.iter().any(|line| line.contains(" 2. the same request with the canary's header")), "{summary}");
    assert!(!named.iter().any(|line| line.contains(" 1. ")), "{summary}");
    assert!(told.contains("FAILED  200 from vehicle-recognition-v1, not 200 from vehicle-recognition-v2"), "{told}");
    assert_eq!(traces(&id), BTreeSet::new());
}

#[test]
fn a_folder_of_rules_is_followed_and_what_is_wrong_with_it_is_told() {
    let (id, folder) = (id('r'), tempfile::tempdir().unwrap());
    let write = |name: &str, spec: &str| {
        let text = format!("apiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {{name: {name}}}\nspec: {spec}\n");
        let file = folder.path().join(format!("deep/{name}.yaml"));
        fs::create_dir_all(file.parent().unwrap()).and_then(|()| fs::write(file, text)).unwrap();
    };
    let to_new = "route: {destination: {host: service-canary, port: 8080}}";
    write(
        "mine",
        &format!("{{services: [vehicle-recognition], match: {{path: {{prefix: /mine}}, method: POST}}, {to_new}}}"),
    );
    write("guess", &format!("{{services: [vehicle-recognition], match: {{path: {{regex: \"/x[0-9]+\"}}}}, {to_new}}}"));
    let rules = folder.path().to_str().unwrap();
    let mut up = Up::start(&id, &["--rules", rules]);
    let row = |start: &str| {
        let line = up.said.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start} in {}", up.said))
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        row("Service default/vehicle-recognition")[1..],
        ["GET /", "no rule", "200 from vehicle-recognition-v1"]
    );
    assert_eq!(row("mine match 0")[1..], ["POST /mine", "RouteRule default/mine", "200 from vehicle-recognition-v2"]);
    assert_eq!(row("guess match 0")[1..], ["-", "-", "not sent: no value can be read off path"]);
    assert_eq!(server(&id, &[&format!("http://{VIP}/x7")]), V2);
    assert_eq!(up.end(Signal::SIGTERM), Some(0));
    assert_eq!(traces(&id), BTreeSet::new());

    write("wrong", "{rout: {}}");
    let (status, _, why) = weir_run(&["lab", "--id", &id, "--rules", rules]);
    assert!(status == Some(1) && why.contains("wrong.yaml:4") && why.contains("did you mean `route`"), "{why}");
    assert_eq!(traces(&id), BTreeSet::new());
}

#[test]
fn two_labs_do_not_disturb_one_another() {
    let (one, two) = (id('x'), id('y'));
    let mut first = Up::start(&one, &[]);
    let second = Up::start(&two, &[]);
    let url = format!("http://{VIP}/");
    // A rule of one is none of the other's.
    let rule = Path::new("/tmp").join(format!("weir-lab-{one}/rules/user-header-canary.yaml"));
    let text = fs::read_to_string(&rule).unwrap();
    fs::write(&rule, text.replace("canary-user", "only-here")).unwrap();
    let tagged = |id: &str| server(id, &[&url, "-H", "x-user-tag: only-here"]);
    until_within(LIMIT, "the rule is in force", || match tagged(&one) {
        name if name == V2 => Ok(()),
        other => Err(other),
    });
    assert_eq!(tagged(&two), V1);
    let (status, _, why) = weir_run(&["lab", "exec", "client", "--", "true"]);
    assert!(status == Some(1) && why.contains(&one) && why.contains(&two) && why.contains("--id"), "{why}");
    let (status, _, why) = weir_run(&["lab", "--id", &two, "--check"]);
    assert!(status == Some(1) && why.contains("is in use by process"), "{why}");

    let (inside, footprint) = (residents(&one), Footprint::read(&first.pins()));
    assert_eq!(first.end(Signal::SIGINT), Some(0));
    assert_gone(&one, &inside, &footprint);
    let gone = weir_run(&["lab", "exec", "--id", &one, "client", "--", "true"]).2;
    assert_eq!(gone.matches("start it with").count(), 1, "{gone}");
    assert!(gone.contains(&format!("no lab `{one}` is running")) && gone.contains(&two), "{gone}");
    assert_eq!(server(&two, &[&url, "-H", "x-user-tag: canary-user"]), V2);
    drop(second);
    assert_eq!(traces(&two), BTreeSet::new());
}

#[test]
fn what_a_killed_lab_left_the_next_one_removes() {
    let (killed, next) = (id('k'), id('n'));
    let mut up = Up::start(&killed, &[]);
    let (inside, footprint) = (residents(&killed), Footprint::read(&up.pins()));
    assert_eq!(up.end(Signal::SIGKILL), None);
    // Somebody else who finds it knows its namespaces and nothing of the node's files and pins.
    weir_lab::sweep().unwrap();
    let up = Up::begin(&next, &["--check"]);
    until_within(LIMIT, "the other lab's things are gone", || match traces(&killed) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    assert_gone(&killed, &inside, &footprint);
    drop(up);
    assert_eq!(traces(&next), BTreeSet::new());
}

#[test]
fn a_check_that_is_interrupted_is_no_success() {
    let id = id('i');
    let mut up = Up::begin(&id, &["--check"]);
    up.await_line(" 1. ");
    assert_eq!(up.end(Signal::SIGINT), Some(130));
    assert_eq!(traces(&id), BTreeSet::new());
}
