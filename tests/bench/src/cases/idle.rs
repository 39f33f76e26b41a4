//! What each proxy holds and uses with nothing to do, after its first few answers; and what a whole node does, with
//! programs on the links of its pods.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use weir_lab::{Lab, ServicePort, ServiceSpec, Spec, manifests};

use crate::{
    ground::Ground,
    intercepting::Intercepting,
    peers::{Peer, Versions},
    progress,
    report::{Figures, Row, Table, metric},
};

/// Longer than the ten seconds after which a node gives unused memory back.
const SETTLED: Duration = Duration::from_secs(12);
const PATIENCE: Duration = Duration::from_secs(20);
const REQUESTS: usize = 100;
const SERVICE: &str = "10.96.0.10:80";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Table> {
    let quiet = Duration::from_secs(ground.options.seconds()).max(SETTLED);
    let peers = ground.start_peers("idle", Versions::Http1, &[Peer::Direct]).await?;
    let mut rows = Vec::new();
    for running in &peers {
        let Some(tree) = &running.tree else { continue };
        progress::line(&format!("idle: {}", running.peer));
        let figures = rest(quiet, || tree.cpu(), || tree.resident_kib())?;
        rows.push(Row::of(&running.peer, &[figures]));
    }
    drop(peers);
    progress::line("idle: a whole node");
    rows.push(Row::of(&"weir, a node with 8 pods", &[whole_node(ground, quiet)?]));
    let about = format!("started, a few requests answered, then {} s without any", quiet.as_secs());
    let others = [Peer::Envoy, Peer::Nginx, Peer::Haproxy].map(|peer| peer.to_string());
    Ok(Table { case: "idle".to_owned(), about, rows, ratio: Some((metric::RESIDENT, others.into())) })
}

fn rest(
    quiet: Duration,
    cpu: impl Fn() -> anyhow::Result<Duration>,
    resident_kib: impl Fn() -> anyhow::Result<u64>,
) -> anyhow::Result<Figures> {
    let before = cpu()?;
    // Not a wait for anything: the idleness itself is what is measured.
    thread::sleep(quiet);
    let mut figures = Figures::default();
    figures.put(metric::RESIDENT, resident_kib()? as f64 / 1024.0);
    let used = cpu()?.saturating_sub(before);
    figures.put(metric::IDLE_CPU, used.as_secs_f64() * 1000.0 / quiet.as_secs_f64());
    Ok(figures)
}

/// With a rule in force and requests of an intercepted pod answered through it.
fn whole_node(ground: &Ground, quiet: Duration) -> anyhow::Result<Figures> {
    let others = (1..=6).map(|number| format!("pod-{number}")).collect::<Vec<_>>();
    let lab = Lab::build(&Spec::with_pods(["client", "server"].into_iter().chain(others.iter().map(String::as_str))))
        .context("build a lab: namespaces need root")?;
    let server = SocketAddr::new(lab.pod("server")?.ip4().into(), 8080);
    let listener = lab.enter("server", || TcpListener::bind(server))?.context("listen in a pod")?;
    let node = Intercepting::start(&lab, &ground.weir, &ground.directory("idle-node")?, &documents(&lab)?)?;
    let mut stream = lab.connect("client", SERVICE.parse()?, PATIENCE).context("connect to the service")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let answering = thread::spawn(move || answer(&listener, quiet + PATIENCE));
    let mut seen = Vec::new();
    for _ in 0..REQUESTS {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: service\r\nx-user-tag: canary-user\r\n\r\n")?;
        seen.clear();
        while !seen.ends_with(b"\r\n\r\nok") {
            let mut part = [0; 4096];
            let read = stream.read(&mut part)?;
            ensure!(read > 0, "the node closed the connection after {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&part[..read]);
        }
        ensure!(seen.starts_with(b"HTTP/1.1 200"), "not answered: {:?}", String::from_utf8_lossy(&seen));
    }
    let figures = rest(quiet, || node.cpu(), || node.resident_kib());
    // The node's pool ends its connection with the node, and with it the server.
    drop((stream, node));
    answering.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    figures
}

/// Answers on one connection until it ends.
fn answer(listener: &TcpListener, limit: Duration) -> anyhow::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(limit))?;
    let (mut head, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(read) => head.extend_from_slice(&part[..read]),
        }
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            stream.write_all(ANSWER)?;
        }
    }
}

fn documents(lab: &Lab) -> anyhow::Result<String> {
    let service = ServiceSpec {
        name: "service".to_owned(),
        namespace: "default".to_owned(),
        vip4: Some([10, 96, 0, 10].into()),
        vip6: None,
        ports: vec![ServicePort::http(80, 8080)],
        pods: vec!["server".to_owned()],
    };
    let rule = "\n---\napiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {name: header}\nspec:\n  \
                match: {headers: {x-user-tag: {exact: canary-user}}}\n  \
                route: {destination: {host: service, port: 80}}\n";
    Ok(manifests(lab, &[service])? + rule)
}
