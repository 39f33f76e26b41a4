//! What enrolment, and policy, cost traffic that no rule of HTTP concerns: pod to pod, between enrolled pods, pods that a policy of
//! few or of many rules guards, and pods without any program, in one lab and in turn. The proxy has no part in it.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use weir_lab::{Lab, PodSpec, Spec, manifests};

use crate::{
    ground::Ground,
    intercepting::Intercepting,
    progress,
    report::{Figures, Metric, Row, Table, metric},
};

/// How long a connection may take to come about, and an answer to arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// A question and an answer of the round trips, in bytes.
const MESSAGE: usize = 64;
/// What is written at a time in the stream, in bytes.
const CHUNK: usize = 128 << 10;
const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;
const BASELINE: &str = "no programs";

/// Two pods of the same kind.
struct Pair {
    name: &'static str,
    client: &'static str,
    server: &'static str,
}

const PAIRS: [Pair; 4] = [
    Pair { name: BASELINE, client: "outside-client", server: "outside-server" },
    Pair { name: "enrolled", client: "client", server: "server" },
    Pair { name: "10 rules", client: "client", server: "guarded-10" },
    Pair { name: "10,000 rules", client: "client", server: "guarded-10000" },
];

#[derive(Clone, Copy)]
enum Way {
    RoundTrips,
    Stream,
    Connections,
}

const WAYS: [Way; 3] = [Way::RoundTrips, Way::Stream, Way::Connections];

/// The port of the servers.
const PORT: u16 = 9_000;

pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Vec<Table>> {
    let names: BTreeSet<&str> = PAIRS.iter().flat_map(|pair| [pair.client, pair.server]).collect();
    let spec = Spec { pods: names.into_iter().map(pod).collect(), ..Spec::default() };
    let lab = Lab::build(&spec).context("build a lab: namespaces need root")?;
    let directory = ground.directory("untouched")?;
    let documents = manifests(&lab, &[])? + &guard("guarded-10", 10) + &guard("guarded-10000", 10_000);
    let _node = Intercepting::start(&lab, &ground.weir, &directory, &documents)?;
    let length = Duration::from_secs(ground.options.seconds()).div_f64(2.0);
    let mut rounds: [[Vec<Figures>; PAIRS.len()]; WAYS.len()] = Default::default();
    for round in 1..=ground.options.rounds() * 2 {
        for at in ground.shuffle.order(PAIRS.len()) {
            let pair = &PAIRS[at];
            progress::line(&format!("untouched: round {round}, {}", pair.name));
            for (way, rounds) in WAYS.into_iter().zip(&mut rounds) {
                let mut figures = Figures::default();
                figures.put(way.metric(), measure(&lab, pair, way, length)?);
                rounds[at].push(figures);
            }
        }
    }
    let programs = programs(&lab, length)?;
    let tables = WAYS.into_iter().zip(rounds).map(|(way, rounds)| Table {
        case: format!("untouched, {}", way.name()),
        about: format!("pod to pod, {}, no rule concerns it; rounds of {length:?}", way.about()),
        rows: PAIRS.iter().zip(rounds).map(|(pair, rounds)| Row::of(&pair.name, &rounds)).collect(),
        ratio: Some((way.metric(), vec![BASELINE.to_owned()])),
    });
    Ok(tables.chain([programs]).collect())
}

/// What each run of a program costs, in a round of its own: the kernel's measuring costs, too.
fn programs(lab: &Lab, length: Duration) -> anyhow::Result<Table> {
    progress::line("untouched: nanoseconds per run of the programs");
    let before = Counted::all()?;
    let counting = Counting::on()?;
    measure(lab, &PAIRS[1], Way::RoundTrips, length)?;
    let after = Counted::all()?;
    drop(counting);
    let mut rows = Vec::new();
    for program in &after {
        let earlier = before.iter().find(|one| one.id == program.id);
        let (runs, time) =
            earlier.map_or((program.runs, program.time), |one| (program.runs - one.runs, program.time - one.time));
        // Those of other nodes on this machine, and those that have no part in this traffic.
        if runs < 100 || !program.name.starts_with("weir_") {
            continue;
        }
        let mut figures = Figures::default();
        figures.put(metric::PER_RUN, time as f64 / runs as f64);
        rows.push(Row::of(&program.name, &[figures]).noted(format!("{runs} runs")));
    }
    let about = "the programs on the links of the enrolled pods, by the kernel's own count (kernel.bpf_stats_enabled)";
    Ok(Table { case: "untouched, programs".to_owned(), about: about.to_owned(), rows, ratio: None })
}

/// What `bpftool` says of a program.
#[derive(serde::Deserialize)]
struct Counted {
    id: u32,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "run_cnt")]
    runs: u64,
    #[serde(default, rename = "run_time_ns")]
    time: u64,
}

impl Counted {
    fn all() -> anyhow::Result<Vec<Self>> {
        let output = std::process::Command::new("bpftool").args(["--json", "prog", "show"]).output();
        let output = output.context("run bpftool (setup.sh installs it)")?;
        serde_json::from_slice(&output.stdout).context("read what bpftool says")
    }
}

/// The kernel counts time and runs of all programs while this lives.
struct Counting(String);

const COUNTING: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Counting {
    fn on() -> anyhow::Result<Self> {
        let before = fs::read_to_string(COUNTING).context("read whether programs are counted")?;
        fs::write(COUNTING, "1").context("have programs counted")?;
        Ok(Self(before))
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // An error means that the machine goes on counting, which costs it little.
        let _ = fs::write(COUNTING, self.0.trim());
    }
}

/// A policy with so many rules for a pod. Each allows the client another port, so that the kernel has an entry for each; the last
/// the one that is used.
fn guard(pod: &str, rules: u16) -> String {
    let mut text = format!(
        "---\napiVersion: weir.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {pod}}}\n\
         spec:\n  selector: {{matchLabels: {{app: {pod}}}}}\n  rules:\n"
    );
    for port in (1..rules).map(|rule| 20_000 + rule).chain([PORT]) {
        let from = "from: [{source: {serviceAccounts: [default]}}]";
        text += &format!("    - {{{from}, to: [{{operation: {{ports: [\"{port}\"]}}}}]}}\n");
    }
    text
}

fn pod(name: &str) -> PodSpec {
    let pod = PodSpec::new(name).label("app", name);
    if name.starts_with("outside") { pod.outside_mesh() } else { pod }
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::RoundTrips => "round trips",
            Self::Stream => "stream",
            Self::Connections => "connections",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::RoundTrips => "64 bytes there and back over one connection",
            Self::Stream => "one connection, as much as goes through",
            Self::Connections => "a connection for each byte, one after the other",
        }
    }

    fn metric(self) -> Metric {
        match self {
            Self::RoundTrips => metric::ROUND_TRIPS,
            Self::Stream => metric::STREAM,
            Self::Connections => metric::CONNECTIONS,
        }
    }
}

/// Round trips, MiB, or connections per second.
fn measure(lab: &Lab, pair: &Pair, way: Way, length: Duration) -> anyhow::Result<f64> {
    let to = SocketAddr::new(lab.pod(pair.server)?.ip4().into(), PORT);
    let listener = lab.enter(pair.server, || TcpListener::bind(to))?.context("listen in a pod")?;
    if let Way::Connections = way {
        return connections(lab, pair, &listener, to, length);
    }
    let mut stream = lab.connect(pair.client, to, PATIENCE).context("connect from pod to pod")?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (mut accepted, _) = listener.accept()?;
    accepted.set_nodelay(true)?;
    for end in [&stream, &accepted] {
        end.set_read_timeout(Some(PATIENCE))?;
    }
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            pin(SERVER_CORE)?;
            match way {
                Way::Stream => count(&mut accepted),
                _ => answer(&mut accepted),
            }
        });
        let client = scope.spawn(move || {
            pin(CLIENT_CORE)?;
            match way {
                Way::Stream => send(&mut stream, length),
                _ => ask(&mut stream, length),
            }
        });
        let asked = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        let received = server.join().map_err(|_| anyhow::anyhow!("a server panicked"))??;
        Ok(match way {
            Way::Stream => received,
            _ => asked,
        })
    })
}

/// Connections per second, on each of which a byte goes there and back.
fn connections(
    lab: &Lab,
    pair: &Pair,
    listener: &TcpListener,
    to: SocketAddr,
    length: Duration,
) -> anyhow::Result<f64> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            pin(SERVER_CORE)?;
            while !is_over.load(Ordering::Relaxed) {
                let (mut stream, _) = listener.accept()?;
                let mut byte = [0];
                // The last one says nothing.
                if stream.read_exact(&mut byte).is_ok() {
                    stream.write_all(&byte)?;
                    // The client ends it, with a reset: ports must not run out.
                    let _ = stream.read(&mut byte);
                }
            }
            anyhow::Ok(())
        });
        let made = lab.enter(pair.client, || {
            pin(CLIENT_CORE)?;
            let (begun, mut made) = (Instant::now(), 0_u32);
            while begun.elapsed() < length {
                let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                stream.write_all(&[1])?;
                stream.read_exact(&mut [0])?;
                made += 1;
            }
            let per_second = f64::from(made) / begun.elapsed().as_secs_f64();
            is_over.store(true, Ordering::Relaxed);
            drop(TcpStream::connect_timeout(&to, PATIENCE)?);
            anyhow::Ok(per_second)
        });
        is_over.store(true, Ordering::Relaxed);
        let made = made??;
        server.join().map_err(|_| anyhow::anyhow!("a server panicked"))??;
        Ok(made)
    })
}

fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("stay on one core")
}

fn ask(stream: &mut TcpStream, length: Duration) -> anyhow::Result<f64> {
    let (begun, mut done, mut buffer) = (Instant::now(), 0_u32, [0; MESSAGE]);
    while begun.elapsed() < length {
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        done += 1;
    }
    Ok(f64::from(done) / begun.elapsed().as_secs_f64())
}

fn answer(stream: &mut TcpStream) -> anyhow::Result<f64> {
    let mut buffer = [0; MESSAGE];
    while stream.read_exact(&mut buffer).is_ok() {
        stream.write_all(&buffer)?;
    }
    Ok(0.0)
}

fn send(stream: &mut TcpStream, length: Duration) -> anyhow::Result<f64> {
    let (begun, chunk) = (Instant::now(), vec![0x5a; CHUNK]);
    while begun.elapsed() < length {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(0.0)
}

fn count(stream: &mut TcpStream) -> anyhow::Result<f64> {
    let (begun, mut bytes, mut buffer) = (Instant::now(), 0_u64, vec![0; CHUNK]);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(bytes as f64 / f64::from(1 << 20) / begun.elapsed().as_secs_f64()),
            read => bytes += read as u64,
        }
    }
}
