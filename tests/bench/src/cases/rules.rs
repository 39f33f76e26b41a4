//! Does a request cost more where a service has many rules? The same closed load with ever more of them.

use crate::{
    ground::Ground,
    peers::{Peer, weir},
    progress,
    report::{Row, Table, metric},
    wrk::{Lifetime, Load},
};

/// Rules on the service.
const COUNTS: [usize; 4] = [1, 100, 10_000, 100_000];
const LOAD: Load = Load { connections: 32, path: "/", body: 0, lifetime: Lifetime::Kept };
/// Seconds of unmeasured load before the first round.
const WARM_UP: u64 = 1;

pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Table> {
    let mut nodes = Vec::new();
    for count in COUNTS {
        let directory = ground.directory(&format!("rules-{count}"))?;
        let setup = ground.setup(&directory)?;
        let launch = weir::launch(&setup, &weir::Rules::many(&ground.backends, count))?;
        let node = Peer::Weir.start_as(&setup, &launch).await?;
        node.check_routing().await?;
        ground.closed(&node, &LOAD, WARM_UP).await?;
        nodes.push(node);
    }
    let mut rounds: Vec<_> = nodes.iter().map(|_| Vec::new()).collect();
    for round in 1..=ground.options.rounds() {
        for at in ground.shuffle.order(nodes.len()) {
            progress::line(&format!("rules: round {round}, {}", COUNTS[at]));
            rounds[at].push(ground.closed(&nodes[at], &LOAD, ground.options.seconds()).await?);
        }
    }
    let name = |count: usize| if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") };
    let rows = COUNTS.iter().zip(&rounds).map(|(count, rounds)| Row::of(&name(*count), rounds)).collect();
    let about = "Weir alone: the load of `header-route`, with other rules for other values of the header".to_owned();
    Ok(Table { case: "rules".to_owned(), about, rows, ratio: Some((metric::CPU, vec![name(COUNTS[0])])) })
}
