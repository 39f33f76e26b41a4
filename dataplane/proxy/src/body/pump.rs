//! A body on its way out on a stream of HTTP/2: as fast as the other side takes it, one piece at a time.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::Body;

use crate::watch::Watched;

/// Sends a body.
pub(crate) struct Pump<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// What is left of a piece that the other side has no room for yet.
    piece: Bytes,
    /// Told when something leaves.
    watched: Option<Rc<Watched>>,
}

/// Why a body was not sent whole.
#[derive(Debug)]
pub(crate) enum Unsent<E> {
    /// It broke off; the stream was reset.
    Broken(E),
    /// The other side takes no more of it.
    Refused,
}

impl<B: Body<Data = Bytes> + Unpin> Pump<B> {
    /// A pump for a body that has not ended.
    pub(crate) fn new(body: B, stream: SendStream<Bytes>, watched: Option<Rc<Watched>>) -> Self {
        Self { body, stream, piece: Bytes::new(), watched }
    }

    /// Sends what can be sent. Ready when the whole body has been given to the connection, and not to be polled again
    /// after that. A body that breaks off resets the stream for this reason.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, reason: Reason) -> Poll<Result<(), Unsent<B::Error>>> {
        loop {
            if !self.piece.is_empty() {
                if ready!(self.send_piece(context))? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.stream.reserve_capacity(data.len());
                        self.piece = data;
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            return Poll::Ready(self.stream.send_trailers(trailers).map_err(|_| Unsent::Refused));
                        }
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    self.stream.send_reset(reason);
                    return Poll::Ready(Err(Unsent::Broken(error)));
                }
                Poll::Ready(None) => {
                    return Poll::Ready(self.stream.send_data(Bytes::new(), true).map_err(|_| Unsent::Refused));
                }
                // Nothing to send: all there is to hear from the other side is that it wants no more.
                Poll::Pending => return self.stream.poll_reset(context).map(|_| Err(Unsent::Refused)),
            }
        }
    }

    /// Sends as much of the piece as the other side has room for. Ready with whether that was the body's end.
    fn send_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, Unsent<B::Error>>> {
        let room = match self.stream.capacity() {
            0 => match ready!(self.stream.poll_capacity(context)) {
                Some(Ok(room)) => room,
                Some(Err(_)) | None => return Poll::Ready(Err(Unsent::Refused)),
            },
            room => room,
        };
        let data = self.piece.split_to(room.min(self.piece.len()));
        if data.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let is_end = self.piece.is_empty() && self.body.is_end_stream();
        self.watched.iter().for_each(|watched| watched.on_io());
        Poll::Ready(self.stream.send_data(data, is_end).map(|()| is_end).map_err(|_| Unsent::Refused))
    }
}
