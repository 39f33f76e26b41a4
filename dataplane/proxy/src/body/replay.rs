//! The body of a request that may be sent more than once: what was sent is kept, within bounds, for the next try.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Frame, SizeHint};

use super::memory::{Block, Budget, Held};
use super::request::{BodyError, RequestBody, Streamed};

/// A body, for one try after the other.
pub(crate) struct Replay {
    source: RefCell<Box<Streamed>>,
    kept: RefCell<Kept>,
}

/// What was sent.
struct Kept {
    pieces: Vec<Piece>,
    /// How much more may be kept.
    room: usize,
    budget: Arc<Budget>,
    holder: Arc<Held>,
    /// Whether it is all that was sent.
    is_whole: bool,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl From<Piece> for Frame<Bytes> {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Data(data) => Self::data(data),
            Piece::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

impl Kept {
    fn add(&mut self, frame: &Frame<Bytes>) {
        if !self.is_whole {
            return;
        }
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => self.copy(data).map(Piece::Data),
            (None, Some(trailers)) => Some(Piece::Trailers(trailers.clone())),
            (None, None) => return,
        };
        match piece {
            Some(piece) => self.pieces.push(piece),
            None => {
                self.is_whole = false;
                self.pieces.clear();
            }
        }
    }

    /// A copy of a piece: a reference would keep alive the whole buffer that it was read into. `None` when there is no
    /// room for it.
    fn copy(&mut self, data: &[u8]) -> Option<Bytes> {
        let cost = Block::cost(data.len());
        self.room = self.room.checked_sub(cost)?;
        let mut block = Block::new(self.budget.charge(&self.holder, cost)?);
        block.fill(data);
        Some(Bytes::from_owner(block))
    }
}

impl Replay {
    /// A body of which at most so many bytes are kept, for somebody.
    pub(crate) fn new(source: Box<Streamed>, most: usize, budget: &Arc<Budget>, holder: &Arc<Held>) -> Rc<Self> {
        let (budget, holder) = (Arc::clone(budget), Arc::clone(holder));
        let kept = Kept { pieces: Vec::new(), room: most, budget, holder, is_whole: true };
        Rc::new(Self { source: RefCell::new(source), kept: RefCell::new(kept) })
    }

    /// Whether another try can have all of it.
    pub(crate) fn is_whole(&self) -> bool {
        self.kept.borrow().is_whole
    }

    /// Whether all of it has come and was sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.source.borrow().is_end()
    }

    /// The body for one try. That of an earlier one must not be read any more.
    pub(crate) fn body(self: &Rc<Self>) -> RequestBody {
        RequestBody::Replayed(Replayed { replay: Rc::clone(self), sent: 0 })
    }

    /// No further try will want it.
    pub(crate) fn forget(&self) {
        let mut kept = self.kept.borrow_mut();
        kept.is_whole = false;
        // What is being sent holds its own.
        kept.room = 0;
    }
}

/// The body as one try sends it.
pub(crate) struct Replayed {
    replay: Rc<Replay>,
    /// How many pieces of it this try has had.
    sent: usize,
}

impl Replayed {
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut kept = self.replay.kept.borrow_mut();
        if let Some(piece) = kept.pieces.get(self.sent) {
            self.sent += 1;
            return Poll::Ready(Some(Ok(piece.clone().into())));
        }
        let frame = ready!(self.replay.source.borrow_mut().poll(context));
        if let Some(Ok(frame)) = &frame {
            kept.add(frame);
            self.sent = kept.pieces.len();
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end(&self) -> bool {
        self.replay.kept.borrow().pieces.len() <= self.sent && self.replay.source.borrow().is_end()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let kept = self.replay.kept.borrow();
        let left = kept.pieces.iter().skip(self.sent).map(|piece| match piece {
            Piece::Data(data) => data.len() as u64,
            Piece::Trailers(_) => 0,
        });
        match self.replay.source.borrow().size_hint().exact() {
            Some(to_come) => SizeHint::with_exact(left.sum::<u64>() + to_come),
            None => SizeHint::default(),
        }
    }
}
