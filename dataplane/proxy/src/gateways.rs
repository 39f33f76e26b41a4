//! Listeners of gateways. Which there are is a matter of the configuration, so that they are opened and closed while the
//! proxy runs: a thread of its own binds them and hands each worker its socket.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use weir_core::gateway::Bind;
use weir_core::snapshot::Snapshot;

use crate::accept;
use crate::certificates::{Certificates, GatewayCertificate};
use crate::drain::Phase;
use crate::listener::{self, Listener, Origin, OwnAddresses};
use crate::settings::Settings;
use crate::socket::SocketOptions;
use crate::watch::{Ending, Verdict};
use crate::worker::{IDLE_SHARE, Worker};

/// How often it is looked whether the configuration has changed. Every look wakes a processor that has nothing to do.
const LOOK: Duration = Duration::from_millis(250);

/// How long it takes until an address that could not be listened at is tried again, and a certificate that has changed
/// is noticed.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Sockets on their way to a worker.
const MAILBOX: usize = 64;

/// Tells a worker about its listeners.
pub(crate) type Mailbox = mpsc::Receiver<Order>;
/// The other end of a [`Mailbox`].
pub(crate) type Orders = mpsc::Sender<Order>;

/// The mailbox of a worker.
pub(crate) fn mailbox() -> (Orders, Mailbox) {
    mpsc::channel(MAILBOX)
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// To accept here.
    Open(SocketAddr, Listener),
    /// To accept here no more.
    Close(SocketAddr),
}

/// How it is with an address that gateways want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayAddress {
    /// What the gateways say.
    pub bind: Bind,
    /// One of the addresses that this means.
    pub address: SocketAddr,
    /// Why nobody listens there, if that is so.
    pub failure: Option<Arc<str>>,
}

/// How it is with what gateways want.
#[derive(Clone, Debug, Default)]
pub struct GatewayStatus {
    addresses: Arc<ArcSwap<Vec<GatewayAddress>>>,
    certificates: Arc<ArcSwap<Vec<GatewayCertificate>>>,
}

impl GatewayStatus {
    /// All addresses, sorted.
    pub fn addresses(&self) -> Arc<Vec<GatewayAddress>> {
        self.addresses.load_full()
    }

    /// All certificates, sorted by name.
    pub fn certificates(&self) -> Arc<Vec<GatewayCertificate>> {
        self.certificates.load_full()
    }
}

/// What the listeners are made of.
pub(crate) struct Parts {
    pub(crate) settings: Arc<Settings>,
    pub(crate) snapshots: Arc<ArcSwap<Snapshot>>,
    pub(crate) own: Arc<OwnAddresses>,
    pub(crate) certificates: Certificates,
    pub(crate) status: GatewayStatus,
    /// Those of all workers.
    pub(crate) orders: Vec<Orders>,
    pub(crate) drain: watch::Receiver<Phase>,
}

/// Opens and closes listeners as the configuration says, until the proxy accepts no more.
pub(crate) async fn run(parts: Parts) {
    let Parts { settings, snapshots, own, certificates, status, orders, mut drain } = parts;
    let mut listeners = Listeners { settings, own, certificates, status, orders, open: BTreeSet::new() };
    let (mut seen, mut due) = (None, Instant::now());
    let mut ended = pin!(drain.wait_for(|phase| *phase != Phase::Running));
    loop {
        let current = snapshots.load_full();
        let is_new = seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &current));
        if is_new || Instant::now() >= due {
            listeners.follow(&current).await;
            due = Instant::now() + TRY_AGAIN;
            seen = Some(current);
        }
        if tokio::time::timeout(LOOK, ended.as_mut()).await.is_ok() {
            return;
        }
    }
}

struct Listeners {
    settings: Arc<Settings>,
    own: Arc<OwnAddresses>,
    certificates: Certificates,
    status: GatewayStatus,
    orders: Vec<Orders>,
    open: BTreeSet<SocketAddr>,
}

impl Listeners {
    async fn follow(&mut self, snapshot: &Snapshot) {
        // First: who listens must have something to show.
        self.follow_certificates(snapshot);
        let wanted = self.wanted(snapshot);
        for address in self.open.iter().filter(|open| !wanted.contains_key(open)).copied().collect::<Vec<_>>() {
            self.open.remove(&address);
            tracing::info!(%address, "no gateway listens here any more");
            for orders in &self.orders {
                // Nobody reads it any more where the worker has ended.
                let _ = orders.send(Order::Close(address)).await;
            }
        }
        let mut all = Vec::new();
        for (address, bind) in wanted {
            let failure = if self.open.contains(&address) { None } else { self.open(address, bind).await };
            all.push(GatewayAddress { bind, address, failure });
        }
        self.own.set_gateways(self.open.iter().copied().collect());
        self.status.addresses.store(Arc::new(all));
    }

    fn follow_certificates(&mut self, snapshot: &Snapshot) {
        let Some(all) = self.certificates.follow(snapshot) else { return };
        for GatewayCertificate { name, not_after, failure } in &all {
            match (failure, not_after) {
                (None, Some(until)) => {
                    let until = humantime::format_rfc3339_seconds(*until);
                    tracing::info!(certificate = %name, %until, "a certificate of gateways is in force");
                }
                (Some(failure), Some(_)) => {
                    tracing::error!(certificate = %name, "the one before stays in force: {failure}");
                }
                (failure, None) => {
                    let failure = failure.as_deref().unwrap_or("not read");
                    tracing::error!(certificate = %name, "gateways have no certificate to show: {failure}");
                }
            }
        }
        self.status.certificates.store(Arc::new(all));
    }

    /// Every address that a gateway means. Where one names an address and another means all, each has its own listener.
    fn wanted(&self, snapshot: &Snapshot) -> BTreeMap<SocketAddr, Bind> {
        let mut wanted = BTreeMap::new();
        for port in snapshot.gateway_ports() {
            let bind = port.bind;
            let ips: &[IpAddr] = bind.ip.as_ref().map_or(&self.settings.gateways.addresses, std::slice::from_ref);
            wanted.extend(ips.iter().map(|ip| (SocketAddr::new(*ip, bind.port), bind)));
        }
        wanted
    }

    /// Listens at an address; why that cannot be.
    async fn open(&mut self, address: SocketAddr, bind: Bind) -> Option<Arc<str>> {
        match listener::group(address, &Origin::Gateway(bind), &SocketOptions::new(&self.settings), self.orders.len()) {
            Ok(group) => {
                for (orders, listener) in self.orders.iter().zip(group) {
                    let _ = orders.send(Order::Open(address, listener)).await;
                }
                self.open.insert(address);
                tracing::info!(%address, "listening for gateways");
                None
            }
            Err(error) => {
                let failure: Arc<str> = error.to_string().into();
                let known = self.status.addresses();
                if !known.iter().any(|one| one.address == address && one.failure.as_ref() == Some(&failure)) {
                    tracing::error!(%address, "a gateway's listener is not served: {failure}");
                }
                Some(failure)
            }
        }
    }
}

/// A listener of a worker.
struct Open {
    origin: Rc<Origin>,
    stop: watch::Sender<Phase>,
    accepting: JoinHandle<()>,
}

/// Does what a worker is told about its listeners, until the worker accepts no more.
pub(crate) async fn obey(worker: Rc<Worker>, mut mailbox: Mailbox, mut drain: watch::Receiver<Phase>) {
    let mut open: BTreeMap<SocketAddr, Open> = BTreeMap::new();
    loop {
        let stopped = drain.wait_for(|phase| *phase != Phase::Running);
        let order = tokio::select! {
            biased;
            _ = stopped => break,
            order = mailbox.recv() => order,
        };
        match order {
            Some(Order::Open(address, listener)) => {
                let (stop, stopped) = watch::channel(Phase::Running);
                let origin = Rc::new(listener.origin);
                let accepting = accept::run(Rc::clone(&worker), listener.socket, Rc::clone(&origin), stopped);
                let accepting = tokio::task::spawn_local(accepting);
                open.insert(address, Open { origin, stop, accepting });
            }
            Some(Order::Close(address)) => {
                if let Some(closed) = open.remove(&address) {
                    tokio::task::spawn_local(close(Rc::clone(&worker), closed));
                }
            }
            // Nobody will tell anything any more.
            None => {
                let _ = drain.wait_for(|phase| *phase != Phase::Running).await;
                break;
            }
        }
    }
    for (_, open) in open {
        open.stop.send_replace(Phase::Closed);
        // A panic in it is printed by the panic hook; the others must still end.
        let _ = open.accepting.await;
    }
}

/// Lets the connections of a listener that is no more end as those of a proxy that drains.
async fn close(worker: Rc<Worker>, closed: Open) {
    let Open { origin, stop, accepting } = closed;
    stop.send_replace(Phase::Closed);
    let within = worker.settings.gateways.drain;
    worker.connections.end_of(&origin, Ending::AfterRequest);
    let _ = accepting.await;
    // Those that were on their way.
    worker.connections.end_of(&origin, Ending::AfterRequest);
    tokio::time::sleep(within / IDLE_SHARE).await;
    worker.connections.end_of(&origin, Ending::WhenIdle);
    tokio::time::sleep(within - within / IDLE_SHARE).await;
    worker.connections.condemn_of(&origin, Verdict::Drained);
}
