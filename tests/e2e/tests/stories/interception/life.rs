//! Start, stop, death, and what is left in the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use weir_e2e::{RECOGNITION, Story, network_state, until};

use super::terrain;

fn url() -> String {
    format!("http://{}/", RECOGNITION[0])
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

#[test]
fn closed_means_that_new_connections_wait_for_the_proxy() {
    let mut story = Story::begin(&terrain());
    assert_eq!(story.get("client", &url(), &[]), "200 v1");
    story.kill9();
    let refused = story.curl("client", &["--max-time", "2", &url()]);
    assert_eq!(refused.exit, 28, "neither answered nor refused: {refused:?}");
    assert_eq!(story.seen("v1").len(), 1, "and nothing went past the rules");
    let layout = story.lab.layout().clone();
    let waiting = std::thread::spawn(move || {
        let program = weir_lab::require("curl").unwrap();
        let words =
            [program.to_str().unwrap(), "-sS", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}", &url()];
        let output = layout.run("client", &words, Duration::from_secs(40)).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    // The waiting client's first packet is dropped before the node is back.
    let begun = Instant::now();
    until("the client waits", || {
        let sockets = story.told("client", &["ss", "-tn", "state", "syn-sent"]);
        if sockets.contains("10.96.0.10") { Ok(()) } else { Err(sockets) }
    });
    story.start();
    assert_eq!(waiting.join().unwrap(), "200", "the client that waited got its answer");
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(story.admin.kernel("dropped_no_proxy") >= 1);
}

#[test]
fn open_means_that_new_connections_go_on_without_the_proxy() {
    let mut terrain = terrain().settings(json!({ "interception": { "fail": "open" } }));
    let v1 = "10.77.0.3:8080".parse().unwrap();
    terrain.spec.kube_proxy = vec![weir_lab::DnatRule {
        vip: format!("{}:80", RECOGNITION[0]).parse().unwrap(),
        protocol: weir_lab::Protocol::Tcp,
        endpoints: vec![v1],
    }];
    let mut story = Story::begin(&terrain);
    assert_eq!(story.lab.pod("v1").unwrap().ip4().to_string(), "10.77.0.3");
    let client = story.lab.pod("client").unwrap().ip4().to_string();
    assert_eq!(story.get("client", &url(), &[]), "200 v1");
    assert_eq!(story.admin.connections("accepted"), 1);
    story.kill9();
    let answer = story.curl("client", &[&url()]);
    assert_eq!(answer.brief(), "200 v1");
    let peer = answer.json()["peer"].as_str().unwrap().to_owned();
    assert!(peer.starts_with(&format!("{client}:")), "kube-proxy served it, so v1 sees the client: {peer}");
    story.start();
    assert!(story.admin.kernel("passed_no_proxy") >= 1);
    assert_eq!(story.get("client", &url(), &[]), "200 v1");
    assert_eq!(story.admin.connections("accepted"), 1, "the new process serves again");
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
