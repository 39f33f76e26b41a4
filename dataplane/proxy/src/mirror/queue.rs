//! The queue between a request's body and its copy: bounded, and never waited for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use weir_telemetry::MirrorEvent;

use crate::body::BodyError;
use crate::settings::MirrorLimits;

/// Pieces up to this size are copied: a reference would keep the whole buffer alive that they were read into.
const COPIED_BYTES: usize = 4_096;

/// What a queue adds to the bytes of a piece, so that many empty pieces count too.
const FRAME_BYTES: usize = 64;

/// The memory of all copies of a worker.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) left: Cell<usize>,
}

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

struct Queue {
    frames: RefCell<VecDeque<(Frame<Bytes>, usize)>>,
    bytes: Cell<usize>,
    taken: Cell<u64>,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
    budget: Rc<Budget>,
    max_bytes: usize,
    max_frames: usize,
}

impl Queue {
    fn clear(&self) {
        self.frames.borrow_mut().clear();
        self.budget.left.set(self.budget.left.get() + self.bytes.replace(0));
    }

    fn set(&self, state: State) {
        if self.state.get() == State::Open {
            self.state.set(state);
            if let State::GivenUp(_) | State::Abandoned = state {
                self.clear();
            }
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A queue for the body of a request with this size hint.
pub(super) fn queue(limits: &MirrorLimits, budget: &Rc<Budget>, size: SizeHint) -> (Tee, CopyBody) {
    let queue = Rc::new(Queue {
        frames: RefCell::default(),
        bytes: Cell::new(0),
        taken: Cell::new(0),
        state: Cell::new(State::Open),
        waker: RefCell::default(),
        budget: Rc::clone(budget),
        max_bytes: limits.copy_bytes,
        max_frames: limits.copy_frames,
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
        let copy = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) if data.len() <= COPIED_BYTES => Frame::data(Bytes::copy_from_slice(data)),
            (Some(data), _) => Frame::data(data.clone()),
            (_, Some(trailers)) => Frame::trailers(trailers.clone()),
            _ => return,
        };
        let cost = copy.data_ref().map_or(0, Bytes::len) + FRAME_BYTES;
        if queue.bytes.get() + cost > queue.max_bytes || queue.frames.borrow().len() >= queue.max_frames {
            return queue.set(State::GivenUp(MirrorEvent::Overflow));
        }
        let Some(left) = queue.budget.left.get().checked_sub(cost) else {
            return queue.set(State::GivenUp(MirrorEvent::Budget));
        };
        queue.budget.left.set(left);
        queue.bytes.set(queue.bytes.get() + cost);
        queue.frames.borrow_mut().push_back((copy, cost));
        queue.wake();
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
        if let Some((frame, cost)) = queue.frames.borrow_mut().pop_front() {
            queue.bytes.set(queue.bytes.get() - cost);
            queue.budget.left.set(queue.budget.left.get() + cost);
            queue.taken.set(queue.taken.get() + frame.data_ref().map_or(0, |data| data.len() as u64));
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
        self.queue.state.get() == State::Ended && self.queue.frames.borrow().is_empty()
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
mod tests {
    use super::*;

    fn data(count: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![7; count]))
    }

    fn next(body: &mut CopyBody) -> Result<Option<usize>, Option<MirrorEvent>> {
        match body.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => Ok(Some(frame.into_data().map_or(0, |data| data.len()))),
            Poll::Ready(None) => Ok(None),
            Poll::Ready(Some(Err(BodyError::Copy(event)))) => Err(Some(event)),
            _ => Err(None),
        }
    }

    #[test]
    fn pieces_pass_in_order_and_free_their_memory() {
        let budget = Rc::new(Budget { left: Cell::new(1_000_000) });
        let (tee, mut body) = queue(&MirrorLimits::default(), &budget, SizeHint::new());
        assert_eq!(next(&mut body), Err(None));
        tee.push(&data(3));
        tee.push(&data(10_000));
        assert_eq!(budget.left.get(), 1_000_000 - 10_003 - 2 * FRAME_BYTES);
        tee.finish();
        assert_eq!((next(&mut body), next(&mut body), next(&mut body)), (Ok(Some(3)), Ok(Some(10_000)), Ok(None)));
        assert!(body.is_end());
        assert_eq!((budget.left.get(), body.ending().taken()), (1_000_000, 10_003));
    }

    #[test]
    fn what_does_not_fit_gives_the_copy_up_and_frees_its_memory() {
        let limits = MirrorLimits { copy_bytes: 1_000, copy_frames: 3, ..MirrorLimits::default() };
        let cases: [(&[usize], usize, MirrorEvent); 3] = [
            (&[900, 900], 1_000_000, MirrorEvent::Overflow),
            (&[1, 1, 1, 1], 1_000_000, MirrorEvent::Overflow),
            (&[500], 400, MirrorEvent::Budget),
        ];
        for (pieces, total, expected) in cases {
            let budget = Rc::new(Budget { left: Cell::new(total) });
            let (tee, mut body) = queue(&limits, &budget, SizeHint::new());
            pieces.iter().for_each(|count| tee.push(&data(*count)));
            assert_eq!(next(&mut body), Err(Some(expected)), "{pieces:?}");
            tee.finish();
            assert_eq!((budget.left.get(), body.ending().given_up()), (total, Some(expected)));
        }
    }

    #[test]
    fn either_side_may_go_first() {
        let budget = Rc::new(Budget { left: Cell::new(1_000) });
        let (tee, mut body) = queue(&MirrorLimits::default(), &budget, SizeHint::new());
        tee.push(&data(100));
        drop(tee);
        assert_eq!(next(&mut body), Err(Some(MirrorEvent::Aborted)));
        let (tee, body) = queue(&MirrorLimits::default(), &budget, SizeHint::new());
        tee.push(&data(100));
        drop(body);
        tee.push(&data(100));
        assert_eq!(budget.left.get(), 1_000);
    }
}
