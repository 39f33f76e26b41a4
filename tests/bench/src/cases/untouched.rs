//! What enrolment costs traffic that no rule concerns: pod to pod, between enrolled pods and between pods without any
//! program, in one lab and in turn. The proxy has no part in it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
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

const PAIRS: [Pair; 2] = [
    Pair { name: BASELINE, client: "outside-client", server: "outside-server" },
    Pair { name: "enrolled", client: "client", server: "server" },
];

#[derive(Clone, Copy)]
enum Way {
    RoundTrips,
    Stream,
}

const WAYS: [Way; 2] = [Way::RoundTrips, Way::Stream];

pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Vec<Table>> {
    let spec =
        Spec { pods: PAIRS.iter().flat_map(|pair| [pair.client, pair.server]).map(pod).collect(), ..Spec::default() };
    let lab = Lab::build(&spec).context("build a lab: namespaces need root")?;
    let directory = ground.directory("untouched")?;
    let _node = Intercepting::start(&lab, &ground.weir, &directory, &manifests(&lab, &[])?)?;
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

fn pod(name: &str) -> PodSpec {
    let pod = PodSpec::new(name);
    if name.starts_with("outside") { pod.outside_mesh() } else { pod }
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::RoundTrips => "round trips",
            Self::Stream => "stream",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::RoundTrips => "64 bytes there and back over one connection",
            Self::Stream => "one connection, as much as goes through",
        }
    }

    fn metric(self) -> Metric {
        match self {
            Self::RoundTrips => metric::ROUND_TRIPS,
            Self::Stream => metric::STREAM,
        }
    }
}

/// Round trips, or MiB, per second.
fn measure(lab: &Lab, pair: &Pair, way: Way, length: Duration) -> anyhow::Result<f64> {
    let to = SocketAddr::new(lab.pod(pair.server)?.ip4().into(), 9_000);
    let listener = lab.enter(pair.server, || TcpListener::bind(to))?.context("listen in a pod")?;
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
                Way::RoundTrips => answer(&mut accepted),
                Way::Stream => count(&mut accepted),
            }
        });
        let client = scope.spawn(move || {
            pin(CLIENT_CORE)?;
            match way {
                Way::RoundTrips => ask(&mut stream, length),
                Way::Stream => send(&mut stream, length),
            }
        });
        let asked = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        let received = server.join().map_err(|_| anyhow::anyhow!("a server panicked"))??;
        Ok(match way {
            Way::RoundTrips => asked,
            Way::Stream => received,
        })
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
