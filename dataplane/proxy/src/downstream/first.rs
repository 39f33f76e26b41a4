//! The first words on a connection: who says them, and what they are.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use weir_core::snapshot;

use super::Downstream;
use crate::detect::{self, Protocol};
use crate::opaque::{self, Opened};
use crate::stream::Stream;
use crate::watch::Phase;

/// What the first words are.
pub(super) struct First {
    pub(super) protocol: Protocol,
    /// What was read from the client.
    pub(super) seen: Bytes,
    /// Set where an endpoint was asked as well.
    pub(super) opened: Option<Opened>,
}

impl From<Protocol> for First {
    fn from(protocol: Protocol) -> Self {
        Self { protocol, seen: Bytes::new(), opened: None }
    }
}

/// What is spoken, judged by the first words if they have to tell. `None` when the client closed without one.
pub(super) async fn words(downstream: &Downstream, stream: &mut Stream, protocol: snapshot::Protocol) -> Option<First> {
    let mut seen = Vec::new();
    let protocol = match protocol {
        snapshot::Protocol::Opaque | snapshot::Protocol::Udp => return Some(Protocol::Other.into()),
        snapshot::Protocol::Http | snapshot::Protocol::Http2 => of_client(stream, &mut seen, None).await?,
        snapshot::Protocol::Detect => {
            let limit = downstream.worker.settings.downstream.detect_timeout;
            match tokio::time::timeout(limit, of_client(stream, &mut seen, Some(PAUSE))).await {
                Ok(first) => first?,
                // Boxed: most clients have said something by then.
                Err(_) => return Box::pin(of_either(downstream, stream, seen)).await,
            }
        }
    };
    Some(First { seen: seen.into(), ..protocol.into() })
}

/// The first words of the client, or of an endpoint: a client that says nothing may wait for its server to speak first,
/// which is not HTTP, or may only have connected before it has something to ask for.
async fn of_either(downstream: &Downstream, stream: &mut Stream, mut seen: Vec<u8>) -> Option<First> {
    // As long as neither says anything, that is what the connection may be.
    downstream.watched.enter(Phase::Opaque);
    let mut opened = None;
    let protocol = {
        let client = pin!(of_client(stream, &mut seen, Some(PAUSE)));
        let server = pin!(of_server(downstream, &mut opened));
        tokio::select! {
            biased;
            first = client => first?,
            () = server => Protocol::Other,
        }
    };
    if protocol != Protocol::Other {
        // Its requests go where the rules say, by connections of their own.
        opened = None;
        downstream.watched.enter(Phase::Head);
    }
    Some(First { protocol, seen: seen.into(), opened })
}

/// How much is read before the rest is left to the parser.
const FIRST_BYTES: usize = 4_096;

/// How long a client may stop in the middle of what may become the first line of a request. If it is no request, it
/// waits for an answer to that.
const PAUSE: Duration = Duration::from_millis(500);

/// What the client speaks; something else than HTTP if it stops for this long before that can be told. `None` when it
/// closed without a word.
async fn of_client(stream: &mut Stream, seen: &mut Vec<u8>, pause: Option<Duration>) -> Option<Protocol> {
    loop {
        match pause.filter(|_| !seen.is_empty()) {
            None => stream.readable().await.ok()?,
            Some(pause) => match tokio::time::timeout(pause, stream.readable()).await {
                Ok(is_readable) => is_readable.ok()?,
                Err(_) => return Some(Protocol::Other),
            },
        }
        // Only now: a client that says nothing takes no room for it.
        seen.reserve_exact(FIRST_BYTES.saturating_sub(seen.len()));
        match stream.try_read_buf(seen).await {
            Ok(0) if seen.is_empty() => return None,
            Ok(0) => return Some(Protocol::Other),
            Ok(_) => {
                if let Some(protocol) = detect::judge(seen) {
                    return Some(protocol);
                }
            }
            // The runtime was wrong: nothing has come yet.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && seen.is_empty() => *seen = Vec::new(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

/// How long a client may be silent whose service has no endpoint that can be reached. One that waits for its server shall
/// hear of it; one with a request shall have its answer, which rules may have from elsewhere.
const UNREACHABLE: Duration = Duration::from_millis(500);

/// Connects to an endpoint and waits until it says something, or ends the connection, or cannot be reached. The
/// connection is the caller's, also when this is not waited for any longer.
async fn of_server(downstream: &Downstream, into: &mut Option<Opened>) {
    *into = opaque::open(downstream).await;
    let Some(Opened { stream, .. }) = into else { return tokio::time::sleep(UNREACHABLE).await };
    let mut beginning = [0; 4];
    // An error is told to the client when the connection is passed on.
    let count = stream.peek(&mut beginning).await.unwrap_or(0);
    if detect::is_settings(&beginning[..count]) {
        // The client will say the same.
        *into = None;
        std::future::pending().await
    }
}
