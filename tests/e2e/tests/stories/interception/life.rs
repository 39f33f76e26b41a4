//! Start, stop, death, and what is left in the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use weir_e2e::{RECOGNITION, Story, network_state, until};
use weir_lab::Tuning;

use super::{terrain, translations};

fn url() -> String {
    format!("http://{}/", RECOGNITION[0])
}

/// The same service in both families.
fn urls() -> [String; 2] {
    [url(), format!("http://[{}]/", RECOGNITION[1])]
}

#[test]
fn an_orderly_stop_leaves_nothing_and_names_are_recognisable() {
    let mut story = Story::prepare(&terrain());
    let before = network_state(&story.lab);
    story.start();
    assert_eq!(story.get("client", &url(), &[]), "200 v1");
    let footprint = story.footprint();
    let names: BTreeSet<&str> = footprint.programs.iter().map(|(_, name)| name.as_str()).collect();
    for name in ["weir_from_pod", "weir_to_pod", "weir_pick", "weir_connect4", "weir_connect6"] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    assert_ne!(network_state(&story.lab), before, "the state that is compared says something");
    let status = story.stop();
    assert!(status.success(), "an orderly stop ends well: {status}");
    footprint.await_gone();
    let complaints: Vec<_> = story
        .log()
        .lines()
        .filter(|line| [" WARN ", " ERROR "].iter().any(|level| line.contains(level)))
        .map(str::to_owned)
        .collect();
    assert!(complaints.is_empty(), "a quiet life has nothing to complain of: {complaints:#?}");
    assert_eq!(network_state(&story.lab), before);
    assert!(!story.pins().exists(), "{} is left", story.pins().display());
    let v1 = story.lab.pod("v1").unwrap().ip4();
    assert_eq!(
        story.get("client", &format!("http://{v1}:8080/"), &[]),
        "200 v1",
        "pods are as if there had been no node"
    );
}

#[test]
fn the_next_start_takes_over_what_a_killed_one_left() {
    let mut story = Story::begin(&terrain());
    let before = story.footprint();
    story.kill9();
    assert_eq!(story.footprint(), before, "the programs outlive the process");
    story.start();
    let after = story.footprint();
    assert_eq!(after.pins, before.pins);
    assert_eq!(after.links, before.links, "the same links, without a gap");
    assert_eq!(story.get("client", &url(), &[]), "200 v1");
    let counted = story.admin.kernel("steered");
    assert!(counted >= 1);
    story.stop();
    before.await_gone();
    after.await_gone();
    assert!(!story.pins().exists());
}

/// What curl says in a pod, on a thread of its own.
fn ask_aside(story: &Story, url: String) -> JoinHandle<String> {
    let layout = story.lab.layout().clone();
    std::thread::spawn(move || {
        let program = weir_lab::require("curl").unwrap();
        let words =
            [program.to_str().unwrap(), "-sS", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}", &url];
        let output = layout.run("client", &words, Duration::from_secs(40)).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

#[test]
fn closed_means_that_new_connections_wait_for_the_proxy() {
    let mut story = Story::begin(&terrain());
    for url in urls() {
        assert_eq!(story.get("client", &url, &[]), "200 v1");
    }
    story.kill9();
    for url in urls() {
        let refused = story.curl("client", &["--max-time", "2", &url]);
        assert_eq!(refused.exit, 28, "neither answered nor refused: {refused:?}");
    }
    assert_eq!(story.seen("v1").len(), 2, "and nothing went past the rules");
    let waiting = urls().map(|url| ask_aside(&story, url));
    // The waiting clients' first packets are dropped before the node is back.
    until("the clients wait", || {
        let sockets = story.told("client", &["ss", "-tn", "state", "syn-sent"]);
        if RECOGNITION.iter().all(|vip| sockets.contains(vip)) { Ok(()) } else { Err(sockets) }
    });
    story.start();
    for client in waiting {
        assert_eq!(client.join().unwrap(), "200", "the client that waited got its answer");
    }
    assert!(story.admin.kernel("dropped_no_proxy") >= 4);
    // The kernel kept the records of what happened while nobody was there.
    for vip in RECOGNITION {
        let destination = format!("destination={} ", SocketAddr::new(vip.parse().unwrap(), 80));
        story.await_log(&["weir::kernel", "dropped_no_proxy", "source_pod=\"default/client\"", &destination]);
    }
}

#[test]
fn open_means_that_new_connections_go_on_without_the_proxy() {
    let mut story = Story::prepare(&terrain().settings(json!({ "interception": { "fail": "open" } })));
    story.lab.set_kube_proxy(&translations(&story)).unwrap();
    story.lab.tune(Tuning { bridge_nf_call: Some(true), ..Tuning::default() }).unwrap();
    story.start();
    for url in urls() {
        assert_eq!(story.get("client", &url, &[]), "200 v1");
    }
    assert_eq!(story.admin.connections("accepted"), 2);
    story.kill9();
    for (url, client) in urls().iter().zip(story.lab.pod("client").unwrap().ips()) {
        let answer = story.curl("client", &[url]);
        assert_eq!(answer.brief(), "200 v1", "{url}");
        let peer: SocketAddr = answer.json()["peer"].as_str().unwrap().parse().unwrap();
        assert_eq!(peer.ip(), client, "kube-proxy served it, so v1 sees the client");
    }
    story.start();
    assert!(story.admin.kernel("passed_no_proxy") >= 2);
    for url in urls() {
        assert_eq!(story.get("client", &url, &[]), "200 v1");
    }
    assert_eq!(story.admin.connections("accepted"), 2, "the new process serves again");
}

#[test]
fn kept_programs_apply_the_fail_mode_until_the_next_start() {
    let mut story = Story::begin(&terrain().settings(json!({ "interception": { "onStop": "keep" } })));
    let footprint = story.footprint();
    assert!(story.stop().success());
    assert_eq!(story.footprint().links, footprint.links, "an upgrade keeps the programs");
    let waits = story.curl("client", &["--max-time", "2", &url()]);
    assert_eq!(waits.exit, 28, "{waits:?}");
    story.overlay(json!({ "interception": { "onStop": "detach" } }));
    story.start();
    assert_eq!(story.get("client", &url(), &[]), "200 v1");
    story.stop();
    footprint.await_gone();
}

#[test]
fn a_pod_that_was_replaced_while_nobody_ran_is_found() {
    let mut story = Story::begin(&terrain());
    story.kill9();
    story.silence("v1");
    story.lab.remove_pod("v1").unwrap();
    let spec = weir_lab::PodSpec::new("v1").label("app", "vehicle-recognition").label("version", "v1");
    story.lab.add_pod(&spec).unwrap();
    story.serve("v1", weir_lab::server::Mode::Http, "v1");
    story.write_cluster();
    story.start();
    until("the replaced pod answers", || match story.get("client", &url(), &[]).as_str() {
        "200 v1" => Ok(()),
        other => Err(other.to_owned()),
    });
    let links: Vec<_> = fs::read_dir(story.pins()).unwrap().flatten().collect();
    assert_eq!(links.len(), 1, "one ABI version: {links:?}");
}
