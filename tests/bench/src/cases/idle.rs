//! What each proxy holds and uses with nothing to do, after its first few answers.

use std::time::Duration;

use crate::{
    ground::Ground,
    peers::Peer,
    progress,
    report::{Figures, Row, Table, metric},
};

pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Table> {
    let quiet = Duration::from_secs(ground.options.seconds());
    let peers = ground.start_peers("idle", &[Peer::Direct]).await?;
    let mut rows = Vec::new();
    for running in &peers {
        let Some(tree) = &running.tree else { continue };
        progress::line(&format!("idle: {}", running.peer));
        let before = tree.cpu()?;
        // Not a wait for anything: the idleness itself is what is measured.
        tokio::time::sleep(quiet).await;
        let mut figures = Figures::default();
        figures.put(metric::RESIDENT, tree.resident_kib()? as f64 / 1024.0);
        let used = tree.cpu()?.saturating_sub(before);
        figures.put(metric::IDLE_CPU, used.as_secs_f64() * 1000.0 / quiet.as_secs_f64());
        rows.push(Row::of(&running.peer, &[figures]));
    }
    let about = format!("started, a few requests answered, then {} s without any", quiet.as_secs());
    let others = [Peer::Envoy, Peer::Nginx, Peer::Haproxy].map(|peer| peer.to_string());
    Ok(Table { case: "idle".to_owned(), about, rows, ratio: Some((metric::RESIDENT, others.into())) })
}
