//! The cases of a run: they start what they need, measure it, and leave tables.

use crate::{
    ground::Ground,
    options::Case,
    peers::Running,
    progress,
    report::{Row, Table},
    wrk::Load,
};

mod beside;
mod idle;
mod mirror;
mod plugin;
mod reload;
mod rules;
mod runaway;
mod untouched;
mod workers;

/// Seconds of unmeasured load before the first round.
const WARM_UP: u64 = 1;

/// Measures the same closed load through nodes that differ in one thing, in turns: a row for each, with its name.
async fn in_turns(
    ground: &mut Ground,
    case: &str,
    nodes: &[(String, Running)],
    load: &Load,
) -> anyhow::Result<Vec<Row>> {
    for (_, node) in nodes {
        ground.closed(node, load, WARM_UP).await?;
    }
    let mut rounds: Vec<_> = nodes.iter().map(|_| Vec::new()).collect();
    for round in 1..=ground.options.rounds() {
        for at in ground.shuffle.order(nodes.len()) {
            let (name, node) = &nodes[at];
            progress::line(&format!("{case}: round {round}, {name}"));
            rounds[at].push(ground.closed(node, load, ground.options.seconds()).await?);
        }
    }
    Ok(nodes.iter().zip(&rounds).map(|((name, _), rounds)| Row::of(name, rounds)).collect())
}

/// Runs one case.
pub(crate) async fn run(case: Case, ground: &mut Ground) -> anyhow::Result<Vec<Table>> {
    let table = match case {
        Case::Mirror => return mirror::run(ground).await,
        Case::Plugin => return plugin::run(ground).await,
        Case::Untouched => return untouched::run(ground).await,
        Case::Runaway => runaway::run(ground).await?,
        Case::Rules => rules::run(ground).await?,
        Case::Workers => workers::run(ground).await?,
        Case::Reload => reload::run(ground).await?,
        Case::Idle => idle::run(ground).await?,
        Case::HeaderRoute
        | Case::Http2ToHttp1
        | Case::Http2
        | Case::Grpc
        | Case::Paced
        | Case::NewConnection
        | Case::Post64k
        | Case::Get1m => beside::run(case, ground).await?,
    };
    Ok(vec![table])
}
