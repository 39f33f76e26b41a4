//! The same load through each peer in turn, in a new random order every round.

use std::time::Duration;

use crate::{
    ground::{Ground, PacedLoad},
    h2load,
    options::Case,
    paced,
    peers::{Peer, Versions},
    progress,
    report::{Row, Table, metric},
    wrk::{Lifetime, Load},
};

/// Requests per second of the paced case: a tenth to a quarter of what one core can do.
const PACE: u32 = 5_000;
/// Seconds of unmeasured load before the first round, for connection pools and caches.
const WARM_UP: u64 = 1;

enum Way {
    Closed(Load),
    Http2(h2load::Load, Versions),
    Paced(PacedLoad),
}

impl Way {
    fn versions(&self) -> Versions {
        match self {
            Self::Closed(_) | Self::Paced(_) => Versions::Http1,
            Self::Http2(_, versions) => *versions,
        }
    }
}

pub(super) async fn run(case: Case, ground: &mut Ground) -> anyhow::Result<Table> {
    let name = case.name();
    let seconds = ground.options.seconds();
    let (way, about) = describe(case, seconds);
    let peers = ground.start_peers(&name, way.versions(), &[]).await?;
    let mut rounds: Vec<_> = peers.iter().map(|_| Vec::new()).collect();
    for peer in &peers {
        progress::line(&format!("{name}: warm-up, {}", peer.peer));
        match &way {
            Way::Closed(load) => ground.closed(peer, load, WARM_UP).await?,
            Way::Http2(load, _) => ground.closed_http2(peer, *load, WARM_UP).await?,
            Way::Paced(load) => ground.paced(peer, &PacedLoad { time: Duration::from_secs(WARM_UP), ..*load }).await?,
        };
    }
    for round in 1..=ground.options.rounds() {
        for at in ground.shuffle.order(peers.len()) {
            progress::line(&format!("{name}: round {round}, {}", peers[at].peer));
            rounds[at].push(match &way {
                Way::Closed(load) => ground.closed(&peers[at], load, seconds).await?,
                Way::Http2(load, _) => ground.closed_http2(&peers[at], *load, seconds).await?,
                Way::Paced(load) => ground.paced(&peers[at], load).await?,
            });
        }
    }
    let rows = peers.iter().zip(&rounds).map(|(peer, rounds)| Row::of(&peer.peer, rounds)).collect();
    let others = [Peer::Envoy, Peer::Nginx, Peer::Haproxy].map(|peer| peer.to_string());
    Ok(Table { case: name, about: about.to_owned(), rows, ratio: Some((metric::CPU, others.into())) })
}

fn describe(case: Case, seconds: u64) -> (Way, &'static str) {
    let kept = Load { connections: 32, path: "/", body: 0, lifetime: Lifetime::Kept };
    match case {
        Case::Paced => {
            let load = PacedLoad { kind: paced::Kind::Get, rate: PACE, time: Duration::from_secs(seconds) };
            (Way::Paced(load), "the same requests at 5,000 a second, latency from when each was due")
        }
        Case::NewConnection => (
            Way::Closed(Load { lifetime: Lifetime::PerRequest, ..kept }),
            "the same requests on a connection each, 32 at a time, as fast as answers come",
        ),
        Case::Post64k => (
            Way::Closed(Load { connections: 16, body: 64 * 1024, ..kept }),
            "POSTs of 64 KiB, header route, 16 connections",
        ),
        Case::Get1m => (
            Way::Closed(Load { connections: 16, path: "/1m", ..kept }),
            "answers of 1 MiB, header route, 16 connections",
        ),
        Case::Http2ToHttp1 => (
            Way::Http2(h2load::Load::Get, Versions::Http2ToHttp1),
            "HTTP/2, 8 connections of 32 streams, header route, 104-byte answer from a backend in HTTP/1.1",
        ),
        Case::Http2 => (Way::Http2(h2load::Load::Get, Versions::Http2), "the same from a backend in HTTP/2"),
        Case::Grpc => (
            Way::Http2(h2load::Load::Call, Versions::Http2),
            "unary calls of gRPC, 100 bytes each way, 8 connections of 32 streams, header route",
        ),
        _ => (
            Way::Closed(kept),
            "HTTP/1.1, 32 kept connections, header route to the canary, 104-byte answer, as fast as answers come",
        ),
    }
}
