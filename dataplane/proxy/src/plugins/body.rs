//! A body on its way through plugins: each piece goes through all of them in their order, and each of them may change it
//! or hold it back.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use hyper::body::{Body as _, Frame, SizeHint};
use weir_plugin_host::Direction;
use weir_telemetry::Cause;

use super::chain::{Chain, Stopped};
use crate::body::Incoming;

/// The way of a body through plugins.
pub(crate) struct Passage {
    chain: Rc<Chain>,
    direction: Direction,
    /// How many of them see it: of a request, those that have let its head pass, and one that wants the body first.
    open: usize,
    /// What waits for the next of them to see the head, and whether that is the end.
    stalled: (Bytes, bool),
    /// What has passed all of them and was not taken yet.
    passed: VecDeque<Frame<Bytes>>,
    /// How many of them have seen the end of the data.
    ended: usize,
    /// Whether more can come from inside.
    is_read: bool,
    trailers: Option<HeaderMap>,
    /// How many of them have let the trailers pass.
    passed_trailers: usize,
    /// Bytes that have passed all of them, and how many the head says there are.
    passed_bytes: u64,
    length: Option<u64>,
    /// How many of them were taken.
    taken_bytes: u64,
    is_over: bool,
}

/// Why a body goes no further.
pub(crate) enum Interrupted<E> {
    /// It came no further.
    Source(E),
    /// A plugin wants it so, or has failed.
    Stopped(Cause),
}

impl Passage {
    /// The way through the plugins of a chain, where any of them looks at bodies. None of them sees anything yet.
    pub(crate) fn new(chain: &Rc<Chain>, direction: Direction) -> Option<Box<Self>> {
        let passage = || Self {
            chain: Rc::clone(chain),
            direction,
            open: 0,
            stalled: (Bytes::new(), false),
            passed: VecDeque::new(),
            ended: 0,
            is_read: false,
            trailers: None,
            passed_trailers: 0,
            passed_bytes: 0,
            length: None,
            taken_bytes: 0,
            is_over: false,
        };
        chain.wants_body(direction).then(|| Box::new(passage()))
    }

    /// One more of them sees it.
    pub(crate) fn open(&mut self) -> Result<(), Stopped> {
        self.open += 1;
        let (data, is_end) = std::mem::take(&mut self.stalled);
        self.feed(self.open - 1, data, is_end)
    }

    /// There are more of them than before: what has passed all of those waits for the new ones.
    pub(crate) fn on_longer(&mut self) {
        let mut data = Vec::new();
        for frame in self.passed.drain(..) {
            match frame.into_data() {
                Ok(piece) => data.push(piece),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        let is_end = self.is_read && self.ended == self.open;
        self.stalled = (data.concat().into(), is_end);
        (self.passed_bytes, self.is_over) = (0, false);
    }

    /// All of them see it, and the head goes on with these headers.
    pub(crate) fn begin(&mut self, headers: &HeaderMap) -> Result<(), Stopped> {
        while self.open < self.chain.len() {
            self.open()?;
        }
        self.length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        self.check_length()
    }

    /// Shows the body to the plugin that was opened last, until that lets the head go on.
    pub(crate) async fn fill(&mut self, incoming: &mut Incoming) -> Result<(), Stopped> {
        let place = self.open - 1;
        std::future::poll_fn(|context| {
            loop {
                if let Poll::Ready(resumed) = self.chain.poll_resumed(self.direction, place, context) {
                    return Poll::Ready(resumed);
                }
                if self.is_read {
                    return Poll::Pending;
                }
                let fed = match ready!(Pin::new(&mut *incoming).poll_frame(context)) {
                    Some(Ok(frame)) => self.on_frame(frame, incoming.is_end_stream()),
                    Some(Err(_)) => Err(Cause::RequestAborted.into()),
                    None => self.on_read(),
                };
                if let Err(stopped) = fed {
                    return Poll::Ready(Err(stopped));
                }
            }
        })
        .await
    }

    /// As much as the head says: what plugins let pass is no more and no less.
    pub(crate) fn size_hint(&self) -> SizeHint {
        let left = self.length.map(|length| length.saturating_sub(self.taken_bytes));
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// It is over only when the plugins have seen the end.
    pub(crate) fn is_end(&self) -> bool {
        self.is_over && self.passed.is_empty()
    }

    /// The next piece that all plugins let pass, of what comes from `next`, which also says whether that was the last:
    /// whoever takes as many bytes as the head says does not ask again, and the plugins are to see the end before.
    pub(crate) fn poll<E>(
        &mut self,
        context: &mut Context<'_>,
        mut next: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<(Frame<Bytes>, bool), E>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, Interrupted<E>>>> {
        loop {
            if let Some(frame) = self.passed.pop_front() {
                self.taken_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            let moved = match self.advance(context) {
                // Whoever holds something back wakes this when it lets go.
                Ok(false) if self.is_read => return Poll::Pending,
                Ok(false) => match next(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Err(error))) => {
                        self.is_over = true;
                        return Poll::Ready(Some(Err(Interrupted::Source(error))));
                    }
                    Poll::Ready(Some(Ok((frame, is_last)))) => self.on_frame(frame, is_last),
                    Poll::Ready(None) => self.on_read(),
                },
                moved => moved.map(drop),
            };
            if let Err(stopped) = moved {
                return Poll::Ready(Some(Err(Interrupted::Stopped(self.stop(stopped)))));
            }
        }
    }

    /// Lets a whole body pass, all at once.
    pub(crate) async fn pass(&mut self, body: Bytes) -> Result<Bytes, Stopped> {
        self.is_read = true;
        self.feed(0, body, true)?;
        let mut passed = Vec::new();
        let nothing = |_: &mut Context<'_>| Poll::Ready(None::<Result<_, Infallible>>);
        while let Some(frame) = std::future::poll_fn(|context| self.poll(context, nothing)).await {
            match frame {
                Ok(frame) => passed.extend(frame.into_data().ok()),
                Err(Interrupted::Source(never)) => match never {},
                Err(Interrupted::Stopped(cause)) => {
                    return Err(self.chain.take_reply().unwrap_or(Stopped::Failed(cause)));
                }
            }
        }
        Ok(passed.concat().into())
    }

    fn on_frame(&mut self, frame: Frame<Bytes>, is_last: bool) -> Result<(), Stopped> {
        match frame.into_data() {
            Ok(data) => {
                self.feed(0, data, false)?;
                if is_last { self.on_read() } else { Ok(()) }
            }
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                self.on_read()
            }
        }
    }

    /// Nothing more comes from inside.
    fn on_read(&mut self) -> Result<(), Stopped> {
        self.is_read = true;
        self.feed(0, Bytes::new(), true)
    }

    /// Moves on what was held back, if that is possible; whether anything moved.
    fn advance(&mut self, context: &mut Context<'_>) -> Result<bool, Stopped> {
        let mut has_moved = false;
        for place in 0..self.chain.len() {
            let is_of_trailers = self.ended == self.chain.len();
            if !self.chain.is_holding(self.direction, place) {
                continue;
            }
            let Poll::Ready(released) = self.chain.poll_released(self.direction, place, context) else { continue };
            let data = released?;
            has_moved = true;
            if is_of_trailers && place == self.passed_trailers {
                if let Some(trailers) = &mut self.trailers {
                    self.chain.take_trailers(self.direction, place, trailers);
                }
                self.passed_trailers += 1;
                self.pass_trailers()?;
            } else {
                // Those before it have seen the end, and it has too, or it has not come yet.
                let is_end = self.is_read && place == self.ended;
                if is_end {
                    self.ended += 1;
                }
                self.feed(place + 1, data, is_end)?;
            }
        }
        Ok(has_moved)
    }

    /// Shows a piece to all plugins from this place on.
    fn feed(&mut self, from: usize, mut data: Bytes, is_end: bool) -> Result<(), Stopped> {
        for place in from..self.open {
            // Nothing to see, for those that come after one that held everything back.
            if data.is_empty() && !is_end {
                return Ok(());
            }
            match self.chain.on_data(self.direction, place, data, is_end)? {
                Some(passed) => data = passed,
                None => return Ok(()),
            }
            if is_end {
                self.ended = place + 1;
            }
        }
        if self.open < self.chain.len() {
            let before = std::mem::take(&mut self.stalled.0);
            let all = if before.is_empty() { data } else { [before, data].concat().into() };
            self.stalled = (all, is_end);
            return Ok(());
        }
        if !data.is_empty() {
            self.passed_bytes += data.len() as u64;
            self.check_length()?;
            self.passed.push_back(Frame::data(data));
        }
        if is_end { self.pass_trailers() } else { Ok(()) }
    }

    /// A body that is longer than its head says would end, for whoever gets it, in the middle, and for one that is shorter they would wait.
    fn check_length(&self) -> Result<(), Stopped> {
        let is_right = |length| self.passed_bytes == length || self.passed_bytes < length && !self.is_over;
        if self.length.is_none_or(is_right) { Ok(()) } else { Err(Stopped::Failed(Cause::PluginLength)) }
    }

    /// Shows the trailers to those that have not seen them, and ends the body.
    fn pass_trailers(&mut self) -> Result<(), Stopped> {
        if let Some(trailers) = &mut self.trailers {
            while self.passed_trailers < self.chain.len() {
                if self.chain.on_trailers(self.direction, self.passed_trailers, trailers)? {
                    return Ok(());
                }
                self.passed_trailers += 1;
            }
        }
        self.passed.extend(self.trailers.take().map(Frame::trailers));
        self.is_over = true;
        self.check_length()
    }

    fn stop(&mut self, stopped: Stopped) -> Cause {
        self.is_over = true;
        match stopped {
            Stopped::Failed(cause) => cause,
            Stopped::Reply(reply) => {
                self.chain.set_reply(reply);
                Cause::PluginReply
            }
        }
    }
}
