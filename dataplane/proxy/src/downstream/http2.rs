//! A client's connection in HTTP/2: many requests at a time, each in a task of its own.

mod flood;
mod io;

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::EXPECT;
use http::{Request, Response, StatusCode};
use hyper::body::Body;
use tokio::time::Sleep;
use weir_telemetry::Cause;

use self::flood::Resets;
use self::io::Io;
use super::Downstream;
use crate::account::Metered;
use crate::body::{Charge, Incoming, Pump, Unsent};
use crate::detect::PREFACE;
use crate::exchange;
use crate::headers;
use crate::record::Record;
use crate::stream::Stream;
use crate::watch::{Phase, Verdict, Watched};

/// How long a connection without requests may take to end after its client was told.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves requests until the connection ends.
pub(super) async fn serve(downstream: &Rc<Downstream>, stream: Stream, seen: Bytes) {
    let io = Io::new(stream, seen, PREFACE.len(), Rc::clone(&downstream.watched));
    let shard = &downstream.worker.shard;
    let mut connection = match downstream.watched.guard(pin!(downstream.worker.http2.handshake(io))).await {
        Ok(Ok(connection)) => connection,
        // The client went away in the middle of its preface.
        Ok(Err(_)) => return,
        Err(Verdict::HeadTimeout) => return shard.on_unrouted(Cause::HeaderTimeout),
        Err(verdict) => return shard.on(verdict.event()),
    };
    let _window = widen(downstream, &mut connection);
    downstream.watched.enter(Phase::NoStreams);
    let mut conversation = Conversation { downstream, connection, resets: Rc::default(), farewell: None };
    let end = std::future::poll_fn(|context| conversation.poll(context)).await;
    if let Some(verdict) = downstream.watched.verdict() {
        shard.on(verdict.event());
    }
    match end {
        Err(error) if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) => {
            shard.on(Verdict::Flood.event());
        }
        Err(error) if error.is_library() => shard.on_unrouted(Cause::Garbage),
        // The client went away, or ended the connection; its requests were counted with their records.
        _ => {}
    }
}

/// The window that every connection begins with (RFC 9113, section 6.9.2).
const SMALLEST_WINDOW: u32 = 65_535;

/// Makes room for as much as the settings say, if the client's workload may have that. It is held as long as what is
/// returned.
fn widen(downstream: &Downstream, connection: &mut Connection<Io, Bytes>) -> Option<Charge> {
    let wanted = downstream.worker.settings.downstream.http2.connection_window;
    let more = wanted.checked_sub(SMALLEST_WINDOW).filter(|more| *more > 0)?;
    let charge = downstream.account.window(more as usize)?;
    connection.set_target_window_size(wanted);
    Some(charge)
}

struct Conversation<'a> {
    downstream: &'a Rc<Downstream>,
    connection: Connection<Io, Bytes>,
    resets: Rc<RefCell<Resets>>,
    /// Set when the client was told that the connection ends.
    farewell: Option<Pin<Box<Sleep>>>,
}

impl Conversation<'_> {
    /// Reads, writes and begins requests until the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let watched = &self.downstream.watched;
        watched.set_waker(context.waker());
        match watched.verdict() {
            // Told first, so that a request that is on its way comes to an end, or to another connection.
            Some(Verdict::KeepAliveTimeout) => self.say_farewell(),
            Some(verdict) => {
                let is_flood = verdict == Verdict::Flood;
                self.connection.abrupt_shutdown(if is_flood { Reason::ENHANCE_YOUR_CALM } else { Reason::NO_ERROR });
                // Once, for as much of the farewell as fits the socket's buffer.
                let _ = self.connection.poll_closed(context);
                return Poll::Ready(Ok(()));
            }
            None if watched.is_ending() => self.say_farewell(),
            None => {}
        }
        loop {
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, reply)))) => self.begin(request, reply),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        match &mut self.farewell {
            // A request that came before the client had heard of it is answered first.
            Some(sleep) if watched.verdict().is_some() && !watched.has_streams() => {
                sleep.as_mut().poll(context).map(Ok)
            }
            _ => Poll::Pending,
        }
    }

    fn say_farewell(&mut self) {
        if self.farewell.is_none() {
            self.connection.graceful_shutdown();
            self.farewell = Some(Box::pin(tokio::time::sleep(FAREWELL)));
        }
    }

    fn begin(&self, request: Request<RecvStream>, mut reply: SendResponse<Bytes>) {
        if self.resets.borrow_mut().on_begin() {
            self.downstream.watched.condemn(Verdict::Flood);
        }
        let record = Record::begin_stream(self.downstream);
        let (head, body) = request.into_parts();
        if head.headers.contains_key(EXPECT) && !body.is_end_stream() {
            let mut go_on = Response::new(());
            *go_on.status_mut() = StatusCode::CONTINUE;
            // An error says that the stream is gone, as does the next thing that is done with it.
            let _ = reply.send_informational(go_on);
        }
        let watched = Rc::clone(record.watched());
        let body = Incoming::http2(body, &head.headers, Some(Rc::clone(&watched)));
        let second = self.downstream.watched.second();
        let begun = Begun { reply, watched, second, resets: Rc::clone(&self.resets) };
        let answer = begun.answer(Rc::clone(self.downstream), Request::from_parts(head, body), record);
        tokio::task::spawn_local(Metered::new(&self.downstream.account, answer));
    }
}

/// A request that waits for its answer.
struct Begun {
    reply: SendResponse<Bytes>,
    watched: Rc<Watched>,
    /// When it came.
    second: u64,
    resets: Rc<RefCell<Resets>>,
}

impl Begun {
    /// Answers it, unless its client loses interest.
    async fn answer(mut self, downstream: Rc<Downstream>, request: Request<Incoming>, record: Record) {
        // Made here: as an argument it would have room twice, before and while it is polled.
        let response = self.unless_reset(pin!(exchange::respond(downstream, request, record))).await;
        let Some(Ok(response)) = response else { return self.on_reset() };
        let (mut head, body) = response.into_parts();
        headers::keep_out_of_tables(&mut head.headers);
        let is_end = body.is_end_stream();
        let Ok(stream) = self.reply.send_response(Response::from_parts(head, ()), is_end) else {
            return self.on_reset();
        };
        if !is_end {
            let mut pump = Pump::new(body, stream, Some(Rc::clone(&self.watched)));
            // However it ends, the response's record has it.
            if let Err(Unsent::Refused) =
                std::future::poll_fn(|context| pump.poll(context, Reason::INTERNAL_ERROR)).await
            {
                self.on_reset();
            }
        }
    }

    /// Runs a future until it is done. `None` when the client has reset the stream before.
    async fn unless_reset<R>(&mut self, mut response: Pin<&mut impl Future<Output = R>>) -> Option<R> {
        std::future::poll_fn(|context| match response.as_mut().poll(context) {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => self.reply.poll_reset(context).map(|_| None),
        })
        .await
    }

    fn on_reset(&self) {
        if self.watched.second() == self.second {
            self.resets.borrow_mut().on_early_reset();
        }
    }
}
