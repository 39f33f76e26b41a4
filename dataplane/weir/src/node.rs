//! The wiring of a node, in start order: kernel part, proxy, version log, admin API, then the sources.
//!
//! The control thread runs everything here on one single-threaded runtime; the proxy's workers have threads of their
//! own and never wait for it.
//!
//! A process that takes over from another begins in the same order; what only one process can have it asks the other
//! for first, and it opens its listener to new connections only when the other has said farewell.

mod hand_over;

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use weir_admin::{Address, Drops, KernelView, Readiness, Server, Sources};
use weir_core::snapshot::Snapshot;
use weir_core::stats::StatsTable;
use weir_kernel::pods::{PodLinks, PodOptions, PodWatch};
use weir_kernel::{Kernel, KernelSettings, LogLevel, Reason, Slot};
use weir_proxy::{Denial, Drain, Proxy, RunError};
use weir_revisions::{Interception, Log, NoInterception, Publisher, Retention, Source};
use weir_sources::Folder;
use weir_telemetry::Telemetry;

use crate::identity::Keeping;
use crate::interception::{NoKernel, Wiring};
use crate::metrics::{
    BuildInfo, GatewayMetrics, IdentityMetrics, KernelMetrics, PluginMetrics, PolicyMetrics, RevisionMetrics,
    SourceMetrics,
};
use crate::plugins::Plugins;
use crate::priority::{Background, be_prompt, yield_to_workers};
use crate::settings::{FailMode, OnStop, Settings};
use crate::take_over::{Asked, Door, Lent};

/// How often what could not be done is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked after certificates, besides when pods or documents have changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the kernel's side is compared with what it must be.
const REPAIR_EVERY: Duration = Duration::from_secs(10);
/// How long it takes until links that could not be programmed, for a pod that went meanwhile, are tried again.
const RETRY_LINKS: Duration = Duration::from_millis(200);
/// How long after the drain's own deadline the proxy may take to end before the process ends without it.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// The name of the one source.
const SOURCE: &str = "folder";

/// Everything that runs.
struct Node {
    settings: Settings,
    wiring: Option<Wiring>,
    publisher: Arc<Mutex<Publisher>>,
    /// What the publisher does when nobody waits for its answer.
    background: Background,
    proxy: JoinHandle<Result<(), RunError>>,
    drain: Drain,
    ready: Readiness,
    sources: Sources,
    /// The proxy's listeners that the programs hand connections to.
    slots: Slots,
    /// The listening socket of the API, for who takes over.
    api_socket: OwnedFd,
    /// What is kept from its destination.
    drops: Drops,
    /// Who keeps certificates.
    keeping: Option<Keeping>,
    /// Dropped when its waiting is over.
    revision_token: Option<weir_admin::Token>,
}

type Slots = Vec<(Slot, OwnedFd)>;

/// What a node does when a process runs already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Fails.
    Alone,
    /// Takes over from it.
    TakeOver,
}

/// How a node's stay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    /// It was told to stop.
    Over,
    /// Another process is the node.
    HandedOver,
}

/// Runs a node until it is told to stop, or another process takes over.
///
/// # Errors
/// When something that the node cannot do without cannot be had; what was begun is undone.
pub(crate) fn run(settings: &Settings, start: Start) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_within(settings, start))
}

async fn run_within(settings: &Settings, start: Start) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (ready, sources) = (Readiness::default(), Sources::default());
    let (telemetry, stats) = (Arc::new(Telemetry::default()), Arc::new(Mutex::new(StatsTable::default())));
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));

    let address: Address = settings.admin.address.parse().map_err(anyhow::Error::msg)?;
    let keeping = Keeping::new(settings)?;
    let of_proxy = weir_proxy::Settings { identity: keeping.as_ref().map(|one| one.own().clone()), ..settings.proxy() };
    let mut proxy = Proxy::bind(of_proxy, Arc::clone(&snapshot), &telemetry).context("the proxy")?;
    // Declared before all that it lends, so that it is dropped after: the other process must find the log closed.
    let mut lent = match start {
        Start::Alone => None,
        Start::TakeOver => Lent::ask(&settings.state)?,
    };
    let log = open_log(settings)?;
    let server = match lent.as_mut().and_then(|lent| lent.admin(&settings.admin.address)) {
        Some(socket) => Server::adopt(&address, socket)?,
        None => Server::bind(&address).await?,
    };
    let api_socket = server.socket()?;
    let wiring = load_kernel(settings)?;
    let wiring = wiring.map(|(kernel, links)| {
        let node = keeping.as_ref().map(|one| Arc::clone(&one.own().node));
        Wiring::new(kernel, settings.balances(), node, links)
    });
    let wiring = wiring.transpose()?;
    let kernel: Arc<dyn KernelView> = match &wiring {
        Some(wiring) => Arc::new(wiring.clone()),
        None => Arc::new(NoKernel),
    };
    telemetry.register_collector(Box::new(KernelMetrics(Arc::clone(&kernel))));

    let interception: Box<dyn Interception + Send> = match &wiring {
        Some(wiring) => Box::new(wiring.clone()),
        None => Box::new(NoInterception),
    };
    let plugins = Plugins::new(settings);
    let mut publisher = Publisher::new(log, Arc::clone(&snapshot), Arc::clone(&stats), interception)
        .with_preparation(Box::new(plugins));
    if let Some(identity) = &settings.identity {
        publisher = publisher.with_trust_domain(&identity.trust_domain);
    }
    publisher.restore(&[SOURCE]);
    let reader = publisher.reader();
    telemetry.register_collector(Box::new(RevisionMetrics(reader.clone())));
    telemetry.register_collector(Box::new(SourceMetrics(sources.clone())));
    telemetry.register_collector(Box::new(BuildInfo));
    telemetry.register_collector(Box::new(PluginMetrics(Arc::clone(&snapshot))));
    telemetry
        .register_collector(Box::new(PolicyMetrics { snapshot: Arc::clone(&snapshot), kernel: Arc::clone(&kernel) }));

    let drops = Drops::default();
    let denials = Denials { receiver: proxy.take_denials(), snapshot: Arc::clone(&snapshot), drops: drops.clone() };
    tokio::spawn(denials.follow());
    let (drain, gateways) = (proxy.drain(), proxy.gateways());
    telemetry.register_collector(Box::new(GatewayMetrics(gateways.clone())));
    let revision_token = reader.current().is_none().then(|| ready.wait_for("the first revision from the source"));
    let slots = slots(&proxy)?;
    // Opening the authority's key takes a tenth of a second, which nobody should have to wait for.
    if let Some(keeping) = &keeping {
        telemetry.register_collector(Box::new(IdentityMetrics(keeping.view())));
        keeping.look(wiring.as_ref());
    }
    if let Some(lent) = lent.take() {
        lent.ready()?;
    }
    // The last good revision is in force, so the proxy may have traffic.
    if let Some(wiring) = &wiring {
        open_slots(wiring, &slots)?;
        wiring.with_kernel(|kernel| kernel.remove_other_versions()).transpose()?;
    }
    let proxy = std::thread::Builder::new().name("weir-proxy".to_owned()).spawn(|| {
        // The workers are its threads.
        be_prompt();
        proxy.run()
    })?;
    let publisher = Arc::new(Mutex::new(publisher));
    let api = weir_admin::Node {
        name: settings.node.as_str().into(),
        publisher: Arc::clone(&publisher),
        reader,
        snapshot,
        stats,
        telemetry,
        readiness: ready.clone(),
        sources: sources.clone(),
        gateways,
        kernel,
        drops: drops.clone(),
        identities: keeping.as_ref().map(Keeping::view),
    };
    let (stop_api, api_stopped) = oneshot::channel::<()>();
    let api = tokio::spawn(server.serve(weir_admin::router(api), async { drop(api_stopped.await) }));
    let mut node = Node {
        settings: settings.clone(),
        wiring,
        publisher,
        background: Background::new(),
        proxy,
        drain,
        ready,
        sources,
        slots,
        api_socket,
        revision_token,
        drops,
        keeping,
    };
    let door = open_door(settings);
    // The workers' threads are started by a thread that was started before.
    yield_to_workers();
    tracing::info!(node = settings.node, admin = settings.admin.address, "running");
    let stay = node.stay(door.as_ref(), [&mut terminate, &mut interrupt]).await;
    if matches!(stay, Ok(Stay::HandedOver)) {
        // The other answers from now on.
        door.into_iter().for_each(Door::give_up);
        drop(stop_api);
        node.stop().await?;
        let _ = tokio::time::timeout(DRAIN_GRACE, api).await;
        return Ok(());
    }
    let stopped = node.stop().await;
    drop(stop_api);
    // Connections to the API that stay open must not keep the process.
    let _ = tokio::time::timeout(DRAIN_GRACE, api).await;
    address.vacate();
    stay.map(drop).and(stopped)
}

/// Where a process that takes over asks. A node without it works, but must be stopped before the next can start.
fn open_door(settings: &Settings) -> Option<Door> {
    Door::open(&settings.state)
        .inspect_err(|error| tracing::error!(%error, "nobody will be able to take over from this process"))
        .ok()
}

fn open_log(settings: &Settings) -> anyhow::Result<Log> {
    std::fs::create_dir_all(&settings.state)
        .with_context(|| format!("cannot make the state folder {}", settings.state.display()))?;
    let retention = Retention { revisions: settings.revisions, ..Retention::default() };
    Log::open(&settings.state, retention).context("the version log")
}

/// Loads the kernel part, if the settings want it, and looks for the pods.
fn load_kernel(settings: &Settings) -> anyhow::Result<Option<(Kernel, PodLinks)>> {
    let Some(interception) = &settings.interception else { return Ok(None) };
    let debugs = tracing::enabled!(target: "weir::ebpf", tracing::Level::DEBUG);
    let kernel = Kernel::load(&KernelSettings {
        bpffs: interception.bpffs.clone(),
        uplinks: interception.uplinks.clone(),
        cgroup: interception.cgroup.clone(),
        fail_mode: match interception.fail {
            FailMode::Closed => weir_kernel::FailMode::Closed,
            FailMode::Open => weir_kernel::FailMode::Open,
        },
        log_level: if debugs { LogLevel::Debug } else { LogLevel::Warn },
        ..KernelSettings::new(&settings.node, &interception.bridge)
    });
    let kernel = kernel.context("the eBPF programs")?;
    // On a thread of its own, because looking into the pods' namespaces means entering them.
    let options = PodOptions::new(&interception.bridge);
    let links = std::thread::spawn(move || weir_kernel::pods::scan(&options)).join();
    let links = links.map_err(|_| anyhow::anyhow!("looking for pods ended in a panic"))?.context("the pods")?;
    Ok(Some((kernel, links)))
}

/// The proxy's listeners for the programs, once more: they are given again when another process fails to take over.
fn slots(proxy: &Proxy) -> std::io::Result<Slots> {
    let sockets = proxy.transparent();
    let mut slots = Slots::new();
    for (slot, socket) in [(Slot::Out4, sockets.v4), (Slot::Out6, sockets.v6)] {
        if let Some(socket) = socket {
            slots.push((slot, socket.try_clone_to_owned()?));
        }
    }
    Ok(slots)
}

/// Gives the proxy's listeners to the programs: from here on intercepted connections come.
fn open_slots(wiring: &Wiring, slots: &Slots) -> anyhow::Result<()> {
    for (slot, socket) in slots {
        wiring.with_kernel(|kernel| kernel.set_listener(*slot, socket.as_fd())).transpose()?;
    }
    Ok(())
}

impl Node {
    /// Is the node until told to stop by one of the signals, or until another process has taken over.
    async fn stay(&mut self, door: Option<&Door>, signals: [&mut Signal; 2]) -> anyhow::Result<Stay> {
        let [terminate, interrupt] = signals;
        loop {
            let asked = tokio::select! {
                asked = self.follow(door) => asked?,
                _ = terminate.recv() => return Ok(Stay::Over),
                _ = interrupt.recv() => return Ok(Stay::Over),
            };
            if self.hand_over(asked).await? {
                return Ok(Stay::HandedOver);
            }
        }
    }

    /// Follows the source and the pods, for as long as the proxy runs and nobody wants to take over.
    async fn follow(&mut self, door: Option<&Door>) -> anyhow::Result<Asked> {
        let pods_token = self.wiring.as_ref().map(|_| self.ready.wait_for("the first look at the pods"));
        let mut folder = Folder::watch(&self.settings.source.folder, self.source_settings())?;
        let source = Source { name: SOURCE.to_owned(), location: self.settings.source.folder.clone() };
        let mut status = folder.status();
        status.mark_changed();
        let pods = follow_pods(self.wiring.clone(), self.keeping.clone(), self.settings.clone(), pods_token);
        let events = follow_events(self.wiring.clone(), self.drops.clone());
        let (mut pods, mut events) = (std::pin::pin!(pods), std::pin::pin!(events));
        let mut asked = std::pin::pin!(asked(door));
        let (mut retry, mut repair) = (every(RETRY_EVERY), every(REPAIR_EVERY));
        let mut look = every(LOOK_EVERY);
        let mut has_read = false;
        loop {
            tokio::select! {
                change = folder.next() => {
                    let change = change.context("the watch of the source's folder has ended")?;
                    self.background.run(|| {
                        self.publisher().apply(&source, &change);
                        // Who is new shall not have to wait.
                        self.look_after_identities();
                    });
                    has_read = true;
                    if self.publisher().reader().current().is_some() {
                        drop(self.revision_token.take());
                    }
                }
                Ok(()) = status.changed() => self.sources.set(SOURCE, &source.location, &status.borrow_and_update()),
                outcome = &mut pods => outcome?,
                outcome = &mut events => outcome?,
                asked = &mut asked => return asked,
                _ = look.tick(), if self.keeping.is_some() => {
                    self.background.run(|| self.look_after_identities());
                }
                _ = repair.tick() => {
                    self.repair();
                    crate::memory::give_back();
                }
                _ = retry.tick() => {
                    let mut publisher = self.publisher();
                    self.background.run(|| publisher.free_retired());
                    if publisher.has_unfinished() {
                        publisher.retry();
                    }
                    drop(publisher);
                    // Reading a configuration takes more than keeping it.
                    if std::mem::take(&mut has_read) {
                        crate::memory::give_back();
                    }
                    anyhow::ensure!(!self.proxy.is_finished(), "the proxy has ended");
                }
            }
        }
    }

    fn publisher(&self) -> std::sync::MutexGuard<'_, Publisher> {
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_after_identities(&self) {
        self.keeping.iter().for_each(|keeping| keeping.look(self.wiring.as_ref()));
    }

    fn source_settings(&self) -> weir_sources::Settings {
        let check = Duration::from_millis(self.settings.source.check_every_ms);
        weir_sources::Settings { check, ..weir_sources::Settings::default() }
    }

    /// Level-triggered: whatever somebody else changed in the kernel is put right.
    fn repair(&self) {
        if let Some(Err(error)) = self.wiring.as_ref().map(Wiring::repair) {
            tracing::warn!(%error, "the kernel's side cannot be compared; trying again");
        }
    }

    /// Stops in order: new connections go past the proxy, those it has end, then the programs go.
    async fn stop(self) -> anyhow::Result<()> {
        let within = Duration::from_millis(self.settings.proxy.drain_ms.0);
        let on_stop = self.settings.interception.as_ref().map(|interception| interception.on_stop);
        tracing::info!(?within, ?on_stop, "stopping");
        if let (Some(wiring), Some(OnStop::Detach)) = (&self.wiring, on_stop) {
            wiring.pass_by()?;
        }
        if let Some(wiring) = &self.wiring {
            for slot in [Slot::Out4, Slot::Out6] {
                wiring.with_kernel(|kernel| kernel.clear_listener(slot)).transpose()?;
            }
        }
        // While these are open, so are the listeners.
        drop(self.slots);
        self.drain.stop_accepting();
        self.drain.finish(within);
        let ended = tokio::task::spawn_blocking(move || self.proxy.join());
        match tokio::time::timeout(within + DRAIN_GRACE, ended).await {
            Ok(Ok(Ok(Ok(())))) => {}
            Ok(Ok(Ok(Err(error)))) => tracing::error!(%error, "the proxy"),
            Ok(_) => tracing::error!("the proxy has ended in a panic"),
            Err(_) => tracing::error!("the proxy did not end in time"),
        }
        if let (Some(wiring), Some(OnStop::Detach)) = (&self.wiring, on_stop) {
            wiring.detach()?;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Ticks from now on; what was late is not made up for.
fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

async fn asked(door: Option<&Door>) -> anyhow::Result<Asked> {
    match door {
        Some(door) => door.asked().await.context("the socket for who takes over"),
        None => std::future::pending().await,
    }
}

/// Tells the kernel part which pods there are, whenever that changes.
async fn follow_pods(
    wiring: Option<Wiring>,
    keeping: Option<Keeping>,
    settings: Settings,
    mut token: Option<weir_admin::Token>,
) -> anyhow::Result<()> {
    let (Some(wiring), Some(interception)) = (wiring, settings.interception) else {
        return std::future::pending().await;
    };
    let mut watch = PodWatch::start(PodOptions::new(interception.bridge))?;
    loop {
        let links = watch.next().await?;
        tracing::info!(pods = links.pods.len(), unresolved = ?links.unresolved, "pods on the bridge");
        // The watch tells of the next change only, so that what failed is tried again here.
        while let Err(error) = wiring.set_links(links.clone()) {
            tracing::error!(%error, "the pods' links cannot be programmed; trying again");
            tokio::time::sleep(RETRY_LINKS).await;
        }
        keeping.iter().for_each(|keeping| keeping.look(Some(&wiring)));
        drop(token.take());
    }
}

/// Tells of what the programs report, with the pods at both ends, and logs it. The programs' own lines about it are at level
/// debug.
async fn follow_events(wiring: Option<Wiring>, drops: Drops) -> anyhow::Result<()> {
    let Some(wiring) = wiring else { return std::future::pending().await };
    let Some(mut events) = wiring.with_kernel(Kernel::take_events).transpose()?.flatten() else {
        return std::future::pending().await;
    };
    loop {
        let record = events.next().await?;
        let ends = wiring.ends(&record);
        tracing::warn!(
            target: "weir::kernel",
            reason = record.reason.name(),
            source = %record.source,
            source_pod = ends.source,
            destination = %record.destination,
            destination_pod = ends.destination,
            link_pod = ends.link,
            rule = ends.rule.as_ref().map(tracing::field::display),
            ifindex = record.ifindex,
            suppressed = record.suppressed,
            "{}",
            match record.reason {
                Reason::ResetOrphan => "reset",
                Reason::AuditedPolicy => "audited",
                Reason::PassedPlaintext => "let in, in the clear",
                _ => "dropped",
            }
        );
        drops.tell(weir_admin::Dropped {
            reason: record.reason.name(),
            by: "kernel",
            source: record.source,
            source_pod: ends.source,
            destination: record.destination,
            destination_pod: ends.destination,
            link_pod: ends.link,
            rule: ends.rule,
            request: None,
            suppressed: record.suppressed,
        });
    }
}

/// What the proxy keeps out.
struct Denials {
    receiver: Option<tokio::sync::mpsc::Receiver<Denial>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    drops: Drops,
}

impl Denials {
    /// Tells of it, with the pods at both ends.
    async fn follow(self) {
        let Some(mut receiver) = self.receiver else { return };
        while let Some(denial) = receiver.recv().await {
            let snapshot = self.snapshot.load();
            let pod = |address: SocketAddr| {
                let workload = snapshot.workload(address.ip().to_canonical())?;
                Some(format!("{}/{}", workload.namespace, workload.name))
            };
            self.drops.tell(weir_admin::Dropped {
                reason: if denial.is_denied { "denied" } else { "audited" },
                by: "proxy",
                source: denial.source,
                source_pod: pod(denial.source),
                destination: denial.destination,
                destination_pod: pod(denial.destination),
                link_pod: None,
                rule: denial.rule.map(|rule| rule.name.clone()),
                request: denial.request.map(String::from),
                suppressed: 0,
            });
        }
    }
}
