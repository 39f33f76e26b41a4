//! Does a request cost more where a service has many rules? The same closed load with ever more of them.

use super::in_turns;
use crate::{
    ground::Ground,
    peers::{Peer, weir},
    report::{Table, metric},
    wrk::{Lifetime, Load},
};

/// Rules on the service.
const COUNTS: [usize; 4] = [1, 100, 10_000, 100_000];
const LOAD: Load = Load { connections: 32, path: "/", body: 0, lifetime: Lifetime::Kept };
pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Table> {
    let mut nodes = Vec::new();
    for count in COUNTS {
        let directory = ground.directory(&format!("rules-{count}"))?;
        let setup = ground.setup(&directory)?;
        let launch = weir::launch(&setup, &weir::Rules::many(&ground.backends, count))?;
        let node = Peer::Weir.start_as(&setup, &launch).await?;
        node.check_routing().await?;
        nodes.push((name(count), node));
    }
    let rows = in_turns(ground, "rules", &nodes, &LOAD).await?;
    let about = "Weir alone: the load of `header-route`, with other rules for other values of the header".to_owned();
    Ok(Table { case: "rules".to_owned(), about, rows, ratio: Some((metric::CPU, vec![name(COUNTS[0])])) })
}

fn name(count: usize) -> String {
    if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") }
}
