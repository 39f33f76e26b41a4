//! Settings of the node that change how packets pass it. One lab, tuned again and again.

use weir_e2e::{PLAIN, RECOGNITION, Story, Terrain};
use weir_lab::{DnatRule, Protocol, Tuning};

use super::{ALL, terrain};

/// What must work whatever the settings: intercepted, plain, direct, each family.
#[track_caller]
fn check(story: &Story, what: &str) {
    let v1 = story.lab.pod("v1").unwrap();
    let cases = [
        (format!("http://{}/", RECOGNITION[0]), "200 v1"),
        (format!("http://[{}]/", RECOGNITION[1]), "200 v1"),
        (format!("http://{}/", PLAIN[0]), "200 plain"),
        (format!("http://[{}]/", PLAIN[1]), "200 plain"),
        (format!("http://{}:8080/", v1.ip4()), "200 v1"),
        (format!("http://[{}]:8080/", v1.ip6().unwrap()), "200 v1"),
    ];
    let accepted = story.admin.connections("accepted");
    for (url, expected) in cases {
        assert_eq!(story.get("client", &url, &[]), expected, "{what}: {url}");
    }
    assert_eq!(
        story.admin.connections("accepted"),
        accepted + 2,
        "{what}: exactly the intercepted ones came to the proxy"
    );
}

fn settings() -> Vec<Tuning> {
    let mut all = Vec::new();
    for bridge_nf_call in [false, true] {
        for rp_filter in [0, 1, 2] {
            for src_valid_mark in [false, true] {
                all.push(Tuning {
                    rp_filter: Some(rp_filter),
                    src_valid_mark: Some(src_valid_mark),
                    bridge_nf_call: Some(bridge_nf_call),
                });
            }
        }
    }
    all
}

#[test]
fn packet_filter_settings_do_not_matter() {
    let story = Story::begin(&terrain());
    for tuning in settings() {
        story.lab.tune(tuning).unwrap();
        check(&story, &format!("{tuning:?}"));
    }
}

#[test]
fn beside_kube_proxy() {
    let mut terrain = Terrain::standard().rule("all", ALL);
    let dnat = |vip: &str, port: u16, to: &str| DnatRule {
        vip: format!("{vip}:{port}").parse().unwrap(),
        protocol: Protocol::Tcp,
        endpoints: vec![to.parse().unwrap()],
    };
    // Pods get addresses in order: client, v1, v2, shadow, plain.
    terrain.spec.kube_proxy = vec![
        dnat(RECOGNITION[0], 80, "10.77.0.3:8080"),
        dnat(&format!("[{}]", RECOGNITION[1]), 80, "[fd77::3]:8080"),
        dnat(PLAIN[0], 80, "10.77.0.6:8080"),
        dnat(&format!("[{}]", PLAIN[1]), 80, "[fd77::6]:8080"),
    ];
    let story = Story::begin(&terrain);
    for tuning in settings() {
        story.lab.tune(tuning).unwrap();
        check(&story, &format!("{tuning:?}"));
    }
    let url = format!("http://{}/", RECOGNITION[0]);
    assert_eq!(story.get("outside", &url, &[]), "200 v1", "a pod outside the mesh is kube-proxy's");
}
