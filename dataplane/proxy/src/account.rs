//! What each client's workload holds and uses of its worker. Nobody holds more than it leaves to the others, so that one
//! pod that opens, asks or hangs too much finds an end of it, and the others do not notice.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use weir_core::fairness;
use weir_core::name::PeerAddr;
use weir_core::snapshot::Snapshot;
use weir_core::workload::Workload;
use weir_telemetry::{Refused, Shard, SourceId, WorkerEvent};

use crate::body::{Budget, Charge, Held};
use crate::relay::Way;
use crate::settings::Downstream;

/// Who shares: a pod or, of clients outside of the mesh, an address.
#[derive(PartialEq, Eq, Hash)]
enum Holder {
    Pod { namespace: Arc<str>, name: Arc<str> },
    Address(IpAddr),
}

/// The accounts of a worker.
pub(crate) struct Accounts {
    open: RefCell<HashMap<Holder, Rc<Account>, foldhash::fast::RandomState>>,
    /// How long the tasks of each source have run since the processor's time was last looked at, in nanoseconds.
    busy: RefCell<BTreeMap<SourceId, Rc<Cell<u64>>>>,
    /// The processor's time then.
    settled: Cell<Duration>,
    all: Rc<All>,
}

/// What all accounts hold together.
struct All {
    connections: Total,
    requests: Total,
    windows: Arc<Budget>,
    shard: Arc<Shard>,
}

struct Total {
    used: Cell<usize>,
    bound: usize,
}

impl Total {
    fn new(bound: usize) -> Self {
        Self { used: Cell::new(0), bound }
    }

    fn is_full(&self) -> bool {
        self.used.get() >= self.bound
    }

    /// Takes one for who has so many, if that leaves the others as many.
    fn take(&self, own: &Cell<usize>) -> bool {
        let may = fairness::may_take(own.get(), 1, self.used.get(), self.bound);
        if may {
            self.used.set(self.used.get() + 1);
            own.set(own.get() + 1);
        }
        may
    }

    fn give_back(&self, own: &Cell<usize>) {
        self.used.set(self.used.get() - 1);
        own.set(own.get() - 1);
    }
}

impl Accounts {
    pub(crate) fn new(limits: &Downstream, shard: &Arc<Shard>) -> Self {
        let all = All {
            connections: Total::new(limits.max_connections),
            requests: Total::new(limits.max_requests),
            windows: Budget::new(limits.window_bytes),
            shard: Arc::clone(shard),
        };
        let (open, busy) = (RefCell::default(), RefCell::default());
        Self { open, busy, settled: Cell::new(processor_time()), all: Rc::new(all) }
    }

    /// A place for a connection, or why there is none.
    pub(crate) fn connect(&self, snapshot: &Snapshot, peer: PeerAddr) -> Result<Connected, WorkerEvent> {
        if self.all.connections.is_full() {
            return Err(WorkerEvent::RefusedLimit);
        }
        let account = self.account(snapshot.workload(peer.0.ip()), peer);
        if self.all.connections.take(&account.connections) {
            account.counters().on_open();
            Ok(Connected(account))
        } else {
            account.counters().on_refused(Refused::Connection);
            Err(WorkerEvent::RefusedShare)
        }
    }

    fn account(&self, workload: Option<&Arc<Workload>>, peer: PeerAddr) -> Rc<Account> {
        let holder = match workload {
            None => Holder::Address(peer.0.ip()),
            Some(pod) => Holder::Pod { namespace: Arc::clone(&pod.namespace), name: Arc::clone(&pod.name) },
        };
        let mut open = self.open.borrow_mut();
        if let Some(account) = open.get(&holder) {
            return Rc::clone(account);
        }
        let source = workload.map_or(SourceId::OUTSIDE, |pod| self.all.shard.source_id(&pod.namespace, &pod.app));
        let account = Rc::new(Account {
            source,
            connections: Cell::new(0),
            requests: Cell::new(0),
            windows: Arc::default(),
            copied: Arc::default(),
            kept: Arc::default(),
            busy: Rc::clone(self.busy.borrow_mut().entry(source).or_default()),
            all: Rc::clone(&self.all),
        });
        open.insert(holder, Rc::clone(&account));
        account
    }

    /// Gives each source its part of the processor's time, and forgets accounts that nobody uses.
    pub(crate) fn settle(&self) {
        let now = processor_time();
        let spent = now.saturating_sub(self.settled.replace(now)).as_nanos();
        let busy = self.busy.borrow();
        let all = busy.values().map(|busy| u128::from(busy.get())).sum::<u128>();
        for (source, busy) in busy.iter().filter(|(_, busy)| busy.get() > 0) {
            let part = spent * u128::from(busy.take()) / all;
            self.all.shard.source(*source).on_processor_time(u64::try_from(part).unwrap_or(u64::MAX));
        }
        self.open.borrow_mut().retain(|_, account| Rc::strong_count(account) > 1);
    }
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// What one holder has.
pub(crate) struct Account {
    /// How it is counted.
    pub(crate) source: SourceId,
    connections: Cell<usize>,
    requests: Cell<usize>,
    windows: Arc<Held>,
    /// Of the memory for copies.
    pub(crate) copied: Arc<Held>,
    /// Of the memory for further tries.
    pub(crate) kept: Arc<Held>,
    busy: Rc<Cell<u64>>,
    all: Rc<All>,
}

impl Account {
    /// An account for what the node asks by itself.
    pub(crate) fn of_node(limits: &Downstream, shard: &Arc<Shard>) -> Rc<Self> {
        Accounts::new(limits, shard).account(None, PeerAddr((IpAddr::from([0; 4]), 0).into()))
    }

    fn counters(&self) -> &weir_telemetry::SourceCounters {
        self.all.shard.source(self.source)
    }

    /// A place for a request. `None` when it has as many as it leaves to the others.
    pub(crate) fn ask(self: &Rc<Self>) -> Option<Asking> {
        if self.all.requests.take(&self.requests) {
            return Some(Asking(Rc::clone(self)));
        }
        self.counters().on_refused(Refused::Request);
        None
    }

    /// Room for so many bytes of bodies that may arrive before they are passed on.
    pub(crate) fn window(&self, bytes: usize) -> Option<Charge> {
        let window = self.all.windows.charge(&self.windows, bytes);
        if window.is_none() {
            self.counters().on_refused(Refused::Window);
        }
        window
    }

    /// Bytes of it were passed on unchanged.
    pub(crate) fn on_relayed(&self, way: Way, bytes: usize) {
        match way {
            Way::There => self.counters().on_relayed_from(bytes as u64),
            Way::Back => self.counters().on_relayed_to(bytes as u64),
        }
    }
}

/// A connection that is held.
pub(crate) struct Connected(Rc<Account>);

impl Connected {
    pub(crate) fn account(&self) -> &Rc<Account> {
        &self.0
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.all.connections.give_back(&self.0.connections);
        self.0.counters().on_close();
    }
}

/// A request that is held.
pub(crate) struct Asking(Rc<Account>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.all.requests.give_back(&self.0.requests);
    }
}

/// A task whose time is counted for an account.
pub(crate) struct Metered<F> {
    task: Pin<Box<F>>,
    busy: Rc<Cell<u64>>,
}

impl<F: Future> Metered<F> {
    pub(crate) fn new(account: &Account, task: F) -> Self {
        // Boxed here, because a task moves its future several times.
        Self { task: Box::pin(task), busy: Rc::clone(&account.busy) }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let begun = Instant::now();
        let poll = self.task.as_mut().poll(context);
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.busy.set(self.busy.get().saturating_add(nanos));
        poll
    }
}

#[cfg(test)]
mod tests {
    use weir_core::revision::{RevisionId, Sequence};
    use weir_telemetry::Telemetry;

    use super::*;

    fn pod(name: &str, app: &str, address: &str) -> Arc<Workload> {
        Arc::new(Workload {
            app: app.into(),
            addresses: vec![address.parse().unwrap()],
            ..Workload::new(&"default".into(), &name.into(), "default")
        })
    }

    fn peer(address: &str) -> PeerAddr {
        PeerAddr(std::net::SocketAddr::new(address.parse().unwrap(), 4711))
    }

    fn snapshot() -> Snapshot {
        let pods = [pod("a-1", "a", "10.0.0.1"), pod("a-2", "a", "10.0.0.2"), pod("b-1", "b", "10.0.0.3")];
        Snapshot::new(Sequence(1), RevisionId::of([]), Vec::new(), &pods)
    }

    fn accounts(limits: &Downstream) -> (Accounts, Telemetry) {
        let telemetry = Telemetry::default();
        (Accounts::new(limits, &telemetry.register_worker()), telemetry)
    }

    #[test]
    fn a_pod_that_opens_too_much_leaves_as_much_to_each_other_one() {
        let (accounts, telemetry) = accounts(&Downstream { max_connections: 30, ..Downstream::default() });
        let snapshot = snapshot();
        let open = |address: &str| {
            let opened = (0..100).map(|_| accounts.connect(&snapshot, peer(address)));
            let (opened, refused): (Vec<_>, Vec<_>) = opened.partition(Result::is_ok);
            (opened, refused.into_iter().find_map(Result::err))
        };
        let mut held = Vec::new();
        // Two pods of one app are two; addresses outside of the mesh are each one.
        for (address, expected) in [("10.0.0.1", 15), ("10.0.0.2", 8), ("192.0.2.1", 4), ("192.0.2.2", 2)] {
            let (opened, refused) = open(address);
            assert_eq!((opened.len(), refused), (expected, Some(WorkerEvent::RefusedShare)), "{address}");
            held.push(opened);
        }
        assert_eq!(open("10.0.0.3").1, Some(WorkerEvent::RefusedLimit));
        let text = telemetry.encode(&[]).unwrap();
        for line in [
            "weir_workload_connections{source_namespace=\"default\",source=\"a\"} 23",
            "weir_workload_refused_total{source_namespace=\"default\",source=\"a\",what=\"connection\"} 177",
            "weir_workload_connections{source_namespace=\"\",source=\"\"} 6",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        held.clear();
        accounts.settle();
        assert!(accounts.open.borrow().is_empty(), "forgotten");
        assert_eq!(open("10.0.0.3").0.len(), 15);
    }

    #[test]
    fn requests_and_windows_are_shared_in_the_same_way() {
        let (accounts, _) = accounts(&Downstream { max_requests: 8, window_bytes: 100, ..Downstream::default() });
        let snapshot = snapshot();
        let [one, other] = ["10.0.0.1", "10.0.0.3"].map(|pod| accounts.connect(&snapshot, peer(pod)).unwrap());
        let ask = |of: &Connected| (0..9).map_while(|_| of.account().ask()).collect::<Vec<_>>();
        let (first, second) = (ask(&one), ask(&other));
        assert_eq!((first.len(), second.len()), (4, 2));
        drop(first);
        assert_eq!(ask(&one).len(), 3);
        let window = |of: &Connected| (0..9).map_while(|_| of.account().window(20)).collect::<Vec<_>>();
        let windows = (window(&one), window(&other));
        assert_eq!((windows.0.len(), windows.1.len()), (3, 1));
    }

    #[tokio::test]
    async fn the_processor_s_time_goes_to_who_used_it() {
        let (accounts, telemetry) = accounts(&Downstream::default());
        let snapshot = snapshot();
        let busy = |address: &str, time: Duration| {
            let connected = accounts.connect(&snapshot, peer(address)).unwrap();
            Metered::new(connected.account(), async move {
                let begun = Instant::now();
                while begun.elapsed() < time {
                    std::hint::spin_loop();
                }
            })
        };
        accounts.settle();
        tokio::join!(busy("10.0.0.1", Duration::from_millis(90)), busy("10.0.0.3", Duration::from_millis(10)));
        accounts.settle();
        let text = telemetry.encode(&[]).unwrap();
        let of = |app: &str| {
            let start = format!("weir_workload_cpu_seconds_total{{source_namespace=\"default\",source=\"{app}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse::<f64>().unwrap()
        };
        // However much of the machine this thread had, the parts are as the tasks were.
        let share = of("a") / (of("a") + of("b"));
        assert!((0.8..0.97).contains(&share), "{share} of {} s", of("a") + of("b"));
    }
}
