//! TLS with a client of a gateway, before anything else is said.

use std::io;
use std::pin::pin;
use std::rc::Rc;

use weir_core::gateway::Bind;
use weir_identity::{Application, Hello};
use weir_telemetry::{Cause, WorkerEvent};

use super::refuse;
use crate::plan::Tls;
use crate::stream::Stream;
use crate::watch::{Verdict, Watched};
use crate::worker::Worker;

/// The first byte of a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// A connection after the handshake.
pub(super) struct Secured {
    pub(super) stream: Stream,
    pub(super) tls: Tls,
    /// What both sides have agreed to speak, if they have.
    pub(super) application: Option<Application>,
}

/// Does the handshake with the certificates of the listener that the client's name leads to. `None` when there is no
/// connection any more.
pub(super) async fn secure(worker: &Worker, watched: &Rc<Watched>, stream: Stream, bind: Bind) -> Option<Secured> {
    let failed = || worker.shard.on(WorkerEvent::TlsFailed);
    match watched.guard(pin!(shake_hands(worker, stream, bind))).await {
        Ok(Ok(Shaken::Secured(secured))) => {
            worker.shard.on(WorkerEvent::TlsAccepted);
            return Some(secured);
        }
        Ok(Ok(Shaken::Silence)) => {}
        Ok(Ok(Shaken::Clear(stream))) => {
            failed();
            refuse(worker, stream, Cause::TlsRequired).await;
        }
        Ok(Err(_)) | Err(Verdict::HeadTimeout) => failed(),
        Err(verdict) => worker.shard.on(verdict.event()),
    }
    None
}

enum Shaken {
    Secured(Secured),
    /// The client went away without a word, as those do that only look whether somebody listens.
    Silence,
    /// The client does not speak TLS.
    Clear(Stream),
}

async fn shake_hands(worker: &Worker, stream: Stream, bind: Bind) -> io::Result<Shaken> {
    let Stream::Plain(stream) = stream else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => return Ok(Shaken::Silence),
        _ if first[0] != HANDSHAKE => return Ok(Shaken::Clear(Stream::Plain(stream))),
        _ => {}
    }
    let hello = Hello::read(stream).await?;
    let server_name = hello.server_name().unwrap_or_default();
    let acceptor = {
        let snapshot = worker.snapshot();
        let listener = snapshot.gateway_port(&bind).and_then(|port| port.listeners.find(&server_name));
        worker.acceptors.find(listener.map_or(&[], |listener| &listener.certificates))
    };
    // The port has just become one for TLS: the client comes again.
    let acceptor = acceptor.ok_or(io::ErrorKind::NotConnected)?;
    let stream = hello.answer(&acceptor).await?;
    let application = stream.application();
    let tls = Tls { server_name, version: stream.version() };
    Ok(Shaken::Secured(Secured { stream: Stream::Tls(Box::new(stream)), tls, application }))
}
