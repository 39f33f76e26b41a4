//! Pods that come, change and go.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::{Lab, PATIENCE, ip, run};
use weir_kernel::{
    IfIndex,
    pods::{PodLinks, PodOptions, PodWatch, scan},
};

fn look(lab: &Lab) -> PodLinks {
    lab.on_node(|| scan(&PodOptions::new("cni0")).unwrap())
}

#[test]
fn every_port_is_led_back_to_its_own_pod() {
    // Two nodes with the same names, addresses and indices: none may see the other's pods.
    let labs = [Lab::new(), Lab::new()];
    for lab in &labs {
        let found = look(lab);
        assert!(found.unresolved.is_empty(), "{found:?}");
        assert_eq!(found.pods.len(), 3);
        for (number, pod) in (11u8..).zip(["a", "b", "c"]) {
            let index = IfIndex(lab.ifindex(&format!("v{pod}")));
            let link = found.pods.iter().find(|link| link.ifindex == index).expect("found");
            assert_eq!(link.name, format!("v{pod}"));
            assert_eq!(link.netns.to_str().unwrap(), format!("/run/netns/{}", lab.pod(pod)));
            assert_eq!(link.netns_cookie, lab.cookie(pod));
            let expected = [ip(&format!("10.77.0.{number}")), ip(&format!("fd77::{number}"))];
            assert_eq!(link.addresses, expected.into());
        }
    }
}

#[test]
fn a_port_without_a_pod_is_named() {
    let lab = Lab::new();
    let node = lab.node();
    run(&format!("ip -n {node} link add lone type veth peer name other && ip -n {node} link set lone master cni0 up"));
    let found = look(&lab);
    assert_eq!(found.unresolved, ["lone"]);
    assert_eq!(found.pods.len(), 3);
}

#[test]
fn a_pod_beside_the_bridge_is_told_apart() {
    let lab = Lab::new();
    let (node, routed, far) = (lab.node(), lab.pod("routed"), lab.pod("far"));
    // One as networks have it that route to their pods; one that is another machine, also with a route for one address.
    run(&format!(
        "ip netns add {routed} && ip -n {node} link add vrouted type veth peer name eth0 netns {routed} &&
         ip -n {node} link set vrouted up && ip -n {routed} link set eth0 up &&
         ip -n {routed} addr add 10.77.1.14/32 dev eth0 && ip -n {node} route add 10.77.1.14/32 dev vrouted &&
         ip netns add {far} && ip -n {node} link add up0 type veth peer name eth0 netns {far} &&
         ip -n {node} link set up0 up && ip -n {far} link set eth0 up &&
         ip -n {node} addr add 192.168.77.1/24 dev up0 && ip -n {node} route add 10.78.0.2/32 via 192.168.77.2"
    ));
    let found = look(&lab);
    assert_eq!((found.pods.len(), found.unresolved.len()), (3, 0), "{found:?}");
    let beside: Vec<_> = found.beside.iter().map(|link| (link.name.as_str(), link.addresses.clone())).collect();
    assert_eq!(beside, [("vrouted", [ip("10.77.1.14")].into())]);
    assert_eq!(found.beside[0].netns.to_str().unwrap(), format!("/run/netns/{routed}"));
}

#[test]
fn changes_are_seen_without_waiting_for_the_next_full_look() {
    let lab = Lab::new();
    let node = lab.node();
    let pod = lab.pod("a");
    support::inside(&node, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = PodOptions { resync: PATIENCE * 100, ..PodOptions::new("cni0") };
            let mut watch = PodWatch::start(options).unwrap();
            until(&mut watch, "the present", |links| links.pods.len() == 3).await;
            lab.add_pod("d", 14);
            until(&mut watch, "a new pod with its addresses", |links| {
                links.pods.iter().any(|link| link.name == "vd" && link.addresses.len() == 2)
            })
            .await;
            run(&format!("ip -n {pod} addr add 10.77.0.77/24 dev eth0"));
            until(&mut watch, "an address inside a pod", |links| {
                links.pods.iter().any(|link| link.addresses.contains(&ip("10.77.0.77")))
            })
            .await;
            run(&format!("ip -n {} link set cni0 address 02:00:00:00:00:99", lab.node()));
            until(&mut watch, "the bridge's address", |links| links.bridge_mac == Some([2, 0, 0, 0, 0, 0x99])).await;
            run(&format!("ip netns del {}", lab.pod("d")));
            until(&mut watch, "a pod's end", |links| links.pods.len() == 3 && links.unresolved.is_empty()).await;
        });
    })
    .join()
    .expect("no panic");
}

async fn until(watch: &mut PodWatch, what: &str, condition: impl Fn(&PodLinks) -> bool) {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let links = watch.next().await.unwrap();
            if condition(&links) {
                return;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what} was not seen in {PATIENCE:?}"));
}
