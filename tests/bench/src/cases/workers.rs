//! Do two workers do twice as much as one? Each has a tenth of a processor for itself, on whichever is free, so that two
//! processors suffice: the load generator and the backend have the rest. What the workers shared, a lock or a line of
//! memory, would cost the two more than the one.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::in_turns;
use crate::{
    ground::Ground,
    peers::{Peer, Running, weir},
    report::{Table, metric},
    wrk::{Lifetime, Load},
};

const COUNTS: [usize; 2] = [1, 2];
/// What a worker has of a processor: this of each period.
const TIME: Duration = Duration::from_millis(2);
const PERIOD: Duration = Duration::from_millis(20);
/// Enough connections that each worker always has something to do, however the kernel spreads them.
const LOAD: Load = Load { connections: 128, path: "/", body: 0, lifetime: Lifetime::Kept };
pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Table> {
    let mut nodes = Vec::new();
    for count in COUNTS {
        nodes.push((name(count), start(ground, count).await?));
    }
    let rows = in_turns(ground, "workers", &nodes, &LOAD).await?;
    let about = format!(
        "Weir alone: the load of `header-route` on {} connections, each worker with {TIME:?} of every {PERIOD:?} of a processor",
        LOAD.connections
    );
    Ok(Table { case: "workers".to_owned(), about, rows, ratio: Some((metric::RATE, vec![name(COUNTS[0])])) })
}

async fn start(ground: &Ground, workers: usize) -> anyhow::Result<Running> {
    let directory = ground.directory(&format!("workers-{workers}"))?;
    let setup = ground.setup(&directory)?;
    let node = Peer::Weir.start_as(&setup, &weir::launch_several(&setup, workers)?).await?;
    node.check_routing().await?;
    let tree = node.tree.as_ref().context("Weir is a process")?;
    let found = tree.ration(weir::WORKER_THREADS, TIME, PERIOD)?;
    ensure!(found == workers, "of {workers} workers {found} have threads with names of workers");
    Ok(node)
}

fn name(count: usize) -> String {
    if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") }
}
