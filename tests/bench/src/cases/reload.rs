//! How long a changed file takes to be in force, in a folder of 10,000 rules, while requests flow; and that none of them fails.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::net::TcpStream;

use crate::{
    client,
    ground::{Ground, PacedLoad},
    paced::Kind,
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
/// How long one change may take to be in force.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks; the resolution of the figure.
const LOOK: Duration = Duration::from_millis(1);
/// The longest that the load runs; the reloads end it.
const LONGEST: Duration = Duration::from_secs(600);

pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Table> {
    let directory = ground.directory("reload")?;
    let setup = ground.setup(&directory)?;
    let launch = weir::launch(&setup, &weir::Rules::many_with_probe(&ground.backends, RULES))?;
    let node = Peer::Weir.start_as(&setup, &launch).await?;
    let mut probe = Probe::connect(&node).await?;
    let load = ground.start_paced(&node, &PacedLoad { kind: Kind::Get, rate: PACE, time: LONGEST }, true)?;
    let reloads = ground.options.reloads();
    let begin = Instant::now();
    let mut rounds = Vec::new();
    for number in 0..reloads {
        if begin.elapsed() > LONGEST - PATIENCE {
            bail!("only {number} of {reloads} reloads fit into {LONGEST:?}; ask for fewer with --reloads");
        }
        if number % 50 == 0 {
            progress::line(&format!("reload: {number} of {reloads}"));
        }
        let to = if number % 2 == 0 { To::Canary } else { To::Stable };
        weir::point_probe(&directory, to)?;
        let mut figures = Figures::default();
        figures.put(metric::IN_FORCE, probe.wait_for(to).await?.as_secs_f64() * 1000.0);
        rounds.push(figures);
    }
    let seen = load.stop().await?;
    rounds[0].failed = seen.refused + seen.broken;
    rounds[0].put(metric::P99, seen.p99);
    let note = format!(
        "{reloads} reloads while {} requests were answered, {} failed",
        seen.answered,
        seen.refused + seen.broken
    );
    let row = Row::of(&format!("weir, {RULES} rules"), &rounds).noted(note);
    let about = format!(
        "Weir alone: one of {RULES} rule files is replaced, under {PACE} requests a second; until the first answer by the new rule"
    );
    Ok(Table { case: "reload".to_owned(), about, rows: vec![row], ratio: None })
}

/// A kept connection that asks again and again what the probe's rule says.
struct Probe(Wire);

impl Probe {
    async fn connect(node: &Running) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(node.address).await.context("connect to the node")?;
        Ok(Self(Wire::new(stream)?))
    }

    async fn wait_for(&mut self, to: To) -> anyhow::Result<Duration> {
        let expected = match to {
            To::Stable => "stable",
            To::Canary => "canary",
        };
        let request = format!("GET / HTTP/1.1\r\nhost: web\r\nx-user-tag: {}\r\n\r\n", weir::PROBE_TAG);
        let begin = Instant::now();
        loop {
            let head = client::exchange(&mut self.0, &request).await.context("a probe under reload failed")?;
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
