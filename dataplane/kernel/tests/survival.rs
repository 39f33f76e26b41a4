//! What outlives what: processes, proxies, connections, links.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use support::{Greeter, Lab, PATIENCE, REFUSAL, count, eventually, inside, ip, run};
use weir_kernel::{
    ABI_VERSION, Desired, DropRecord, IfIndex, Kernel, Protocol, Reason, ServiceAction, ServiceAddr, Slot,
};

const VIP: &str = "10.43.0.10:80";

fn desired(lab: &Lab) -> Desired {
    let mut desired = lab.desired();
    for vip in ["10.43.0.10", "fd43::10"] {
        let address = ServiceAddr { ip: ip(vip), port: 80, protocol: Protocol::Tcp };
        desired.services.insert(address, ServiceAction::Proxy);
    }
    desired
}

fn apply(lab: &Lab, kernel: Kernel, desired: Desired) -> Kernel {
    lab.with(kernel, move |kernel| {
        kernel.apply(&desired).unwrap();
    })
    .0
}

fn listen(lab: &Lab, kernel: Kernel, slot: Slot, greeter: &Greeter) -> Kernel {
    let listener = greeter.listener().try_clone().unwrap();
    lab.with(kernel, move |kernel| kernel.set_listener(slot, listener.as_fd()).unwrap()).0
}

/// Programs in the kernel that use this lab's configuration map: other labs' have the same names.
fn programs_using(map: u32) -> Vec<String> {
    let script = format!(
        "bpftool prog show | awk '/^[0-9]+:/ {{ name = $4 }} /map_ids/ && /[ ,]{map}(,|$| )/ {{ print name }}'"
    );
    run(&script).lines().map(str::to_owned).collect()
}

#[test]
fn the_next_process_takes_over_without_a_gap() {
    let lab = Lab::new();
    let kernel = apply(&lab, lab.load(&lab.settings()), desired(&lab));
    let proxy = Greeter::proxy(&lab, "127.0.0.1:15001");
    let kernel = listen(&lab, kernel, Slot::Out4, &proxy);
    assert!(lab.ask("a", VIP, PATIENCE).unwrap().starts_with("proxy"));
    let before = count(&kernel, Reason::Steered);

    // The process ends without a word. The proxy lives on in another one: still steered.
    drop(kernel);
    assert!(lab.ask("a", VIP, PATIENCE).unwrap().starts_with("proxy"));

    // Load after load under connections, each replacing the programs in place.
    let (stop, failures, done) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let client = {
        let (stop, failures, done) = (stop.clone(), failures.clone(), done.clone());
        inside(&lab.pod("a"), move || {
            let to: SocketAddr = VIP.parse().unwrap();
            while !stop.load(Ordering::Relaxed) {
                match support::ask(to, Duration::from_millis(900)) {
                    Ok(answer) if answer.starts_with("proxy") => done.fetch_add(1, Ordering::Relaxed),
                    _ => failures.fetch_add(1, Ordering::Relaxed),
                };
            }
        })
    };
    let mut kernel = lab.load(&lab.settings());
    for _ in 0..5 {
        drop(kernel);
        kernel = apply(&lab, lab.load(&lab.settings()), desired(&lab));
    }
    stop.store(true, Ordering::Relaxed);
    client.join().unwrap();
    assert_eq!(failures.load(Ordering::Relaxed), 0, "of {}", done.load(Ordering::Relaxed));
    assert!(count(&kernel, Reason::Steered) > before + done.load(Ordering::Relaxed), "counters were kept");
    let mut other = desired(&lab);
    other.pods.clear();
    let (kernel, applied) = lab.with(kernel, move |kernel| kernel.apply(&other).unwrap());
    assert_eq!((applied.attached, applied.detached), (0, 6));
    drop(kernel);
}

#[test]
fn nothing_is_left_after_detaching() {
    let lab = Lab::new();
    let cgroup = support::Cgroup::new(&lab);
    let mut settings = lab.settings();
    settings.cgroup = Some(cgroup.path().to_owned());
    settings.notrack = weir_kernel::Notrack::On;
    let kernel = apply(&lab, lab.load(&settings), desired(&lab));
    let node = lab.node();
    let state = move || {
        run(&format!(
            "ip -n {node} rule list; ip -n {node} -6 rule list; ip -n {node} route show table all proto 87;
             ip -n {node} -6 route show table all proto 87; nsenter --net=/run/netns/{node} nft list tables"
        ))
    };
    let during = state();
    assert_eq!(
        during.matches("fwmark 0x200/0xf00 iif cni0").count() + during.matches("iif cni0 fwmark 0x200/0xf00").count(),
        2,
        "{during}"
    );
    assert!(during.contains("table inet weir"), "{during}");
    let pin = format!("/sys/fs/bpf/weir/{}/v{ABI_VERSION}/maps/WEIR_CONFIG", lab.settings().node);
    let map = run(&format!("bpftool map show pinned {pin}"));
    let map = map.split(':').next().and_then(|id| id.parse().ok()).expect("a map has an id");
    let programs = programs_using(map);
    for expected in ["weir_from_pod", "weir_to_pod", "weir_from_net"] {
        assert!(programs.iter().any(|name| name == expected), "{expected} in {programs:?}");
    }
    lab.on_node(move || kernel.detach().unwrap());
    let after = state();
    assert!(!after.contains("0x200") && !after.contains("weir") && !after.contains("local default"), "{after}");
    assert!(!std::path::Path::new("/sys/fs/bpf/weir").join(lab.settings().node).exists());
    // The kernel frees programs and maps a moment after their last user.
    eventually("the programs' unloading", || programs_using(map).is_empty());
    eventually("the maps' end", || !run("bpftool map show").contains(&format!("\n{map}: ")));
}

/// The first drop record of this reason and destination.
fn first_event(kernel: &mut Kernel, reason: Reason, destination: SocketAddr) -> DropRecord {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut events = kernel.take_events().unwrap().expect("the first call gives the stream");
        let search = async {
            loop {
                let record = events.next().await.unwrap();
                if record.reason == reason && record.destination == destination {
                    return record;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("the record comes")
    })
}

#[test]
fn a_flow_whose_proxy_died_is_reset_at_once() {
    let lab = Lab::new();
    apply(&lab, lab.load(&lab.settings()), desired(&lab));
    for (vip, bind, slot) in [(VIP, "127.0.0.1:15001", Slot::Out4), ("[fd43::10]:80", "[::1]:15001", Slot::Out6)] {
        let listener = {
            let bind: SocketAddr = bind.parse().unwrap();
            lab.on_node(move || support::transparent(bind).unwrap())
        };
        let copy = listener.try_clone().unwrap();
        let loaded = lab.load(&lab.settings());
        let (loaded, ()) = lab.with(loaded, move |kernel| kernel.set_listener(slot, copy.as_fd()).unwrap());
        let to: SocketAddr = vip.parse().unwrap();
        let mut client =
            inside(&lab.pod("a"), move || TcpStream::connect_timeout(&to, PATIENCE).unwrap()).join().unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"first").unwrap();
        // A killed process's sockets still say farewell; what never does is one that the kernel has
        // forgotten, as after the end of FIN-WAIT-2. Repair mode takes a socket away as silently.
        support::vanish(&server);
        drop(server);
        drop(listener);
        let start = Instant::now();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"second").unwrap();
        let error = client.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{vip}: {error}");
        assert!(start.elapsed() < Duration::from_millis(500), "{vip}: {:?}", start.elapsed());
        assert!(count(&loaded, Reason::ResetOrphan) > 0, "{vip}");
        let (_loaded, record) = lab.with(loaded, move |kernel| first_event(kernel, Reason::ResetOrphan, to));
        assert_eq!(record.source, client.local_addr().unwrap(), "{record:?}");
    }
}

#[test]
fn connections_from_before_the_mesh_stay_as_they_are() {
    let lab = Lab::new();
    let _server = support::Echo::start(&lab, "b", "10.77.0.12:80");
    let connect = || {
        let to: SocketAddr = "10.77.0.12:80".parse().unwrap();
        inside(&lab.pod("a"), move || TcpStream::connect_timeout(&to, PATIENCE).unwrap()).join().unwrap()
    };
    let mut before = connect();
    support::echo(&mut before, b"before");
    let mut desired = desired(&lab);
    let address = ServiceAddr { ip: ip("10.77.0.12"), port: 80, protocol: Protocol::Tcp };
    desired.services.insert(address, ServiceAction::Proxy);
    let kernel = apply(&lab, lab.load(&lab.settings()), desired);
    support::echo(&mut before, b"during");
    let to: SocketAddr = "10.77.0.12:80".parse().unwrap();
    let refused = inside(&lab.pod("a"), move || TcpStream::connect_timeout(&to, REFUSAL)).join().unwrap();
    assert!(refused.is_err(), "new ones need the proxy");
    lab.on_node(move || kernel.detach().unwrap());
    support::echo(&mut before, b"after");
}

#[test]
fn the_same_port_again_after_the_servers_close() {
    let lab = Lab::new();
    let kernel = apply(&lab, lab.load(&lab.settings()), desired(&lab));
    let proxy = Greeter::proxy(&lab, "127.0.0.1:15001");
    let _kernel = listen(&lab, kernel, Slot::Out4, &proxy);
    // The proxy closes first, so the pair of addresses and ports is in TIME_WAIT at its side.
    for round in 0..3 {
        let answer = inside(&lab.pod("a"), || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            let from: SocketAddr = "10.77.0.11:40000".parse().unwrap();
            let to: SocketAddr = VIP.parse().unwrap();
            socket.bind(&from.into()).unwrap();
            socket.connect_timeout(&to.into(), PATIENCE).unwrap();
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let answer = answer.join().unwrap();
        assert!(answer.starts_with("proxy 10.43.0.10:80 10.77.0.11:40000"), "round {round}: {answer}");
    }
}

#[test]
fn listeners_are_handed_over_under_load() {
    let lab = Lab::new();
    let mut kernel = apply(&lab, lab.load(&lab.settings()), desired(&lab));
    let mut proxy = Greeter::proxy(&lab, "127.0.0.1:15000");
    kernel = listen(&lab, kernel, Slot::Out4, &proxy);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            inside(&lab.pod("a"), move || {
                let to: SocketAddr = VIP.parse().unwrap();
                let (mut done, mut slowest) = (0u64, Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let answer = support::ask(to, PATIENCE).expect("no connection fails");
                    assert!(answer.starts_with("proxy"), "{answer}");
                    slowest = slowest.max(start.elapsed());
                    done += 1;
                }
                (done, slowest)
            })
        })
        .collect();
    for port in 15001..15013 {
        let next = Greeter::proxy(&lab, &format!("127.0.0.1:{port}"));
        kernel = listen(&lab, kernel, Slot::Out4, &next);
        // The old one keeps what it has accepted, and accepts what is in its queue.
        let old = std::mem::replace(&mut proxy, next);
        let before = count(&kernel, Reason::Picked);
        eventually("new connections", || count(&kernel, Reason::Picked) > before + 20);
        old.close();
    }
    stop.store(true, Ordering::Relaxed);
    let results: Vec<_> = clients.into_iter().map(|client| client.join().expect("no failure")).collect();
    println!("hand-overs: 12, connections and slowest per client: {results:?}");
    assert!(results.iter().all(|(_, slowest)| *slowest < Duration::from_millis(900)), "a SYN was lost: {results:?}");
}

#[test]
fn pins_of_links_that_went_are_collected_and_the_bridge_is_followed() {
    let lab = Lab::new();
    let kernel = apply(&lab, lab.load(&lab.settings()), desired(&lab));
    run(&format!("ip -n {} link del vc", lab.node()));
    let links = format!("/sys/fs/bpf/weir/{}/v{ABI_VERSION}/links", lab.settings().node);
    assert_eq!(std::fs::read_dir(&links).unwrap().count(), 7);
    let mut rest = desired_without_c(&lab);
    let (kernel, applied) = lab.with(kernel, {
        let rest = rest.clone();
        move |kernel| kernel.apply(&rest).unwrap()
    });
    assert_eq!((applied.attached, applied.detached), (0, 2));
    assert_eq!(std::fs::read_dir(&links).unwrap().count(), 5);

    // The bridge gets another address, and someone deletes a rule: both are repaired.
    let proxy = Greeter::proxy(&lab, "127.0.0.1:15001");
    let kernel = listen(&lab, kernel, Slot::Out4, &proxy);
    let node = lab.node();
    run(&format!(
        "ip -n {node} link set cni0 address 02:00:00:00:00:77 && ip -n {node} rule del priority 512 &&
         ip -n {} neigh flush dev eth0",
        lab.pod("a")
    ));
    rest.services.insert(ServiceAddr { ip: ip("10.77.0.12"), port: 80, protocol: Protocol::Tcp }, ServiceAction::Proxy);
    let (kernel, restored) = lab.with(kernel, move |kernel| {
        let restored = kernel.refresh().unwrap();
        kernel.apply(&rest).unwrap();
        (restored, kernel.refresh().unwrap())
    });
    assert!(restored.0 >= 2 && restored.1 == 0, "{restored:?}");
    let answer = lab.ask("a", "10.77.0.12:80", PATIENCE).unwrap();
    assert!(answer.starts_with("proxy 10.77.0.12:80"), "{answer}");
    drop(kernel);
}

fn desired_without_c(lab: &Lab) -> Desired {
    let mut desired = Desired::default();
    for (number, pod) in [(11u8, "a"), (12, "b")] {
        let entry = lab.entry(number, pod);
        desired.pods.insert(IfIndex(lab.ifindex(&format!("v{pod}"))), entry);
    }
    let address = ServiceAddr { ip: ip("10.43.0.10"), port: 80, protocol: Protocol::Tcp };
    desired.services.insert(address, ServiceAction::Proxy);
    desired
}
