//! How long a changed file takes to be in force, in a folder of 10,000 rules, while requests flow; that none of them fails; and
//! what changes ten times a second cost them, beside the same requests without any.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::net::TcpStream;

use crate::{
    client,
    ground::{Ground, PacedLoad},
    paced::{Kind, Outcome},
    peers::{
        Peer, Running,
        weir::{self, To},
    },
    progress,
    report::{Figures, Row, Table, metric},
    wire::Wire,
};

/// Rules in the folder, the probe's included.
const RULES: usize = 10_000;
/// Requests per second meanwhile.
const PACE: u32 = 2_000;
/// From one change to the next.
const EVERY: Duration = Duration::from_millis(100);
/// How long one change may take to be in force.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks; the resolution of the figure.
const LOOK: Duration = Duration::from_millis(1);
/// The longest that one round's load runs; the reloads end it.
const LONGEST: Duration = Duration::from_secs(600);

/// The name of the rounds in which nothing changes.
const NONE: &str = "no reloads";

pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Table> {
    let directory = ground.directory("reload")?;
    let setup = ground.setup(&directory)?;
    let launch = weir::launch(&setup, &weir::Rules::many_with_probe(&ground.backends, RULES))?;
    let node = Peer::Weir.start_as(&setup, &launch).await?;
    let mut next = To::Canary;
    let reloads = ground.options.reloads();
    let (rounds, each) = (ground.options.rounds(), reloads.div_ceil(ground.options.rounds()));
    let time = EVERY * u32::try_from(each)?;
    let (mut still, mut changing) = (Vec::new(), Vec::new());
    let mut took = Vec::new();
    // Round 0 warms up.
    for round in 0..=rounds {
        for changes in ground.shuffle.order(2) {
            progress::line(&format!("reload: round {round} of {rounds}"));
            if changes == 0 {
                let load = ground.start_paced(&node, &PacedLoad { kind: Kind::Get, rate: PACE, time }, false)?;
                still.extend(Some(figures(&load.finish(time).await?)).filter(|_| round > 0));
                continue;
            }
            let load = ground.start_paced(&node, &PacedLoad { kind: Kind::Get, rate: PACE, time: LONGEST }, true)?;
            // Of this round: the node ends connections that say nothing for the time that the others take.
            let mut probe = Probe { wire: Probe::connect(&node).await?, next };
            let mut times = Vec::new();
            for _ in 0..each {
                let begin = Instant::now();
                times.push(probe.reload(&directory).await?.as_secs_f64() * 1000.0);
                tokio::time::sleep_until((begin + EVERY).into()).await;
            }
            next = probe.next;
            let seen = load.stop().await?;
            times.sort_by(f64::total_cmp);
            let mut figures = figures(&seen);
            figures.put(metric::IN_FORCE, times[times.len() / 2]);
            if round > 0 {
                changing.push(figures);
                took.extend(times);
            }
        }
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let note = format!(
        "{} reloads: {:.1} ms in the middle, {:.1} of a hundred's slowest, {:.1} the slowest",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    let rows = vec![Row::of(&NONE, &still), Row::of(&"10 reloads/s", &changing).noted(note)];
    let about = format!(
        "Weir alone, {PACE} requests a second: one of {RULES} rule files is replaced every {} ms; until the first answer by the new rule",
        EVERY.as_millis()
    );
    Ok(Table { case: "reload".to_owned(), about, rows, ratio: Some((metric::P99, vec![NONE.to_owned()])) })
}

fn figures(seen: &Outcome) -> Figures {
    let mut figures = Figures::default();
    figures.failed = seen.refused + seen.broken;
    figures.put(metric::P50, seen.p50);
    figures.put(metric::P99, seen.p99);
    figures.put(metric::LATE, seen.late_p99);
    figures
}

/// A kept connection that asks again and again what the probe's rule says.
struct Probe {
    wire: Wire,
    /// Where its rule is to lead next.
    next: To,
}

impl Probe {
    async fn connect(node: &Running) -> anyhow::Result<Wire> {
        Ok(Wire::new(TcpStream::connect(node.address).await.context("connect to the node")?)?)
    }

    /// Changes the rule, and waits until that is in force.
    async fn reload(&mut self, directory: &Path) -> anyhow::Result<Duration> {
        let to = self.next;
        self.next = match to {
            To::Stable => To::Canary,
            To::Canary => To::Stable,
        };
        weir::point_probe(directory, to)?;
        self.wait_for(to).await
    }

    async fn wait_for(&mut self, to: To) -> anyhow::Result<Duration> {
        let expected = match to {
            To::Stable => "stable",
            To::Canary => "canary",
        };
        let request = format!("GET / HTTP/1.1\r\nhost: web\r\nx-user-tag: {}\r\n\r\n", weir::PROBE_TAG);
        let begin = Instant::now();
        loop {
            let head = client::exchange(&mut self.wire, &request).await.context("a probe under reload failed")?;
            if head.status != 200 {
                bail!("a probe under reload was answered with status {}", head.status);
            }
            if head.backend.as_deref() == Some(expected) {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > PATIENCE {
                bail!("a changed rule was not in force after {PATIENCE:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
