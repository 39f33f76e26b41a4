//! Building, finding, removing, and what a killed owner leaves.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_lab::{LabError, PodSpec, RunningLab, Spec, run, sweep};

use crate::{build, pair, server};

const LIMIT: Duration = Duration::from_secs(20);

/// Everything on this machine that bears a lab's id.
fn traces(id: &str) -> Vec<String> {
    let mut command = Command::new("ip");
    command.args(["netns", "list"]);
    let listed = String::from_utf8(run(command, b"", LIMIT).unwrap().stdout).unwrap();
    let netns = listed.lines().map(|l| l.split(' ').next().unwrap().to_owned());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let cgroups = mounts
        .lines()
        .filter_map(|l| l.split(' ').nth(2).filter(|k| *k == "cgroup2").and(l.split(' ').nth(1)))
        .flat_map(|root| std::fs::read_dir(root).unwrap())
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let records = std::fs::read_dir("/run/weir-lab").into_iter().flatten();
    let records = records.map(|e| e.unwrap().file_name().into_string().unwrap());
    let bears = |name: &String| {
        let own = name.strip_prefix("weir-").unwrap_or(name);
        own == id || own.starts_with(&format!("{id}-")) || own == format!("{id}.json")
    };
    netns.chain(cgroups).chain(records).filter(bears).collect()
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn five_pods_come_up_fast_and_go_without_trace() {
    let mut spec = Spec::with_pods(["client", "v1", "v2", "outside", "far"]);
    spec.pods[4] = PodSpec::new("far").routed();
    spec.remote = true;
    let begun = Instant::now();
    let lab = build(&spec).unwrap();
    let built = begun.elapsed();
    let id = lab.id.clone();
    // 7 namespaces, cgroups of pods, node and remote, the record.
    assert_eq!(traces(&id).len(), 7 + 3 + 1, "{:?}", traces(&id));
    let pod = lab.pod("v1").unwrap();
    assert!(pod.host_ifindex > 0 && pod.namespace.cgroup.is_dir());
    assert!(!pod.host_link.contains("v1"));
    let unknown = lab.pod("v3").unwrap_err().to_string();
    assert!(unknown.contains("client, v1, v2, outside, far"), "{unknown}");
    let begun = Instant::now();
    lab.remove().unwrap();
    println!("built in {built:?}, removed in {:?}", begun.elapsed());
    assert_eq!(traces(&id), Vec::<String>::new());
    assert!(built < Duration::from_secs(5), "building took {built:?}");
}

#[test]
fn a_failing_step_undoes_the_others() {
    let spec = Spec {
        id: Some("itfail".to_owned()),
        sysctls: vec![("net.ipv4.weir_no_such_key".to_owned(), "1".to_owned())],
        ..Spec::with_pods(["client", "v1"])
    };
    let said = build(&spec).unwrap_err().to_string();
    assert!(said.contains("weir_no_such_key"), "{said}");
    assert_eq!(traces("itfail"), Vec::<String>::new());
}

#[test]
fn a_panic_removes_the_lab_and_what_runs_in_it() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let lab = pair();
        let mut sleep = lab.command("v1", "sleep").unwrap();
        sleep.arg("600");
        let inside = lab.spawn(sleep).unwrap();
        // Entered by hand: not in the pod's cgroup and not a child that dies with the lab.
        let net = format!("--net={}", lab.pod("client").unwrap().namespace.path.display());
        let stray = Command::new("nsenter").args([&net, "sleep", "600"]).spawn().unwrap();
        let group = lab.pod("v1").unwrap().namespace.cgroup.join("cgroup.procs");
        let members = std::fs::read_to_string(group).unwrap();
        assert_eq!(members.trim(), inside.id().to_string());
        until("nsenter has entered", || {
            let ns = std::fs::read_link(format!("/proc/{}/ns/net", stray.id())).ok();
            ns.is_some() && ns != std::fs::read_link("/proc/self/ns/net").ok()
        });
        sender.send((lab.id.clone(), inside, stray)).unwrap();
        panic!("on purpose");
    });
    let (id, mut inside, mut stray) = receiver.recv().unwrap();
    assert!(thread.join().is_err());
    assert_eq!(traces(&id), Vec::<String>::new());
    assert!(!is_alive(inside.id()) && !is_alive(stray.id()));
    inside.wait().unwrap();
    stray.wait().unwrap();
}

#[test]
fn an_id_belongs_to_one_lab() {
    let spec = Spec { id: Some("itone".to_owned()), ..Spec::with_pods(["a"]) };
    let first = build(&spec).unwrap();
    let taken = build(&spec).unwrap_err();
    let this = std::process::id();
    assert!(matches!(taken, LabError::IdTaken { pid, .. } if pid == this), "{taken}");
    // The refusal must not have touched the first one.
    assert!(first.pod("a").unwrap().namespace.path.exists());
    drop(first);
    drop(build(&spec).unwrap());
}

#[test]
fn others_find_a_running_lab() {
    let mut lab = pair();
    lab.note("admin", "127.0.0.1:15020").unwrap();
    let found = RunningLab::find(Some(&lab.id)).unwrap();
    assert_eq!(found.note("admin"), Some("127.0.0.1:15020"));
    assert_eq!(found.owner(), std::process::id());
    assert_eq!(found.pods(), lab.pods());
    let out = found.run("client", &["ip", "-4", "addr", "show", "eth0"], LIMIT).unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("10.77.0.2/24"), "{out:?}");
    let missing = RunningLab::find(Some("nosuch")).unwrap_err();
    assert!(matches!(missing, LabError::NoSuchLab { .. }), "{missing}");
}

#[test]
fn pods_come_and_go() {
    let mut lab = pair();
    let added = lab.add_pod(&PodSpec::new("late")).unwrap().clone();
    let served = lab.serve("late", &server("late")).unwrap();
    let url = format!("http://{}:8080/", added.ip4());
    let response = weir_lab::client::get(&lab, "client", &url, &[]).unwrap();
    assert_eq!(response.served_by(), Some("late"));
    lab.remove_pod("late").unwrap();
    assert!(!is_alive(served.pid()));
    assert!(!added.namespace.path.exists() && !added.namespace.cgroup.exists());
    until("the link is gone", || {
        let shown = lab.run("node", &["ip", "link", "show", &added.host_link], LIMIT).unwrap();
        !shown.status.success()
    });
    assert_eq!(RunningLab::find(Some(&lab.id)).unwrap().pods().len(), 2);
    assert!(lab.add_pod(&PodSpec::new("v1")).is_err());
    assert_eq!(lab.add_pod(&PodSpec::new("next")).unwrap().ip4(), added.ip4());
}

#[test]
fn a_server_outlives_the_thread_that_asked_for_it() {
    let lab = pair();
    let mut served =
        std::thread::scope(|scope| scope.spawn(|| lab.serve("v1", &server("v1")).unwrap()).join().unwrap());
    let url = format!("http://{}:8080/fast", lab.pod("v1").unwrap().ip4());
    assert_eq!(weir_lab::client::get(&lab, "client", &url, &[]).unwrap().status, 200);
    assert!(served.is_running());
    let again = lab.serve("v1", &server("v1")).unwrap_err().to_string();
    assert!(again.contains("Address already in use"), "{again}");
}

/// Started by [`holder`] in a process of its own.
#[test]
#[ignore = "holds a lab until it is killed; started by another test"]
fn hold_a_lab() {
    let id = std::env::var("WEIR_LAB_TEST_HOLD").expect("only another test may start this");
    let lab = build(&Spec { id: Some(id), ..Spec::with_pods(["client", "v1"]) }).unwrap();
    let served = lab.serve("v1", &server("v1")).unwrap();
    println!("\nheld {}", served.pid());
    std::thread::sleep(Duration::from_secs(60));
}

/// A process that holds a lab with a server, and the server's.
fn holder(id: &str) -> (Child, u32) {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "life::hold_a_lab", "--ignored", "--nocapture"])
        .env("WEIR_LAB_TEST_HOLD", id)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let served = lines.find_map(|line| line.unwrap().strip_prefix("held ")?.parse().ok());
    (owner, served.expect("the owner ended early"))
}

#[test]
fn a_lab_goes_when_its_process_is_ended_by_a_signal() {
    for (id, signal) in [("itterm", Signal::SIGTERM), ("itint", Signal::SIGINT), ("ithup", Signal::SIGHUP)] {
        let (mut owner, served) = holder(id);
        assert!(!traces(id).is_empty());
        kill(Pid::from_raw(owner.id().cast_signed()), signal).unwrap();
        assert_eq!(owner.wait().unwrap().code(), Some(128 + signal as i32), "{signal}");
        assert_eq!(traces(id), Vec::<String>::new(), "after {signal}");
        until("the server died with its lab", || !is_alive(served));
    }
}

#[test]
fn sweep_removes_the_lab_of_a_killed_owner() {
    let id = "itkill";
    let living = pair();
    let (mut owner, served) = holder(id);
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("the server died with its lab", || !is_alive(served));
    assert!(!traces(id).is_empty(), "kill -9 must leave something to sweep");
    assert!(RunningLab::find(Some(id)).is_err());
    // Another test's build may sweep the same lab; what counts is that it goes.
    sweep().unwrap();
    assert_eq!(traces(id), Vec::<String>::new());
    assert!(Path::new(&living.node().path).exists(), "a living lab was swept");
}
