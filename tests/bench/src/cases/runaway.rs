//! What do others notice of requests with which a plugin never ends? A paced load that the plugin sees, alone, and beside clients that ask for
//! an endless loop again and again, each as soon as the last one was refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::{
    client,
    ground::{Ground, PacedLoad},
    paced::Kind,
    peers::{Peer, Plugin, Setup},
    progress,
    report::{Figures, Row, Table, metric},
    wire::Wire,
};

/// Requests of the others, a second.
const PACE: u32 = 2_000;
/// How many clients run away; three would have the plugin switched off for everybody.
const RUNAWAYS: [u8; 3] = [0, 1, 2];
const PLUGIN: Plugin<'_> = Plugin { name: "probe", configuration: "request-headers loop-at x-loop" };
/// Refusals that took less were not by the plugin's end: the client has to wait, and is told so at once.
const RAN: Duration = Duration::from_millis(1);
/// Pause after one of those, as clients do who are refused.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn run(ground: &mut Ground) -> anyhow::Result<Table> {
    let time = Duration::from_secs(ground.options.seconds());
    let mut rounds: Vec<_> = RUNAWAYS.iter().map(|_| Vec::new()).collect();
    for round in 0..=ground.options.rounds() {
        for at in ground.shuffle.order(RUNAWAYS.len()) {
            progress::line(&format!("runaway: round {round}, {} of them", RUNAWAYS[at]));
            let directory = ground.directory(&format!("runaway-{round}-{at}"))?;
            // A node of its own each time, which remembers nobody.
            let node = Peer::Weir.start(&Setup { plugin: Some(PLUGIN), ..ground.setup(&directory)? }).await?;
            let mut clients = JoinSet::new();
            for number in 0..RUNAWAYS[at] {
                clients.spawn(run_away(node.address, Ipv4Addr::new(127, 0, 1, number + 1).into(), time));
            }
            let mut figures = ground.paced(&node, &PacedLoad { kind: Kind::Get, rate: PACE, time }).await?;
            let stopped: Vec<Duration> =
                clients.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
            put_stopped(&mut figures, stopped, RUNAWAYS[at] > 0)?;
            // Round 0 warms up.
            if round > 0 {
                rounds[at].push(figures);
            }
        }
    }
    let names = RUNAWAYS.map(|count| format!("{count} run away"));
    let rows = names.iter().zip(&rounds).map(|(name, rounds)| Row::of(name, rounds)).collect();
    let about = format!(
        "Weir alone, {PACE} requests a second, and clients with whose requests the plugin never ends (limits.callback is 3 ms)"
    );
    Ok(Table { case: "runaway".to_owned(), about, rows, ratio: Some((metric::P99, vec![names[0].clone()])) })
}

fn put_stopped(figures: &mut Figures, mut stopped: Vec<Duration>, is_expected: bool) -> anyhow::Result<()> {
    stopped.sort_unstable();
    let (middle, last) = (stopped.get(stopped.len() / 2), stopped.last());
    if let (Some(middle), Some(last)) = (middle, last) {
        figures.put(metric::STOPPED, middle.as_secs_f64() * 1000.0);
        figures.put(metric::STOPPED_LAST, last.as_secs_f64() * 1000.0);
        figures.put(metric::STOPS, stopped.len() as f64);
    }
    ensure!(stopped.is_empty() != is_expected, "{} requests ran away", stopped.len());
    Ok(())
}

/// Asks for the loop for so long; how long each took that was let run.
async fn run_away(address: SocketAddr, from: IpAddr, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into()).with_context(|| format!("bind to {from}"))?;
    let mut wire = Wire::new(socket.connect(address).await.context("connect to the node")?)?;
    let (begin, mut stopped) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        let asked = Instant::now();
        let head = client::exchange(&mut wire, "GET / HTTP/1.1\r\nhost: web\r\nx-loop: 1\r\n\r\n").await;
        let head = head.context("a runaway request was not answered")?;
        ensure!(head.status == 503, "a runaway request was answered with status {}", head.status);
        let took = asked.elapsed();
        if took >= RAN { stopped.push(took) } else { tokio::time::sleep(PAUSE).await }
    }
    Ok(stopped)
}
