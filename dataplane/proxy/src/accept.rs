//! Accepting connections, until told to stop.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use weir_core::name::PeerAddr;
use weir_telemetry::WorkerEvent;

use crate::account::Metered;
use crate::downstream::{self, Admission};
use crate::drain::Phase;
use crate::listener::Origin;
use crate::stream;
use crate::worker::Worker;

/// How long accepting rests when file descriptors or memory have run out. Connections that end meanwhile free some.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a listener that was told to stop goes on after the last connection that came: a client that began to
/// connect while new connections still came here has its handshake to finish, and closing would reset it. Longer than
/// a round trip; a handshake that lost a packet is begun anew by its client.
const STRAGGLERS: Duration = Duration::from_millis(200);
/// How long a listener goes on at most, where new connections do not stop coming.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Accepts from one listener. When told to stop it goes on until nothing comes any more, then closes the socket.
pub(crate) async fn run(
    worker: Rc<Worker>,
    socket: std::net::TcpListener,
    origin: Rc<Origin>,
    mut drain: watch::Receiver<Phase>,
) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "cannot watch a listener"),
    };
    let mut failures = 0_u32;
    loop {
        let stopped = drain.wait_for(|phase| *phase != Phase::Running);
        let accepted = tokio::select! {
            biased;
            _ = stopped => break,
            accepted = socket.accept() => accepted,
        };
        match take(&worker, accepted, &origin) {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                rest(&worker, &error, failures).await;
            }
        }
    }
    let last_call = Instant::now() + LAST_CALL;
    loop {
        // Looked at by itself: a listener that only fails is always ready, and would never be too late.
        if Instant::now() >= last_call {
            return;
        }
        let within = last_call.min(Instant::now() + STRAGGLERS);
        let Ok(accepted) = tokio::time::timeout_at(within, socket.accept()).await else { return };
        match take(&worker, accepted, &origin) {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                rest(&worker, &error, failures).await;
            }
        }
    }
}

fn take(
    worker: &Rc<Worker>,
    accepted: io::Result<(TcpStream, std::net::SocketAddr)>,
    origin: &Rc<Origin>,
) -> io::Result<()> {
    let (stream, peer) = accepted?;
    match worker.accounts.connect(&worker.snapshot(), PeerAddr(peer)) {
        Ok(connected) => {
            let account = Rc::clone(connected.account());
            let admission = Admission::new(worker, connected, origin);
            let task = downstream::serve(admission, stream, peer, Rc::clone(origin));
            tokio::task::spawn_local(Metered::new(&account, task));
        }
        Err(refusal) => {
            worker.shard.on(refusal);
            stream::reset(&stream);
        }
    }
    Ok(())
}

/// Counts a failure, of which so many came in a row, and waits where the next would only be the same.
async fn rest(worker: &Worker, error: &io::Error, failures: u32) {
    let is_exhausted = is_exhaustion(error);
    worker.shard.on(if is_exhausted { WorkerEvent::AcceptExhausted } else { WorkerEvent::AcceptFailed });
    // One client may have given up while it waited, or the network says something about it: not this listener's
    // trouble. Otherwise the listener, still readable, would keep the worker busy with failing.
    if is_exhausted || failures > 1 {
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    const EXHAUSTED: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code))
}
