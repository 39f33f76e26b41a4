//! Deadlines of connections, coarsely: one timer for a worker looks at all connections several times within the
//! shortest deadline, instead of a timer for each connection and request.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use weir_core::authorization::Principal;
use weir_core::name::PeerAddr;
use weir_telemetry::{Cause, WorkerEvent};

use crate::listener::Origin;
use crate::settings::Downstream;

/// What a connection is doing, which decides how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The head of a request is awaited or arriving.
    Head,
    /// A request was answered and none has begun.
    Between,
    /// A request is under way.
    Busy,
    /// The same, but the client has ended its side: it waits for the answer and has no more to say, or it is gone. TCP
    /// does not tell these apart (RFC 9293, section 3.6) before something is sent to the client.
    HalfClosed,
    /// It is passed on unchanged.
    Opaque,
    /// HTTP/2 with requests under way, each of which is watched by itself.
    Streams,
    /// HTTP/2 without a request.
    NoStreams,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The head of a request took too long.
    HeadTimeout,
    /// There was no further request for too long.
    KeepAliveTimeout,
    /// Nothing moved for too long.
    StreamIdle,
    /// The client had ended its side, and there was nothing to send to it for too long.
    ClientGone,
    /// Draining took too long.
    Drained,
    /// The client made more work than its requests are worth.
    Flood,
    /// It is no longer allowed.
    Denied,
}

/// What a connection, or a request, has led to.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    pub(crate) peer: PeerAddr,
    /// Who the peer is by its certificate.
    pub(crate) proven: Option<Rc<Principal>>,
    pub(crate) endpoint: SocketAddr,
    /// Whether it is something else than requests.
    pub(crate) is_opaque: bool,
}

impl Verdict {
    /// What is counted of the connection.
    pub(crate) fn event(self) -> WorkerEvent {
        match self {
            Self::Drained => WorkerEvent::DrainClosed,
            Self::Flood => WorkerEvent::FloodClosed,
            Self::Denied => WorkerEvent::DeniedClosed,
            Self::HeadTimeout | Self::KeepAliveTimeout | Self::StreamIdle | Self::ClientGone => WorkerEvent::IdleClosed,
        }
    }

    /// What is counted of the request that it ends.
    pub(crate) fn cause(self) -> Cause {
        match self {
            Self::HeadTimeout => Cause::HeaderTimeout,
            Self::KeepAliveTimeout | Self::StreamIdle => Cause::IdleTimeout,
            Self::ClientGone | Self::Flood => Cause::DownstreamGone,
            Self::Drained => Cause::Drained,
            Self::Denied => Cause::Denied,
        }
    }
}

/// How the worker's end concerns a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not at all.
    No,
    /// After its next request, or the one it has.
    AfterRequest,
    /// As soon as it has no request.
    WhenIdle,
}

/// What the worker's timer knows of a connection.
#[derive(Debug)]
pub(crate) struct Watched {
    phase: Cell<Phase>,
    /// The tick at which the phase began or, where it matters, something last moved.
    since: Cell<u32>,
    verdict: Cell<Option<Verdict>>,
    reached: RefCell<Option<Reached>>,
    ending: Cell<Ending>,
    /// How many requests of HTTP/2 are under way.
    streams: Cell<u32>,
    /// Whether all that there was to send has left.
    is_flushed: Cell<bool>,
    /// Whether there has been no request for so long that nothing need be kept ready for one.
    is_resting: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    clock: Rc<Clock>,
    /// The listener that it came by; `None` for a request of HTTP/2.
    origin: Option<Rc<Origin>>,
}

impl Watched {
    /// What is known of a request of HTTP/2.
    pub(crate) fn new(clock: Rc<Clock>) -> Rc<Self> {
        Self::of(clock, None)
    }

    /// What is known of a connection.
    pub(crate) fn of_connection(clock: Rc<Clock>, origin: Rc<Origin>) -> Rc<Self> {
        Self::of(clock, Some(origin))
    }

    fn of(clock: Rc<Clock>, origin: Option<Rc<Origin>>) -> Rc<Self> {
        Rc::new(Self {
            origin,
            phase: Cell::new(Phase::Head),
            since: Cell::new(clock.now()),
            verdict: Cell::new(None),
            reached: RefCell::new(None),
            ending: Cell::new(Ending::No),
            streams: Cell::new(0),
            is_flushed: Cell::new(true),
            is_resting: Cell::new(false),
            waker: RefCell::new(None),
            clock,
        })
    }

    /// The connection does something else from now on.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.now());
        self.is_resting.set(false);
    }

    /// It leads there now.
    pub(crate) fn reach(&self, reached: Reached) {
        *self.reached.borrow_mut() = Some(reached);
    }

    /// Whether what it leads to at this moment is as asked for.
    fn reaches(&self, is_it: impl Fn(&Reached) -> bool) -> bool {
        let leads = matches!(self.phase.get(), Phase::Busy | Phase::HalfClosed | Phase::Opaque);
        leads && self.reached.borrow().as_ref().is_some_and(is_it)
    }

    /// Something was read from the connection.
    pub(crate) fn on_io(&self) {
        match self.phase.get() {
            // The time for a head is counted from its first byte.
            Phase::Between => self.enter(Phase::Head),
            Phase::Head | Phase::Streams | Phase::NoStreams => {}
            Phase::Busy | Phase::HalfClosed | Phase::Opaque => self.since.set(self.clock.now()),
        }
    }

    /// Something was written. Unlike what is read, this never begins a request.
    pub(crate) fn on_write(&self) {
        if !matches!(self.phase.get(), Phase::Head | Phase::NoStreams) {
            self.since.set(self.clock.now());
        }
    }

    /// There is something to write, whether it leaves now or later.
    pub(crate) fn on_unflushed(&self) {
        self.is_flushed.set(false);
    }

    /// All that was written has left.
    pub(crate) fn on_flush(&self) {
        self.is_flushed.set(true);
    }

    /// Whether nothing need be kept ready for a request. Never while something is still to be sent.
    pub(crate) fn is_resting(&self) -> bool {
        self.is_resting.get() && self.is_flushed.get()
    }

    /// A request of HTTP/2 begins.
    pub(crate) fn begin_stream(&self) {
        self.streams.set(self.streams.get() + 1);
        self.phase.set(Phase::Streams);
    }

    /// It has ended.
    pub(crate) fn end_stream(&self) {
        self.streams.set(self.streams.get().saturating_sub(1));
        if !self.has_streams() {
            self.enter(Phase::NoStreams);
            if self.verdict.get().is_some() {
                self.wake();
            }
        }
    }

    /// Whether a request of HTTP/2 is under way.
    pub(crate) fn has_streams(&self) -> bool {
        self.streams.get() > 0
    }

    /// Whether a request of HTTP/1.1 is under way.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.phase.get(), Phase::Busy | Phase::HalfClosed)
    }

    /// The client has ended its side while a request is under way. May be told more than once.
    pub(crate) fn on_client_end(&self) {
        if self.phase.get() == Phase::Busy {
            self.enter(Phase::HalfClosed);
        }
    }

    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict.get()
    }

    /// Whole seconds of the worker's time, coarsely.
    pub(crate) fn second(&self) -> u64 {
        self.clock.second()
    }

    /// Whether the connection has to end now, if it has no request, or after the one it has.
    pub(crate) fn is_ending(&self) -> bool {
        match self.ending.get() {
            Ending::No => false,
            // In HTTP/2 the client is told and loses nothing by it.
            Ending::AfterRequest => self.is_busy() || matches!(self.phase.get(), Phase::Streams | Phase::NoStreams),
            Ending::WhenIdle => true,
        }
    }

    /// Ends the connection.
    pub(crate) fn condemn(&self, verdict: Verdict) {
        if self.verdict.get().is_none() {
            self.verdict.set(Some(verdict));
            self.wake();
        }
    }

    /// Lets the connection end.
    pub(crate) fn end(&self, ending: Ending) {
        self.ending.set(ending);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Has the task of this waker woken when there is a verdict.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        let mut current = self.waker.borrow_mut();
        if !current.as_ref().is_some_and(|current| current.will_wake(waker)) {
            *current = Some(waker.clone());
        }
    }

    /// Runs a future until it is done or there is a verdict about the connection. The caller pins it: as an argument it
    /// would have room twice, before and while it is polled.
    pub(crate) async fn guard<F: Future>(&self, mut future: Pin<&mut F>) -> Result<F::Output, Verdict> {
        std::future::poll_fn(|context| {
            self.set_waker(context.waker());
            match self.verdict.get() {
                Some(verdict) => Poll::Ready(Err(verdict)),
                None => future.as_mut().poll(context).map(Ok),
            }
        })
        .await
    }

    fn check(&self, limits: &Limits) {
        let (limit, verdict) = match self.phase.get() {
            Phase::Head => (limits.head, Verdict::HeadTimeout),
            Phase::Between | Phase::NoStreams => (limits.keep_alive, Verdict::KeepAliveTimeout),
            Phase::Streams => return,
            Phase::Busy | Phase::Opaque => (limits.stream_idle, Verdict::StreamIdle),
            Phase::HalfClosed => (limits.half_closed, Verdict::ClientGone),
        };
        let age = self.clock.now().wrapping_sub(self.since.get());
        if age > limit {
            self.condemn(verdict);
        } else if self.phase.get() == Phase::Between && age > limits.rest && !self.is_resting.get() {
            self.is_resting.set(true);
            self.wake();
        } else if self.phase.get() == Phase::HalfClosed {
            // The end of the client's side was all that the runtime will ever say about it: a reset that follows is
            // seen only by who looks again.
            self.wake();
        }
    }
}

/// Coarse time of a worker.
#[derive(Debug)]
pub(crate) struct Clock {
    ticks: Cell<u32>,
    tick: Duration,
}

impl Clock {
    /// A clock that is fine enough for the shortest of these durations.
    pub(crate) fn new(durations: impl IntoIterator<Item = Duration>) -> Rc<Self> {
        let shortest = durations.into_iter().min().unwrap_or(Duration::MAX);
        let tick = (shortest / 8).clamp(Duration::from_millis(5), Duration::from_millis(500));
        Rc::new(Self { ticks: Cell::new(0), tick })
    }

    /// The tick now. Wraps around after years.
    pub(crate) fn now(&self) -> u32 {
        self.ticks.get()
    }

    fn second(&self) -> u64 {
        self.time().as_secs()
    }

    /// The worker's time, in steps of a tick.
    pub(crate) fn time(&self) -> Duration {
        self.tick.saturating_mul(self.now())
    }

    /// The same in milliseconds.
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(self.time().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn tick(&self) -> Duration {
        self.tick
    }

    pub(crate) fn advance(&self) {
        self.ticks.set(self.ticks.get().wrapping_add(1));
    }

    /// How many whole ticks a duration is, at least 1.
    pub(crate) fn ticks(&self, duration: Duration) -> u32 {
        u32::try_from(duration.as_nanos().div_ceil(self.tick.as_nanos())).unwrap_or(u32::MAX).max(1)
    }
}

#[derive(Debug)]
struct Limits {
    head: u32,
    keep_alive: u32,
    stream_idle: u32,
    half_closed: u32,
    rest: u32,
}

/// For how long a connection without a request keeps its buffers ready for one.
const REST_AFTER: Duration = Duration::from_secs(1);

/// The connections of a worker.
#[derive(Debug)]
pub(crate) struct Registry {
    connections: RefCell<slab::Slab<Rc<Watched>>>,
    limits: Limits,
}

impl Registry {
    pub(crate) fn new(clock: &Clock, settings: &Downstream) -> Self {
        let limits = Limits {
            head: clock.ticks(settings.head_timeout),
            keep_alive: clock.ticks(settings.keep_alive),
            stream_idle: clock.ticks(settings.stream_idle),
            half_closed: clock.ticks(settings.half_closed),
            rest: clock.ticks(REST_AFTER),
        };
        Self { connections: RefCell::default(), limits }
    }

    /// Watches a connection until the returned key is given to [`Registry::remove`].
    pub(crate) fn add(&self, watched: Rc<Watched>) -> usize {
        self.connections.borrow_mut().insert(watched)
    }

    pub(crate) fn remove(&self, key: usize) {
        self.connections.borrow_mut().try_remove(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Passes a verdict on every connection whose time is over.
    pub(crate) fn check(&self) {
        self.connections.borrow().iter().for_each(|(_, watched)| watched.check(&self.limits));
    }

    pub(crate) fn end(&self, ending: Ending) {
        self.connections.borrow().iter().for_each(|(_, watched)| watched.end(ending));
    }

    /// Lets the connections of one listener end.
    pub(crate) fn end_of(&self, origin: &Rc<Origin>, ending: Ending) {
        self.of(origin, |watched| watched.end(ending));
    }

    /// Ends the connections of one listener.
    pub(crate) fn condemn_of(&self, origin: &Rc<Origin>, verdict: Verdict) {
        self.of(origin, |watched| watched.condemn(verdict));
    }

    fn of(&self, origin: &Rc<Origin>, action: impl Fn(&Watched)) {
        let is_of = |watched: &Watched| watched.origin.as_ref().is_some_and(|own| Rc::ptr_eq(own, origin));
        let connections = self.connections.borrow();
        connections.iter().filter(|(_, watched)| is_of(watched)).for_each(|(_, watched)| action(watched));
    }

    /// Ends what leads to where it may not go on.
    pub(crate) fn condemn_unless(&self, may_go_on: impl Fn(&Reached) -> bool) {
        for (_, watched) in &*self.connections.borrow() {
            if watched.reaches(|reached| !may_go_on(reached)) {
                watched.condemn(Verdict::Denied);
            }
        }
    }

    pub(crate) fn condemn(&self, verdict: Verdict) {
        self.connections.borrow().iter().for_each(|(_, watched)| watched.condemn(verdict));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    #[test]
    fn each_phase_has_its_limit_and_only_some_are_extended_by_traffic() {
        let settings = Downstream {
            head_timeout: Duration::from_millis(40),
            keep_alive: Duration::from_millis(400),
            stream_idle: Duration::from_millis(80),
            half_closed: Duration::from_millis(20),
            ..Downstream::default()
        };
        let cases = [
            (Phase::Head, 8, false, Verdict::HeadTimeout),
            (Phase::Between, 80, false, Verdict::KeepAliveTimeout),
            (Phase::Busy, 16, true, Verdict::StreamIdle),
            (Phase::Opaque, 16, true, Verdict::StreamIdle),
            (Phase::HalfClosed, 4, true, Verdict::ClientGone),
        ];
        for (phase, limit, extended, expected) in cases {
            let clock = Clock::new([settings.head_timeout]);
            let registry = Registry::new(&clock, &settings);
            let watched = Watched::new(Rc::clone(&clock));
            let key = registry.add(Rc::clone(&watched));
            watched.enter(phase);
            let advance = |ticks| (0..ticks).for_each(|_| clock.advance());
            advance(limit);
            registry.check();
            assert_eq!(watched.verdict(), None, "{phase:?} at its limit");
            if phase != Phase::Between {
                watched.on_io();
            }
            advance(1);
            registry.check();
            assert_eq!(watched.verdict(), (!extended).then_some(expected), "{phase:?} after it");
            advance(limit);
            registry.check();
            assert_eq!(watched.verdict(), Some(expected), "{phase:?} after twice of it");
            registry.remove(key);
            assert_eq!(registry.len(), 0);
        }
    }

    #[test]
    fn a_client_that_may_be_gone_is_looked_at_again_and_again() {
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let clock = Clock::new([Duration::from_secs(1)]);
        let registry = Registry::new(&clock, &Downstream::default());
        let watched = Watched::new(Rc::clone(&clock));
        registry.add(Rc::clone(&watched));
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        watched.set_waker(&Waker::from(Arc::clone(&woken)));
        let is_woken = || {
            clock.advance();
            registry.check();
            woken.0.swap(false, Ordering::SeqCst)
        };
        watched.on_client_end();
        assert!(!is_woken(), "without a request there is nothing to wait for");
        watched.enter(Phase::Busy);
        assert!(!is_woken());
        watched.on_client_end();
        assert!(is_woken() && is_woken() && watched.is_busy());
        assert_eq!(watched.verdict(), None);
    }

    #[test]
    fn a_connection_ends_after_its_request_or_when_it_has_none() {
        let cases = [
            (Ending::No, Phase::Busy, false),
            (Ending::AfterRequest, Phase::Between, false),
            (Ending::AfterRequest, Phase::Head, false),
            (Ending::AfterRequest, Phase::Busy, true),
            (Ending::AfterRequest, Phase::HalfClosed, true),
            (Ending::WhenIdle, Phase::Between, true),
        ];
        for (ending, phase, expected) in cases {
            let watched = Watched::new(Clock::new([Duration::from_secs(1)]));
            watched.end(ending);
            watched.enter(phase);
            assert_eq!(watched.is_ending(), expected, "{ending:?} in {phase:?}");
        }
    }

    #[test]
    fn a_connection_rests_when_it_has_no_request_and_nothing_to_send() {
        let clock = Clock::new([Duration::from_secs(1)]);
        let registry = Registry::new(&clock, &Downstream::default());
        let watched = Watched::new(Rc::clone(&clock));
        registry.add(Rc::clone(&watched));
        let a_while = clock.ticks(REST_AFTER) + 1;
        let rests_later = || {
            (0..a_while).for_each(|_| clock.advance());
            registry.check();
            watched.is_resting()
        };
        for (phase, expected) in [(Phase::Head, false), (Phase::Busy, false), (Phase::Between, true)] {
            watched.enter(phase);
            assert!(!watched.is_resting());
            assert_eq!(rests_later(), expected, "{phase:?}");
        }
        // What is still to be sent must not be lost.
        watched.enter(Phase::Between);
        watched.on_unflushed();
        assert!(!rests_later());
        watched.on_flush();
        assert!(watched.is_resting());
        watched.on_io();
        assert!(!watched.is_resting(), "a request begins");
    }

    #[test]
    fn the_first_byte_after_a_request_starts_the_time_for_a_head() {
        let watched = Watched::new(Clock::new([Duration::from_secs(1)]));
        watched.enter(Phase::Between);
        watched.on_io();
        assert_eq!(watched.phase.get(), Phase::Head);
    }
}
