//! The proxy as a whole: bound, then run, then drained.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use arc_swap::ArcSwap;
use socket2::Domain;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use weir_core::name::ClusterName;
use weir_core::snapshot::Snapshot;
use weir_telemetry::Telemetry;
use weir_telemetry::access::AccessLog;

use crate::authorize::Denial;
use crate::certificates::Certificates;
use crate::drain::Drain;
use crate::error::{BindError, RunError};
use crate::gateways::{self, GatewayStatus};
use crate::health::{self, Failing};
use crate::listener::{self, Listener, Origin, OwnAddresses};
use crate::rate::Buckets;
use crate::settings::Settings;
use crate::socket::SocketOptions;
use crate::upstream::Breakers;
use crate::worker::{self, Parts};

/// The stack of a worker's thread. Tasks live on the heap; this is for the depth of calls.
const STACK_BYTES: usize = 1 << 20;

/// Denials that wait for whoever tells of them.
const DENIALS: usize = 256;

/// A proxy whose listeners are bound. Connections wait in their queues until it runs.
#[derive(Debug)]
pub struct Proxy {
    settings: Arc<Settings>,
    /// The listeners of each worker.
    workers: Vec<Vec<Listener>>,
    service_addresses: Vec<(ClusterName, SocketAddr)>,
    own: Arc<OwnAddresses>,
    shards: Vec<Arc<weir_telemetry::Shard>>,
    /// What health checks count.
    checks: Arc<weir_telemetry::Shard>,
    snapshots: Arc<ArcSwap<Snapshot>>,
    access_log: Option<AccessLog>,
    certificates: Certificates,
    gateways: GatewayStatus,
    denials: (mpsc::Sender<Denial>, Option<mpsc::Receiver<Denial>>),
    drain: Drain,
}

/// The transparent listeners, for the kernel's slots. One socket of a `SO_REUSEPORT` group stands for all.
#[derive(Clone, Copy, Debug)]
pub struct TransparentSockets<'a> {
    /// Of IPv4.
    pub v4: Option<BorrowedFd<'a>>,
    /// Of IPv6.
    pub v6: Option<BorrowedFd<'a>>,
}

impl Proxy {
    /// Binds every listener of the settings. The proxy reads `snapshots` and counts in `telemetry`.
    ///
    /// # Errors
    /// When a setting is out of range, or a listener cannot be made, or the access log cannot be opened.
    pub fn bind(
        settings: Settings,
        snapshots: Arc<ArcSwap<Snapshot>>,
        telemetry: &Telemetry,
    ) -> Result<Self, BindError> {
        settings.check()?;
        let count = match settings.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => usize::from(count),
        };
        let mut wanted = Vec::new();
        let families = [(Domain::IPV4, settings.transparent.ipv4), (Domain::IPV6, settings.transparent.ipv6)];
        for (domain, _) in families.into_iter().filter(|(_, is_wanted)| *is_wanted) {
            wanted.push((listener::transparent_address(domain), Origin::Transparent));
        }
        wanted.extend(settings.services.iter().map(|one| (one.address, Origin::Service(one.cluster()))));

        let options = SocketOptions::new(&settings);
        let mut workers: Vec<Vec<Listener>> = (0..count).map(|_| Vec::new()).collect();
        let (mut own, mut service_addresses) = (Vec::new(), Vec::new());
        for (address, origin) in wanted {
            let group = listener::group(address, &origin, &options, count)?;
            for (worker, listener) in workers.iter_mut().zip(group) {
                worker.push(listener);
            }
            let bound = workers[0].last().and_then(|listener| listener.socket.local_addr().ok()).unwrap_or(address);
            own.push(bound);
            if let Origin::Service(name) = origin {
                service_addresses.push((name, bound));
            }
        }
        let access_log = settings.access_log.as_ref();
        let access_log = access_log.map(|log| AccessLog::open(&log.destination, log.format.clone(), telemetry));
        Ok(Self {
            access_log: access_log.transpose()?,
            certificates: Certificates::new(&settings.gateways.certificates),
            settings: Arc::new(settings),
            workers,
            service_addresses,
            own: Arc::new(OwnAddresses::new(own)),
            checks: telemetry.register_worker(),
            shards: (0..count).map(|_| telemetry.register_worker()).collect(),
            snapshots,
            gateways: GatewayStatus::default(),
            denials: denials(),
            drain: Drain::new(),
        })
    }

    /// The transparent listeners. The kernel's slots hold the sockets open by themselves once they are in there.
    pub fn transparent(&self) -> TransparentSockets<'_> {
        let of = |is_v4: bool| {
            let is_it = |listener: &&Listener| {
                listener.origin == Origin::Transparent
                    && listener.socket.local_addr().is_ok_and(|address| address.is_ipv4() == is_v4)
            };
            self.workers.first()?.iter().find(is_it).map(|listener| listener.socket.as_fd())
        };
        TransparentSockets { v4: of(true), v6: of(false) }
    }

    /// The listeners in front of one service each, in the order of the settings, with their ports.
    pub fn service_addresses(&self) -> &[(ClusterName, SocketAddr)] {
        &self.service_addresses
    }

    /// How it is with what gateways want, now and from now on.
    pub fn gateways(&self) -> GatewayStatus {
        self.gateways.clone()
    }

    /// What policies keep out, as it happens; given once. Who does not keep up misses some.
    pub fn take_denials(&mut self) -> Option<mpsc::Receiver<Denial>> {
        self.denials.1.take()
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// What tells this proxy to end.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Serves until drained. Blocks the thread that calls it.
    ///
    /// # Errors
    /// When a worker cannot be started, or has ended in a panic. The others are drained then.
    pub fn run(self) -> Result<(), RunError> {
        let drain = self.drain.clone();
        let buckets = Arc::new(Buckets::new());
        let (failing, breakers) = (Failing::default(), Arc::new(Breakers::default()));
        let checks = health::Parts {
            settings: Arc::clone(&self.settings),
            snapshots: Arc::clone(&self.snapshots),
            shard: self.checks,
            own: Arc::clone(&self.own),
            failing: Arc::clone(&failing),
            drain: drain.watch(),
        };
        let (orders, mailboxes): (Vec<_>, Vec<_>) = self.workers.iter().map(|_| gateways::mailbox()).unzip();
        let acceptors = self.certificates.acceptors();
        let listeners = gateways::Parts {
            settings: Arc::clone(&self.settings),
            snapshots: Arc::clone(&self.snapshots),
            own: Arc::clone(&self.own),
            certificates: self.certificates,
            status: self.gateways.clone(),
            orders,
            drain: drain.watch(),
        };
        let mut threads = Vec::new();
        let mut result = Ok(());
        let workers = self.workers.into_iter().zip(self.shards).zip(mailboxes);
        for (number, ((listeners, shard), mailbox)) in workers.enumerate() {
            let parts = Parts {
                settings: Arc::clone(&self.settings),
                snapshots: Arc::clone(&self.snapshots),
                shard,
                buckets: Arc::clone(&buckets),
                failing: Arc::clone(&failing),
                breakers: Arc::clone(&breakers),
                acceptors: Arc::clone(&acceptors),
                access_log: self.access_log.as_ref().map(AccessLog::sink),
                denials: self.denials.0.clone(),
                own: Arc::clone(&self.own),
                listeners,
                mailbox,
                drain: drain.watch(),
            };
            let thread = std::thread::Builder::new().name(format!("weir-worker-{number}")).stack_size(STACK_BYTES);
            match thread.spawn(move || work(parts)) {
                Ok(thread) => threads.push((number, thread)),
                Err(source) => {
                    result = Err(RunError::Start { worker: number, source });
                    drain.finish(std::time::Duration::ZERO);
                    break;
                }
            }
        }
        let following = std::thread::Builder::new().name("weir-follow".to_owned()).stack_size(STACK_BYTES);
        let following = following.spawn(move || {
            run_local(async {
                tokio::join!(health::run(checks), gateways::run(listeners));
            })
        });
        if let Err(source) = &following {
            tracing::error!(%source, "no thread for health checks and gateways: no endpoint is checked, no gateway served");
        }
        for (number, thread) in threads {
            let ended = match thread.join() {
                Ok(Ok(())) => continue,
                Ok(Err(source)) => RunError::Start { worker: number, source },
                Err(_) => RunError::Panicked { worker: number },
            };
            drain.finish(std::time::Duration::ZERO);
            result = result.and(Err(ended));
        }
        self.access_log.into_iter().for_each(AccessLog::close);
        // It ends with the workers; a panic in it is printed by the panic hook.
        let _ = following.map(std::thread::JoinHandle::join);
        result
    }
}

fn denials() -> (mpsc::Sender<Denial>, Option<mpsc::Receiver<Denial>>) {
    let (sender, receiver) = mpsc::channel(DENIALS);
    (sender, Some(receiver))
}

fn work(parts: Parts) -> std::io::Result<()> {
    run_local(worker::run(parts))
}

fn run_local(all: impl Future<Output = ()>) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())?;
    runtime.block_on(all);
    Ok(())
}
