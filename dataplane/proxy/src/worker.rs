//! A worker: one thread, one runtime, and everything that its requests use. Nothing of it is shared with others, except
//! what rate limits and circuit breakers count.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use weir_core::share::Share;
use weir_core::snapshot::Snapshot;
use weir_identity::Identities;
use weir_telemetry::Shard;
use weir_telemetry::access::Sink;

use crate::accept;
use crate::access::Access;
use crate::account::{Account, Accounts};
use crate::authorize::{self, Denial};
use crate::certificates::Acceptors;
use crate::drain::Phase;
use crate::gateways::{self, Mailbox};
use crate::health::Failing;
use crate::listener::{Listener, OwnAddresses};
use crate::mirror::Mirrors;
use crate::plugins::Instances;
use crate::random::Random;
use crate::rate::Buckets;
use crate::retry::Retries;
use crate::settings::{Downstream, Http2, SEND_BUFFER_BYTES, Settings, Upstream};
use crate::socket::SocketOptions;
use crate::tunnel::Inbound;
use crate::upstream::{Breakers, Pools};
use crate::watch::{Clock, Ending, Registry, Verdict};

/// The share of the time to drain in which connections without a request may still bring one: one in this many parts.
pub(crate) const IDLE_SHARE: u32 = 4;

/// How long the answers to requests that draining has ended may take to leave.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What a worker is made of. Unlike the worker itself, it can be sent to the thread that runs it.
pub(crate) struct Parts {
    pub(crate) settings: Arc<Settings>,
    pub(crate) snapshots: Arc<ArcSwap<Snapshot>>,
    pub(crate) shard: Arc<Shard>,
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) failing: Failing,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) acceptors: Arc<Acceptors>,
    pub(crate) access_log: Option<Sink>,
    /// Tells of what policies keep out.
    pub(crate) denials: mpsc::Sender<Denial>,
    pub(crate) own: Arc<OwnAddresses>,
    pub(crate) listeners: Vec<Listener>,
    /// Tells of listeners that come and go.
    pub(crate) mailbox: Mailbox,
    pub(crate) drain: watch::Receiver<Phase>,
}

/// What the connections of a worker share.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) shard: Arc<Shard>,
    pub(crate) own: Arc<OwnAddresses>,
    pub(crate) clock: Rc<Clock>,
    pub(crate) accounts: Accounts,
    pub(crate) connections: Registry,
    /// Requests of connections that have several at a time.
    pub(crate) streams: Registry,
    pub(crate) pools: Pools,
    pub(crate) mirrors: Mirrors,
    pub(crate) retries: Retries,
    pub(crate) plugins: Instances,
    /// Tunnels that other nodes have made.
    pub(crate) inbound: Inbound,
    /// What is the node's own to pay for.
    pub(crate) own_account: Rc<Account>,
    /// What all workers share, for requests whose rules limit them.
    pub(crate) buckets: Arc<Buckets>,
    failing: Failing,
    /// What all workers share, for clients that speak TLS.
    pub(crate) acceptors: Arc<Acceptors>,
    pub(crate) access: Option<Access>,
    pub(crate) denials: mpsc::Sender<Denial>,
    pub(crate) random: Random,
    /// Which share of the traces that begin here is to be recorded, if any begins here.
    pub(crate) traces: Option<Share>,
    pub(crate) http1: hyper::server::conn::http1::Builder,
    pub(crate) http2: h2::server::Builder,
    /// Told when a connection has ended.
    pub(crate) ended: Notify,
    snapshots: RefCell<Cached>,
}

/// The snapshot as this worker last saw it. Requests count their use of it here, not in the `Arc` that all workers
/// share, whose counter would travel between processors with every request.
struct Cached {
    source: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    #[expect(clippy::redundant_allocation, reason = "two counters: this worker's and everybody's")]
    seen: Rc<Arc<Snapshot>>,
}

/// A snapshot in use.
#[expect(clippy::redundant_allocation, reason = "two counters: this worker's and everybody's")]
pub(crate) struct Pinned(Rc<Arc<Snapshot>>);

impl std::ops::Deref for Pinned {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl Worker {
    fn new(parts: &mut Parts) -> Rc<Self> {
        let access_log = parts.access_log.take().zip(parts.settings.access_log.as_ref());
        let settings = Arc::clone(&parts.settings);
        let (down, up) = (&settings.downstream, &settings.upstream);
        let clock =
            Clock::new([down.head_timeout, down.keep_alive, down.stream_idle, down.half_closed, up.idle_timeout]);
        let options = SocketOptions::new(&settings);
        let pools = |limits: &Upstream| {
            let (own, shard) = (Arc::clone(&parts.own), Arc::clone(&parts.shard));
            let breakers = Arc::clone(&parts.breakers);
            Pools::new(&settings, limits, breakers, options.clone(), own, shard, Rc::clone(&clock))
        };
        let of_copies = Upstream { max_connections: settings.mirror.max_copies.max(1), max_pending: 0, ..up.clone() };
        let mut http1 = hyper::server::conn::http1::Builder::new();
        http1.max_buf_size(down.head_bytes).max_header_size(down.head_bytes).max_headers(down.headers).half_close(true);
        let mut source = Cache::new(Arc::clone(&parts.snapshots));
        let seen = Rc::new(Arc::clone(source.load()));
        Rc::new_cyclic(|this| Self {
            shard: Arc::clone(&parts.shard),
            own: Arc::clone(&parts.own),
            accounts: Accounts::new(down, &parts.shard),
            connections: Registry::new(&clock, down),
            streams: Registry::new(&clock, down),
            pools: pools(up),
            mirrors: Mirrors::new(&settings.mirror, pools(&of_copies)),
            retries: Retries::new(&settings.retry),
            plugins: Instances::new(Weak::clone(this)),
            inbound: Inbound::default(),
            own_account: Account::of_node(down, &parts.shard),
            buckets: Arc::clone(&parts.buckets),
            failing: Arc::clone(&parts.failing),
            acceptors: Arc::clone(&parts.acceptors),
            access: access_log.map(|(sink, settings)| Access::new(sink, settings.sampled)),
            denials: parts.denials.clone(),
            random: Random::new(),
            traces: settings.tracing.sampled_percent,
            ended: Notify::new(),
            snapshots: RefCell::new(Cached { source, seen }),
            http1,
            http2: http2(down),
            clock: Rc::clone(&clock),
            settings: Arc::clone(&settings),
        })
    }

    /// What tunnels are made with at this moment, if there is anything.
    pub(crate) fn identities(&self) -> Option<Arc<Identities>> {
        self.settings.identity.as_ref()?.identities.load_full()
    }

    /// The snapshot of this moment.
    pub(crate) fn snapshot(&self) -> Pinned {
        let cached = &mut *self.snapshots.borrow_mut();
        let current = cached.source.load();
        if !Arc::ptr_eq(current, &cached.seen) {
            cached.seen = Rc::new(Arc::clone(current));
        }
        Pinned(Rc::clone(&cached.seen))
    }
}

fn http2(limits: &Downstream) -> h2::server::Builder {
    let Http2 { max_streams, stream_window, .. } = limits.http2;
    let mut builder = h2::server::Builder::new();
    // Of the connection's window there is more where its workload may have it.
    builder
        .max_concurrent_streams(max_streams)
        .initial_window_size(stream_window)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}

/// Serves until drained.
pub(crate) async fn run(mut parts: Parts) {
    let listeners = std::mem::take(&mut parts.listeners);
    let worker = Worker::new(&mut parts);
    let mut drain = parts.drain;
    let accept = |Listener { socket, origin }| {
        tokio::task::spawn_local(accept::run(Rc::clone(&worker), socket, Rc::new(origin), drain.clone()))
    };
    let mut accepting: Vec<_> = listeners.into_iter().map(accept).collect();
    accepting.push(tokio::task::spawn_local(gateways::obey(Rc::clone(&worker), parts.mailbox, drain.clone())));
    let ticking = tokio::task::spawn_local(tick(Rc::clone(&worker)));
    // An error means that nobody can tell this worker to end any more; it then works for ever.
    let Ok(phase) = drain.wait_for(|phase| matches!(phase, Phase::Finishing(_))).await.map(|phase| *phase) else {
        return std::future::pending().await;
    };
    for accepting in accepting {
        // A panic in it is printed by the panic hook; the others must still end.
        let _ = accepting.await;
    }
    let deadline = if let Phase::Finishing(deadline) = phase { deadline } else { Instant::now() };
    worker.pools.clear();
    worker.connections.end(Ending::AfterRequest);
    let idle = Instant::now() + deadline.saturating_duration_since(Instant::now()) / IDLE_SHARE;
    if tokio::time::timeout_at(idle, all_ended(&worker)).await.is_err() {
        worker.connections.end(Ending::WhenIdle);
    }
    if tokio::time::timeout_at(deadline, all_ended(&worker)).await.is_err() {
        // Requests that share a connection are ended first: so each client hears what became of its own.
        worker.streams.condemn(Verdict::Drained);
        let _ = tokio::time::timeout(LAST_WORDS, all_ended(&worker)).await;
        worker.connections.condemn(Verdict::Drained);
        all_ended(&worker).await;
    }
    ticking.abort();
}

async fn all_ended(worker: &Worker) {
    while worker.connections.len() > 0 {
        worker.ended.notified().await;
    }
}

/// Advances the worker's coarse clock and does what is due.
async fn tick(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(worker.clock.tick());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut judged = worker.snapshot().sequence;
    loop {
        ticks.tick().await;
        worker.clock.advance();
        worker.connections.check();
        worker.streams.check();
        let failing = worker.failing.load_full();
        worker.pools.on_health(&failing);
        worker.mirrors.on_health(&failing);
        worker.inbound.check(&worker);
        worker.pools.sweep();
        worker.mirrors.sweep();
        worker.retries.sweep(worker.clock.millis());
        worker.accounts.settle();
        worker.access.iter().for_each(Access::flush);
        // A worker without requests must not keep an old snapshot alive.
        let snapshot = worker.snapshot();
        worker.plugins.follow(&snapshot, worker.clock.millis());
        if snapshot.sequence != judged {
            judged = snapshot.sequence;
            worker.connections.condemn_unless(|reached| authorize::may_go_on(&snapshot, reached));
            worker.streams.condemn_unless(|reached| authorize::may_go_on(&snapshot, reached));
        }
    }
}
