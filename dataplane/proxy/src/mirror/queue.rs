//! The queue between a request's body and its copy: bounded, and never waited for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Frame, SizeHint};
use weir_telemetry::MirrorEvent;

use crate::body::{Block, BodyError, Budget, Charge, Held};
use crate::settings::MirrorLimits;

/// The largest block. Small enough that what a copy has sent is free again soon, large enough that what a block costs
/// beyond its bytes does not matter.
const BLOCK_BYTES: usize = 16_384;

/// What a line of a trailer costs beyond its bytes.
const LINE_COST: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More may come.
    Open,
    /// All of the body is in the queue.
    Ended,
    /// The copy is given up.
    GivenUp(MirrorEvent),
    /// Nobody reads any more.
    Abandoned,
}

/// What waits.
enum Piece {
    Data(Block),
    Trailers(HeaderMap, Charge),
}

impl Piece {
    fn charged(&self) -> usize {
        match self {
            Self::Data(block) => block.charged(),
            Self::Trailers(_, charge) => charge.bytes(),
        }
    }
}

struct Queue {
    pieces: RefCell<VecDeque<Piece>>,
    /// What the pieces are charged.
    waiting: Cell<usize>,
    taken: Cell<u64>,
    state: Cell<State>,
    /// Who reads, when there is nothing to read.
    waker: RefCell<Option<Waker>>,
    /// Who waits for the copy to be given up.
    watcher: RefCell<Option<Waker>>,
    budget: Arc<Budget>,
    holder: Arc<Held>,
    limit: usize,
}

impl Queue {
    fn set(&self, state: State) {
        if self.state.get() == State::Open {
            self.state.set(state);
            if let State::GivenUp(_) | State::Abandoned = state {
                self.pieces.borrow_mut().clear();
                self.waiting.set(0);
                if let Some(watcher) = self.watcher.borrow_mut().take() {
                    watcher.wake();
                }
            }
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Memory for one more piece, or why there is none. A copy has no more than it leaves to the others, so that a few
    /// that hang cannot keep all others from being made.
    fn charge(&self, bytes: usize) -> Result<Charge, MirrorEvent> {
        let waiting = self.waiting.get() + bytes;
        if waiting > self.limit {
            return Err(MirrorEvent::Overflow);
        }
        let charge = self.budget.charge(&self.holder, bytes).ok_or(MirrorEvent::Budget)?;
        if waiting > self.budget.left() {
            return Err(MirrorEvent::Budget);
        }
        self.waiting.set(waiting);
        Ok(charge)
    }

    fn add(&self, mut data: &[u8]) -> Result<(), MirrorEvent> {
        let mut pieces = self.pieces.borrow_mut();
        if let Some(Piece::Data(last)) = pieces.back_mut() {
            data = last.fill(data);
        }
        while !data.is_empty() {
            // As large as what came, if nothing waits: that is sent before more comes. Otherwise as large as what
            // waits: few blocks even for a body that comes in single bytes, and at most half of them empty.
            let room = data.len().max(self.waiting.get()).min(BLOCK_BYTES);
            let mut block = Block::new(self.charge(Block::cost(room))?);
            data = block.fill(data);
            pieces.push_back(Piece::Data(block));
        }
        Ok(())
    }

    fn add_trailers(&self, trailers: &HeaderMap) -> Result<(), MirrorEvent> {
        let lines = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE_COST);
        let charge = self.charge(lines.sum())?;
        self.pieces.borrow_mut().push_back(Piece::Trailers(trailers.clone(), charge));
        Ok(())
    }

    fn take(&self) -> Option<Frame<Bytes>> {
        let piece = self.pieces.borrow_mut().pop_front()?;
        self.waiting.set(self.waiting.get() - piece.charged());
        Some(match piece {
            Piece::Data(block) => {
                self.taken.set(self.taken.get() + block.as_ref().len() as u64);
                Frame::data(Bytes::from_owner(block))
            }
            Piece::Trailers(trailers, _) => Frame::trailers(trailers),
        })
    }
}

/// A queue for the body of somebody's request with this size hint.
pub(super) fn queue(
    limits: &MirrorLimits,
    budget: &Arc<Budget>,
    holder: &Arc<Held>,
    size: SizeHint,
) -> (Tee, CopyBody) {
    let queue = Rc::new(Queue {
        pieces: RefCell::default(),
        waiting: Cell::new(0),
        taken: Cell::new(0),
        state: Cell::new(State::Open),
        waker: RefCell::default(),
        watcher: RefCell::default(),
        budget: Arc::clone(budget),
        holder: Arc::clone(holder),
        limit: limits.copy_bytes,
    });
    (Tee(Rc::clone(&queue)), CopyBody { queue, size })
}

/// Where pieces of a request's body are put. Dropped before [`Tee::finish`], it gives the copy up.
pub(crate) struct Tee(Rc<Queue>);

impl Tee {
    /// Adds a piece; gives the copy up when there is no room for it.
    pub(crate) fn push(&self, frame: &Frame<Bytes>) {
        let queue = &self.0;
        if queue.state.get() != State::Open {
            return;
        }
        let added = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => queue.add(data),
            (_, Some(trailers)) => queue.add_trailers(trailers),
            _ => Ok(()),
        };
        match added {
            Ok(()) => queue.wake(),
            Err(event) => queue.set(State::GivenUp(event)),
        }
    }

    /// The body is complete.
    pub(crate) fn finish(self) {
        self.0.set(State::Ended);
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.0.set(State::GivenUp(MirrorEvent::Aborted));
    }
}

/// The body of a copy.
pub(crate) struct CopyBody {
    queue: Rc<Queue>,
    size: SizeHint,
}

impl CopyBody {
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let queue = &self.queue;
        if let Some(frame) = queue.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match queue.state.get() {
            State::Ended => Poll::Ready(None),
            State::GivenUp(event) => Poll::Ready(Some(Err(BodyError::Copy(event)))),
            State::Abandoned => Poll::Ready(Some(Err(BodyError::Copy(MirrorEvent::Aborted)))),
            State::Open => {
                *queue.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.queue.state.get() == State::Ended && self.queue.pieces.borrow().is_empty()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.size
    }

    /// What tells afterwards how the body ended.
    pub(super) fn ending(&self) -> Ending {
        Ending(Rc::clone(&self.queue))
    }
}

impl Drop for CopyBody {
    fn drop(&mut self) {
        self.queue.set(State::Abandoned);
    }
}

/// How the body of a copy ended, after the copy has taken it.
pub(super) struct Ending(Rc<Queue>);

impl Ending {
    /// Waits until the copy is given up, which may be never. A connection that cannot write does not ask for more of
    /// the body, and would learn it only when the endpoint reads again.
    pub(super) async fn giving_up(&self) -> MirrorEvent {
        std::future::poll_fn(|context| match self.given_up() {
            Some(event) => Poll::Ready(event),
            None => {
                *self.0.watcher.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Why the copy was given up, if it was.
    pub(super) fn given_up(&self) -> Option<MirrorEvent> {
        match self.0.state.get() {
            State::GivenUp(event) => Some(event),
            _ => None,
        }
    }

    /// Bytes that the copy took.
    pub(super) fn taken(&self) -> u64 {
        self.0.taken.get()
    }
}

#[cfg(test)]
mod tests;
