//! Whether the other end of a tunnel is still there: asked by pings, because nothing else would tell of an end that lost its
//! power. The times are those of ztunnel.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_secs(10);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks one end of a tunnel.
pub(super) struct Pinger {
    ping_pong: PingPong,
    timer: Pin<Box<Sleep>>,
    is_asked: bool,
}

/// There was no answer.
#[derive(Debug)]
pub(super) struct Silent;

impl Pinger {
    pub(super) fn new(ping_pong: PingPong) -> Self {
        Self { ping_pong, timer: Box::pin(tokio::time::sleep(PAUSE)), is_asked: false }
    }

    /// Ready when there was no answer in time.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Silent> {
        loop {
            if self.is_asked {
                match self.ping_pong.poll_pong(context) {
                    Poll::Ready(Ok(_)) => {
                        self.is_asked = false;
                        self.timer.as_mut().reset(Instant::now() + PAUSE);
                    }
                    // The connection has ended, which it says itself.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => return self.timer.as_mut().poll(context).map(|()| Silent),
                }
            }
            match self.timer.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => {
                    if self.ping_pong.send_ping(Ping::opaque()).is_err() {
                        return Poll::Pending;
                    }
                    self.is_asked = true;
                    self.timer.as_mut().reset(Instant::now() + PATIENCE);
                }
            }
        }
    }
}

/// Runs one end of a tunnel until it ends, or the other does not answer any more.
pub(super) async fn with<F: Future>(connection: F, mut pinger: Pinger) -> Result<F::Output, Silent> {
    let mut connection = pin!(connection);
    std::future::poll_fn(|context| match connection.as_mut().poll(context) {
        Poll::Ready(end) => Poll::Ready(Ok(end)),
        Poll::Pending => pinger.poll(context).map(Err),
    })
    .await
}
