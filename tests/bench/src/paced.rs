//! The paced load: so many requests a second, each due at its own moment whether or not the answers keep up.
//!
//! Latency counts from the moment a request was due, so that waiting for a busy proxy is part of it. A due request is sent on
//! the connection that has waited longest; when all are busy it queues. The generator states its own lateness (from due to
//! sent, while a connection was free), for a figure below that is the generator's, not the proxy's.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::AsFd as _,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpStream, unix::pipe::Receiver},
    sync::Notify,
    task::LocalSet,
};

use crate::{lifeline::Lifeline, wire::Wire};

/// How long answers may take after the last request was due.
const DRAIN: Duration = Duration::from_secs(5);
/// Bytes of the body of [`Kind::Post16k`].
const BODY: usize = 16 * 1024;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A GET without body.
    Get,
    /// A POST of 16 KiB.
    Post16k,
}

/// One paced load.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// Where to send.
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// Requests per second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Milliseconds during which requests become due.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub(crate) milliseconds: u64,
    /// Connections kept open.
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// What to send.
    #[arg(long, value_enum, default_value_t = Kind::Get)]
    pub(crate) kind: Kind,
    /// Ends earlier when standard input closes.
    #[arg(long)]
    pub(crate) until_eof: bool,
}

/// What a paced load saw. Times in microseconds, over all requests that were due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) due: u64,
    /// Answered with 2xx by the canary, which the header asks for.
    pub(crate) answered: u64,
    /// Answered otherwise.
    pub(crate) refused: u64,
    /// Not answered: the connection broke, or the answer did not come in time.
    pub(crate) broken: u64,
    pub(crate) seconds: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// The generator's own lateness, p99.
    pub(crate) late_p99: f64,
}

struct State {
    request: Vec<u8>,
    address: SocketAddr,
    due: RefCell<VecDeque<Instant>>,
    wake: Notify,
    /// How long each request took that was answered, rightly or not, or whose connection broke.
    settled: RefCell<Vec<Duration>>,
    late: RefCell<Vec<Duration>>,
    refused: Cell<u64>,
    broken: Cell<u64>,
    /// Told of every settled request.
    news: Notify,
}

/// Runs the load and prints its outcome as one line of JSON.
pub(crate) fn run(load: &Load) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the generator's runtime")?;
    let outcome = LocalSet::new().block_on(&runtime, drive(load))?;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &outcome)?;
    Ok(())
}

async fn drive(load: &Load) -> anyhow::Result<Outcome> {
    let total = u64::from(load.rate) * load.milliseconds / 1000;
    let capacity = usize::try_from(total).context("count of requests")?;
    let state = Rc::new(State {
        request: request(load.kind),
        address: load.address,
        due: RefCell::default(),
        wake: Notify::new(),
        settled: RefCell::new(Vec::with_capacity(capacity)),
        late: RefCell::new(Vec::with_capacity(capacity)),
        refused: Cell::new(0),
        broken: Cell::new(0),
        news: Notify::new(),
    });
    for _ in 0..load.connections {
        let wire = connect(load.address).await.with_context(|| format!("connect to {}", load.address))?;
        tokio::task::spawn_local(connection(state.clone(), Some(wire)));
    }
    let begin = Instant::now();
    let due = pace(load, total, &state, begin).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let drained = async {
        while state.settled_count() < due {
            state.news.notified().await;
        }
    };
    let _ = tokio::time::timeout(DRAIN, drained).await;
    Ok(state.outcome(due, seconds))
}

/// Queues each request when it is due; returns how many were.
async fn pace(load: &Load, total: u64, state: &State, begin: Instant) -> anyhow::Result<u64> {
    let mut alarm = Alarm::new()?;
    let mut lifeline =
        load.until_eof.then(Lifeline::from_stdin).transpose().context("take standard input, which must be a pipe")?;
    let mut queued = 0;
    while queued < total {
        let due = begin + Duration::from_nanos((queued + 1) * 1_000_000_000 / u64::from(load.rate));
        let ahead = due.saturating_duration_since(Instant::now());
        if !ahead.is_zero() {
            tokio::select! {
                rung = alarm.after(ahead) => rung?,
                () = closed(&mut lifeline) => break,
            }
        }
        if Instant::now() >= due {
            state.due.borrow_mut().push_back(due);
            state.wake.notify_one();
            queued += 1;
        }
    }
    Ok(queued)
}

async fn closed(lifeline: &mut Option<Lifeline>) {
    match lifeline {
        Some(lifeline) => lifeline.closed().await,
        None => std::future::pending().await,
    }
}

async fn connect(address: SocketAddr) -> io::Result<Wire> {
    Wire::new(TcpStream::connect(address).await?)
}

async fn connection(state: Rc<State>, mut wire: Option<Wire>) {
    loop {
        let next = state.due.borrow_mut().pop_front();
        let Some(due) = next else {
            // Idle from here: what comes next is late only by the generator's fault.
            state.wake.notified().await;
            if let Some(due) = state.due.borrow().front() {
                state.late.borrow_mut().push(due.elapsed());
            }
            continue;
        };
        match exchange(&state, &mut wire).await {
            Ok(true) => {}
            Ok(false) => state.refused.set(state.refused.get() + 1),
            Err(_) => {
                wire = None;
                state.broken.set(state.broken.get() + 1);
            }
        }
        state.settled.borrow_mut().push(due.elapsed());
        state.news.notify_one();
    }
}

/// One request and its answer; true when it is the answer that was asked for.
async fn exchange(state: &State, kept: &mut Option<Wire>) -> io::Result<bool> {
    let mut wire = match kept.take() {
        Some(wire) => wire,
        None => connect(state.address).await?,
    };
    wire.write(&state.request).await?;
    let head = wire.response().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    wire.skip_body(head.framing).await?;
    if head.keep_alive {
        *kept = Some(wire);
    }
    Ok((200..300).contains(&head.status) && head.backend.as_deref() == Some("canary"))
}

fn request(kind: Kind) -> Vec<u8> {
    let (method, length) = match kind {
        Kind::Get => ("GET", 0),
        Kind::Post16k => ("POST", BODY),
    };
    let mut bytes = format!("{method} / HTTP/1.1\r\nhost: web\r\nx-user-tag: canary-user\r\n").into_bytes();
    if length > 0 {
        bytes.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.resize(bytes.len() + length, b'x');
    bytes
}

impl State {
    fn settled_count(&self) -> u64 {
        self.settled.borrow().len() as u64
    }

    fn outcome(&self, due: u64, seconds: f64) -> Outcome {
        let unsettled = due - self.settled_count();
        let mut times = self.settled.borrow_mut();
        let mut late = self.late.borrow_mut();
        // What never came took at least as long as was waited for it; leaving it out would make a proxy that hangs look fast.
        let lost = usize::try_from(unsettled).unwrap_or(usize::MAX);
        times.extend(std::iter::repeat_n(DRAIN, lost));
        times.sort_unstable();
        late.sort_unstable();
        let (refused, broken) = (self.refused.get(), self.broken.get() + unsettled);
        Outcome {
            due,
            answered: due - refused - broken,
            refused,
            broken,
            seconds,
            p50: quantile(&times, 0.50),
            p99: quantile(&times, 0.99),
            max: quantile(&times, 1.0),
            late_p99: quantile(&late, 0.99),
        }
    }
}

/// The nearest-rank quantile of sorted times, in microseconds; zero when there are none.
fn quantile(sorted: &[Duration], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// A timer descriptor, because the runtime's own timers count in milliseconds.
struct Alarm {
    timer: TimerFd,
    rings: Receiver,
}

impl Alarm {
    fn new() -> anyhow::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("open a timer")?;
        let ear = timer.as_fd().try_clone_to_owned().context("duplicate the timer")?;
        // To the runtime, a timer that does not block is read as a pipe is: it becomes readable, and then yields bytes.
        let rings = Receiver::from_file_unchecked(ear.into()).context("watch the timer")?;
        Ok(Self { timer, rings })
    }

    async fn after(&mut self, ahead: Duration) -> anyhow::Result<()> {
        let once = Expiration::OneShot(TimeSpec::from_duration(ahead));
        self.timer.set(once, TimerSetTimeFlags::empty()).context("set the timer")?;
        let mut expirations = [0; 8];
        self.rings.read_exact(&mut expirations).await.context("wait for the timer")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        for (q, expected) in [(0.5, 100.0), (0.99, 198.0), (1.0, 200.0)] {
            assert!((quantile(&times, q) - expected).abs() < 1e-6, "quantile {q}");
        }
        assert_eq!(quantile(&[], 0.99).to_bits(), 0.0_f64.to_bits());
    }
}
