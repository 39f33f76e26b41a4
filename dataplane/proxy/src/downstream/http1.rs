//! A client's connection in HTTP/1.1: one request after the other.

mod io;

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use hyper::body;
use hyper::service::service_fn;
use weir_telemetry::{Cause, WorkerEvent};

use self::io::Io;
use super::{Downstream, Upgrade, refuse};
use crate::body::Incoming;
use crate::record::Record;
use crate::relay::{self, End};
use crate::stream::Stream;
use crate::watch::{Verdict, Watched};
use crate::{exchange, linger, opaque};

/// How a conversation in HTTP ended.
enum Outcome {
    /// By itself: closed, or upgraded.
    Done(hyper::Result<()>),
    /// The watch ended it.
    Condemned(Verdict),
    /// Not at all: there has been no request for a while.
    Resting,
}

/// Serves requests until the connection ends.
pub(super) async fn serve(downstream: &Rc<Downstream>, stream: Stream, seen: Bytes) {
    let mut client: End<Stream> = End { stream, seen };
    loop {
        // Boxed: one that rests has no room for it.
        let (end, outcome) = Box::pin(converse(downstream, client)).await;
        client = end;
        match outcome {
            // What it holds of buffers is gone; of most connections nothing comes for minutes.
            Outcome::Resting if client.seen.is_empty() => {
                downstream.worker.shard.on(WorkerEvent::Rested);
                if let Some(outcome) = rest(&downstream.watched, &mut client.stream).await {
                    return finish(downstream, client, outcome).await;
                }
            }
            // Something has just come.
            Outcome::Resting => {}
            outcome => return finish(downstream, client, outcome).await,
        }
    }
}

/// Waits for something to come. How the connection ends, if it does meanwhile.
async fn rest(watched: &Watched, stream: &mut Stream) -> Option<Outcome> {
    std::future::poll_fn(|context| {
        watched.set_waker(context.waker());
        match watched.verdict() {
            Some(verdict) => Poll::Ready(Some(Outcome::Condemned(verdict))),
            None if watched.is_ending() => Poll::Ready(Some(Outcome::Done(Ok(())))),
            // An error is told by reading, which comes next.
            None => stream.poll_read_ready(context).map(|_| None),
        }
    })
    .await
}

/// Serves requests until the connection ends or there have been none for a while.
async fn converse(downstream: &Rc<Downstream>, client: End<Stream>) -> (End<Stream>, Outcome) {
    let service = service_fn(|request: http::Request<body::Incoming>| {
        exchange::respond(Rc::clone(downstream), request.map(Incoming::Http1), Record::begin(downstream))
    });
    let io = Io::new(client.stream, client.seen, Rc::clone(&downstream.watched));
    let mut connection = downstream.worker.http1.serve_connection(io, service);
    let outcome = {
        let mut is_told = false;
        std::future::poll_fn(|context| {
            let watched = &downstream.watched;
            watched.set_waker(context.waker());
            match watched.verdict() {
                // The request under way is answered by whoever works on it, if that is still possible.
                None | Some(Verdict::StreamIdle) => {}
                Some(verdict) => return Poll::Ready(Outcome::Condemned(verdict)),
            }
            let mut poll = pin!(&mut connection).poll(context);
            // Told only now: a connection that has not yet looked at the request it was given would drop it.
            if poll.is_pending() && watched.is_ending() && !is_told {
                is_told = true;
                Pin::new(&mut connection).graceful_shutdown();
                poll = pin!(&mut connection).poll(context);
            }
            match (poll.map(Outcome::Done), watched.verdict()) {
                (Poll::Pending, Some(verdict)) => Poll::Ready(Outcome::Condemned(verdict)),
                (Poll::Pending, None) if watched.is_resting() => Poll::Ready(Outcome::Resting),
                (poll, _) => poll,
            }
        })
        .await
    };
    let parts = connection.into_parts();
    let (stream, seen) = parts.io.into_parts();
    let seen = match (parts.read_buf.is_empty(), seen.is_empty()) {
        // Also a buffer in which nothing is left would be kept.
        (true, true) => Bytes::new(),
        (true, false) => seen,
        (false, true) => parts.read_buf,
        (false, false) => [parts.read_buf, seen].concat().into(),
    };
    (End { stream, seen }, outcome)
}

async fn finish(downstream: &Rc<Downstream>, client: End<Stream>, end: Outcome) {
    let shard = &downstream.worker.shard;
    let End { mut stream, seen } = client;
    let upgrade = downstream.upgrade.borrow_mut().take();
    if let (Outcome::Done(Ok(())), Some(upgrade)) = (&end, upgrade) {
        return Box::pin(upgraded(downstream, stream, seen, upgrade)).await;
    }
    // Counted here, because a verdict is often noticed by the body of a response that nobody takes. The other two are
    // counted as causes: of the refusal below, and of the client's request.
    let verdict = downstream.watched.verdict();
    if let Some(verdict @ (Verdict::KeepAliveTimeout | Verdict::StreamIdle | Verdict::Drained | Verdict::Denied)) =
        verdict
    {
        shard.on(verdict.event());
    }
    if downstream.aborted.get() {
        return stream.reset();
    }
    match end {
        Outcome::Done(Err(error)) if error.is_parse() => {
            shard.on_unrouted(unparsed(&error));
            linger::close(stream, b"").await;
        }
        // The client went away; whatever request it had was counted with its record.
        Outcome::Done(_) | Outcome::Resting => {}
        Outcome::Condemned(Verdict::HeadTimeout) => refuse(&downstream.worker, stream, Cause::HeaderTimeout).await,
        // If it waits after all, it must not take this for the end of an answer. Its request was counted as above.
        Outcome::Condemned(Verdict::ClientGone | Verdict::Denied) => stream.reset(),
        Outcome::Condemned(Verdict::KeepAliveTimeout | Verdict::StreamIdle | Verdict::Drained | Verdict::Flood) => {}
    }
}

/// Why the parser refused, which it has answered itself.
fn unparsed(error: &hyper::Error) -> Cause {
    match error.is_parse_too_large() {
        // Nothing but the text tells the two apart: 414 and 431.
        true if error.to_string() == "URI too long" => Cause::TargetTooLong,
        true => Cause::HeadTooLarge,
        false => Cause::Garbage,
    }
}

async fn upgraded(downstream: &Rc<Downstream>, mut stream: Stream, seen: Bytes, upgrade: Upgrade) {
    let Some((connection, _slot)) = upgrade.lease.take() else { return };
    let Some((upstream, up_seen, _open)) = connection.into_upgraded().await else { return stream.reset() };
    downstream.worker.shard.on(WorkerEvent::Upgraded);
    let (down, up) = (End { stream: &mut stream, seen }, End { stream: upstream, seen: up_seen });
    let ended = downstream.watched.guard(pin!(relay::relay(downstream, down, up, None))).await;
    opaque::end(downstream, &mut stream, &ended);
}
