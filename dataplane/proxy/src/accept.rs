//! Accepting connections, until told to stop.

use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use weir_telemetry::WorkerEvent;

use crate::downstream::{self, Admission};
use crate::drain::Phase;
use crate::listener::{Listener, Origin};
use crate::worker::Worker;

/// How long accepting rests when file descriptors or memory have run out. Connections that end meanwhile free some.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts from one listener. When told to stop it first empties the queue, then closes the socket.
pub(crate) async fn run(worker: Rc<Worker>, listener: Listener, mut drain: watch::Receiver<Phase>) {
    let origin = Rc::new(listener.origin);
    let socket = match TcpListener::from_std(listener.socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "cannot watch a listener"),
    };
    loop {
        let stopped = drain.wait_for(|phase| *phase != Phase::Running);
        let accepted = tokio::select! {
            biased;
            _ = stopped => break,
            accepted = socket.accept() => accepted,
        };
        if let Err(error) = take(&worker, accepted, &origin) {
            rest(&worker, &error).await;
        }
    }
    while let Poll::Ready(accepted) = std::future::poll_fn(|context| Poll::Ready(socket.poll_accept(context))).await {
        if let Err(error) = take(&worker, accepted, &origin)
            && is_exhaustion(&error)
        {
            break;
        }
    }
}

fn take(
    worker: &Rc<Worker>,
    accepted: io::Result<(TcpStream, std::net::SocketAddr)>,
    origin: &Rc<Origin>,
) -> io::Result<()> {
    let (stream, peer) = accepted?;
    if worker.has_room() {
        let admission = Admission::new(worker);
        tokio::task::spawn_local(downstream::serve(admission, stream, peer, Rc::clone(origin)));
    } else {
        worker.shard.on(WorkerEvent::RefusedLimit);
        downstream::reset(&stream);
    }
    Ok(())
}

async fn rest(worker: &Worker, error: &io::Error) {
    if is_exhaustion(error) {
        worker.shard.on(WorkerEvent::AcceptExhausted);
        // Without a pause the listener, still readable, would keep the worker busy with failing.
        tokio::time::sleep(PAUSE).await;
    } else {
        // The client gave up while it waited, or the network says something about it: not this listener's trouble.
        worker.shard.on(WorkerEvent::AcceptFailed);
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    const EXHAUSTED: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code))
}
