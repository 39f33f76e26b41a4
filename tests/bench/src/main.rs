//! The benchmark: Weir beside Envoy, nginx and `HAProxy`, each doing the same, in one run on one machine.
//!
//! It must not judge: no thresholds, no exit status by speed. It fails when a peer is missing, routes wrongly, or ends.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    ground::Ground,
    machine::Machine,
    options::{Case, Cli, Options, Part},
    peers::{Peer, weir},
    report::Report,
};

mod backend;
mod cases;
mod client;
mod compare;
mod frames;
mod ground;
mod h2load;
mod intercepting;
mod lifeline;
mod machine;
mod options;
mod paced;
mod peers;
mod process;
mod progress;
mod report;
mod stats;
mod wire;
mod wrk;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::line(&format!("weir-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.part {
        Some(Part::Backend) => backend::run(),
        Some(Part::PacedLoad(load)) => paced::run(&load),
        Some(Part::Compare(wanted)) => runtime()?.block_on(compare::run(wanted.weir.unwrap_or_else(weir::find))),
        None => runtime()?.block_on(until_interrupted(cli.options)),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

/// Dropping the run on a signal ends all processes that it started.
async fn until_interrupted(options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    tokio::select! {
        ended = Box::pin(bench(options)) => ended,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}

async fn bench(mut options: Options) -> anyhow::Result<()> {
    let weir = options.weir.clone().unwrap_or_else(weir::find);
    options.peers.sort_unstable();
    options.peers.dedup();
    let versions = versions(&options, &weir)?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = options.seed.unwrap_or(clock.as_secs() % 1_000_000);
    let (rounds, seconds) = (options.rounds(), options.seconds());
    let machine = Machine::look(versions);
    let mut ground = Ground::prepare(options, weir, seed).await?;
    let mut tables = Vec::new();
    for case in ground.options.cases.clone() {
        tables.extend(cases::run(case, &mut ground).await.with_context(|| format!("case {}", case.name()))?);
    }
    let options = ground.close().await?;
    let json = options.json.clone();
    let report = Report { machine, options, rounds, seconds, seed, tables };
    io::stdout().write_all(report.render().as_bytes()).context("write the report")?;
    if let Some(path) = json {
        let bytes = serde_json::to_vec_pretty(&report)?;
        std::fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// What takes part, found before anything is started, so that a missing peer is known at once.
fn versions(options: &Options, weir: &Path) -> anyhow::Result<Vec<String>> {
    let is_alone = |case: &Case| {
        matches!(case, Case::Mirror | Case::Runaway | Case::Rules | Case::Workers | Case::Reload | Case::Untouched)
    };
    let alone = options.cases.iter().any(is_alone);
    let needs_weir = alone || options.peers.contains(&Peer::Weir);
    ensure!(
        !needs_weir || weir.exists(),
        "no Weir at {}: build it, or name it with --weir, or leave it out with --peers and --cases",
        weir.display()
    );
    let versions = options.peers.iter().map(|peer| peer.version(weir).with_context(|| format!("{peer} is missing")));
    Ok(versions.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
}
