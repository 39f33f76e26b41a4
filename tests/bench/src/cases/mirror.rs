//! Does the client notice that its requests are mirrored? The same paced load without a mirror, and with targets that answer,
//! refuse, hang, or read one byte a second.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;

use crate::{
    backend::{Addresses, Count, Seen},
    client,
    ground::{Ground, PacedLoad},
    paced::Kind,
    peers::{Peer, Running, weir},
    progress,
    report::{Row, Table, metric},
};

/// The loads: small GETs, and POSTs whose copies need memory while a target does not read.
const LOADS: [(&str, Kind, u32); 2] = [("GET", Kind::Get, 3_000), ("POST 16 KiB", Kind::Post16k, 1_000)];
/// The name of the target that is none.
const NONE: &str = "no mirror";

/// A mirror target: its name, where it is, and where the backend counts what reached it.
struct Target {
    name: &'static str,
    address: Option<SocketAddr>,
    count: fn(&Seen) -> Option<Count>,
}

fn targets(backends: &Addresses) -> [Target; 5] {
    [
        Target { name: NONE, address: None, count: |_| None },
        Target { name: "healthy", address: Some(backends.healthy), count: |seen| Some(seen.healthy) },
        Target { name: "refusing", address: Some(backends.refusing), count: |_| None },
        Target { name: "hanging", address: Some(backends.hanging), count: |seen| Some(seen.hanging) },
        Target { name: "a byte a second", address: Some(backends.trickling), count: |seen| Some(seen.trickling) },
    ]
}

pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Vec<Table>> {
    let targets = targets(&ground.backends);
    let mut nodes = Vec::new();
    for target in &targets {
        nodes.push(start(ground, target).await?);
    }
    let time = Duration::from_secs(ground.options.seconds());
    let runs: Vec<(usize, usize)> =
        (0..LOADS.len()).flat_map(|load| (0..targets.len()).map(move |target| (load, target))).collect();
    let mut rounds: Vec<_> = runs.iter().map(|_| Vec::new()).collect();
    for round in 0..=ground.options.rounds() {
        for at in ground.shuffle.order(runs.len()) {
            let (load, target) = runs[at];
            let (what, kind, rate) = LOADS[load];
            progress::line(&format!("mirror: round {round}, {what}, {}", targets[target].name));
            let figures = ground.paced(&nodes[target], &PacedLoad { kind, rate, time }).await?;
            // Round 0 warms up.
            if round > 0 {
                rounds[at].push(figures);
            }
        }
    }
    let seen = client::json(ground.backends.control).await?;
    let mut tables: Vec<Table> = LOADS.iter().map(|(what, _, rate)| table(what, *rate)).collect();
    for ((load, target), rounds) in runs.iter().zip(&rounds) {
        let target = &targets[*target];
        let row = Row::of(&target.name, rounds);
        tables[*load].rows.push(match (target.count)(&seen) {
            Some(count) => row.noted(reached(target.name, count)?),
            None => row,
        });
    }
    Ok(tables)
}

fn table(what: &str, rate: u32) -> Table {
    let about = format!(
        "Weir alone, {what}, {rate} a second, every request mirrored to a target of the kind; what the client sees, from when it was due"
    );
    Table { case: "mirror".to_owned(), about, rows: Vec::new(), ratio: Some((metric::P99, vec![NONE.to_owned()])) }
}

async fn start(ground: &Ground, target: &Target) -> anyhow::Result<Running> {
    let directory = ground.directory(&format!("mirror-{}", target.name.replace(' ', "-")))?;
    let setup = ground.setup(&directory)?;
    let launch = weir::launch(&setup, &weir::Rules::mirrored(&ground.backends, target.address))?;
    Peer::Weir.start_as(&setup, &launch).await
}

/// Without a copy having arrived, the figures would say nothing about mirroring.
fn reached(name: &str, count: Count) -> anyhow::Result<String> {
    ensure!(count.connections > 0, "no copy ever reached the mirror target `{name}`: nothing was mirrored");
    Ok(format!(
        "{} connections and {} whole requests reached the target, warm-up and both loads together",
        count.connections, count.requests
    ))
}
