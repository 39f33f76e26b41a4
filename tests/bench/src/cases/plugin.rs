//! What does a plugin cost? The same module in Weir and in Envoy, each beside the same proxy without one: reading ten
//! headers and writing one, reading a body of 16 KiB, and doing nothing.

use super::in_turns;
use crate::{
    ground::Ground,
    peers::{Peer, Plugin, Setup},
    report::{Table, metric},
    wrk::{Lifetime, Load},
};

/// What a plugin does, and the load that it does it for.
const WORKS: [(&str, &str, Load); 3] = [
    ("nothing", "GET", Load { connections: 32, path: "/", body: 0, lifetime: Lifetime::Kept }),
    ("headers", "GET", Load { connections: 32, path: "/", body: 0, lifetime: Lifetime::Kept }),
    ("body", "POST 16 KiB", Load { connections: 32, path: "/", body: 16 << 10, lifetime: Lifetime::Kept }),
];

/// Those that run plugins.
const PEERS: [Peer; 2] = [Peer::Weir, Peer::Envoy];

pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Vec<Table>> {
    let peers: Vec<Peer> = PEERS.into_iter().filter(|peer| ground.options.peers.contains(peer)).collect();
    let mut tables = Vec::new();
    for (work, what, load) in WORKS {
        let mut nodes = Vec::new();
        for peer in &peers {
            for plugin in [None, Some(Plugin { name: "bench", configuration: work })] {
                let name = if plugin.is_some() { format!("{peer} + plugin") } else { peer.to_string() };
                let directory = ground.directory(&format!("plugin-{work}-{}", name.replace(' ', "")))?;
                let node = peer.start(&Setup { plugin, ..ground.setup(&directory)? }).await?;
                nodes.push((name, node));
            }
        }
        let case = format!("plugin ({work})");
        let rows = in_turns(ground, &case, &nodes, &load).await?;
        let about = format!("{what}, header route, with and without a plugin that does this: {work}");
        let ratio = Some((metric::CPU, vec![format!("{} + plugin", Peer::Envoy)]));
        tables.push(Table { case, about, rows, ratio });
    }
    Ok(tables)
}
