//! A client's connection in HTTP/2: many requests at a time, each in a task of its own.

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
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Sleep;
use weir_telemetry::Cause;

use super::Downstream;
use crate::body::{Incoming, Pump, ResponseBody};
use crate::exchange;
use crate::io::Io;
use crate::record::Record;
use crate::watch::{Phase, Verdict};

/// How long a connection without requests may take to end after its client was told.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves requests until the connection ends.
pub(super) async fn serve(downstream: &Rc<Downstream>, stream: TcpStream, seen: Bytes) {
    let io = TokioIo::new(Io::new(stream, seen, Rc::clone(&downstream.watched)));
    let shard = &downstream.worker.shard;
    let connection = match downstream.watched.guard(downstream.worker.http2.handshake(io)).await {
        Ok(Ok(connection)) => connection,
        // The client went away in the middle of its preface.
        Ok(Err(_)) => return,
        Err(Verdict::HeadTimeout) => return shard.on_unrouted(Cause::HeaderTimeout),
        Err(verdict) => return shard.on(verdict.event()),
    };
    downstream.watched.enter(Phase::NoStreams);
    let mut conversation = Conversation { downstream, connection, farewell: None };
    let end = std::future::poll_fn(|context| conversation.poll(context)).await;
    if let Some(verdict) = downstream.watched.verdict() {
        shard.on(verdict.event());
    }
    if let Err(error) = end
        && error.is_library()
    {
        shard.on_unrouted(Cause::Garbage);
    }
}

struct Conversation<'a> {
    downstream: &'a Rc<Downstream>,
    connection: Connection<TokioIo<Io>, Bytes>,
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
            Some(_) => {
                self.connection.abrupt_shutdown(Reason::NO_ERROR);
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
            Some(sleep) if watched.verdict().is_some() => sleep.as_mut().poll(context).map(Ok),
            _ => Poll::Pending,
        }
    }

    fn say_farewell(&mut self) {
        if self.farewell.is_none() {
            self.connection.graceful_shutdown();
            self.farewell = Some(Box::pin(tokio::time::sleep(FAREWELL)));
        }
    }

    fn begin(&self, request: Request<RecvStream>, reply: SendResponse<Bytes>) {
        let record = Record::begin_stream(self.downstream);
        tokio::task::spawn_local(answer(Rc::clone(self.downstream), request, reply, record));
    }
}

/// Answers one request, unless its client loses interest.
async fn answer(
    downstream: Rc<Downstream>,
    request: Request<RecvStream>,
    mut reply: SendResponse<Bytes>,
    record: Record,
) {
    let watched = Rc::clone(record.watched());
    let (head, body) = request.into_parts();
    if head.headers.contains_key(EXPECT) && !body.is_end_stream() {
        let mut go_on = Response::new(());
        *go_on.status_mut() = StatusCode::CONTINUE;
        // An error says that the stream is gone, as does the next thing that is done with it.
        let _ = reply.send_informational(go_on);
    }
    let body = Incoming::http2(body, &head.headers, Some(Rc::clone(&watched)));
    let request = Request::from_parts(head, body);
    let Some(response) = unless_reset(&mut reply, exchange::respond(downstream, request, record)).await else { return };
    let (head, body) = response.into_parts();
    let is_end = body.is_end_stream();
    let Ok(stream) = reply.send_response(Response::from_parts(head, ()), is_end) else { return };
    if !is_end {
        let mut pump = Pump::new(body, stream, Some(watched));
        // However it ends, the response's record has it.
        let _ = std::future::poll_fn(|context| pump.poll(context, Reason::INTERNAL_ERROR)).await;
    }
}

/// Runs a future until it is done. `None` when the client has reset the stream before.
async fn unless_reset(
    reply: &mut SendResponse<Bytes>,
    response: impl Future<Output = Response<ResponseBody>>,
) -> Option<Response<ResponseBody>> {
    let mut response = pin!(response);
    std::future::poll_fn(|context| match response.as_mut().poll(context) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => reply.poll_reset(context).map(|_| None),
    })
    .await
}
