//! Clients that send one request after the other over kept connections, and remember each that failed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use weir_lab::Layout;
use weir_lab::client::{Connection, Request, Response, connect};

use crate::until;

/// A request of a load; longer waits are failures.
const LIMIT: Duration = Duration::from_secs(10);
/// Failures that are kept word for word.
const REMEMBERED: usize = 20;
/// A refused client would spin.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether a response is right; what is wrong otherwise.
type Check = dyn Fn(&Response) -> Result<(), String> + Send + Sync;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    good: AtomicU64,
    failed: AtomicU64,
    slowest_us: AtomicU64,
    failures: Mutex<Vec<Failure>>,
}

/// A request that got no right answer.
#[derive(Debug, Clone)]
pub struct Failure {
    /// When the client began it, with connecting if it had no connection.
    pub begun: Instant,
    /// What went wrong.
    pub why: String,
}

/// A running load; dropping it stops it.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct LoadReport {
    /// Requests with the right answer.
    pub good: u64,
    /// The others.
    pub failed: u64,
    /// The longest time to a right answer.
    pub slowest: Duration,
    /// The first ones that failed.
    pub failures: Vec<Failure>,
}

impl Load {
    /// Starts `clients` clients in a place, each sending this request again and again.
    #[track_caller]
    pub fn start(
        lab: &Layout,
        from: &str,
        clients: usize,
        request: &Request,
        check: impl Fn(&Response) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let check: Arc<Check> = Arc::new(check);
        let start = |_| {
            let (shared, check, request) = (Arc::clone(&shared), Arc::clone(&check), request.clone());
            let (lab, from) = (lab.clone(), from.to_owned());
            thread::spawn(move || client(&lab, &from, &request, &*check, &shared))
        };
        let threads = (0..clients).map(start).collect();
        Self { shared, threads }
    }

    /// Waits until this many further requests were answered rightly.
    #[track_caller]
    pub fn await_good(&self, more: u64) {
        let goal = self.shared.good.load(Ordering::Relaxed) + more;
        until("the load goes on", || {
            let good = self.shared.good.load(Ordering::Relaxed);
            if good >= goal { Ok(()) } else { Err(format!("{good} of {goal}; {:?}", self.shared.report().failures)) }
        });
    }

    /// What came of it so far.
    #[must_use]
    pub fn so_far(&self) -> LoadReport {
        self.shared.report()
    }

    /// Lets each client finish its request, and reports.
    #[must_use]
    pub fn stop(mut self) -> LoadReport {
        self.end();
        self.shared.report()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn report(&self) -> LoadReport {
        LoadReport {
            good: self.good.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            slowest: Duration::from_micros(self.slowest_us.load(Ordering::Relaxed)),
            failures: self.failures.lock().unwrap().clone(),
        }
    }

    fn failed(&self, begun: Instant, why: String) {
        let number = self.failed.fetch_add(1, Ordering::Relaxed);
        if number < REMEMBERED as u64 {
            self.failures.lock().unwrap().push(Failure { begun, why });
        }
    }
}

fn client(lab: &Layout, from: &str, request: &Request, check: &Check, shared: &Shared) {
    let mut kept: Option<(Connection, SocketAddr)> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let outcome = exchange(lab, from, request, &mut kept).and_then(|response| check(&response));
        let took = begun.elapsed();
        match outcome {
            Ok(()) => {
                shared.good.fetch_add(1, Ordering::Relaxed);
                shared.slowest_us.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
            }
            Err(why) => {
                let port = kept.take().map_or(0, |(_, local)| local.port());
                shared.failed(begun, format!("{why} (from port {port}, after {took:?})"));
                thread::sleep(PAUSE);
            }
        }
    }
}

fn exchange(
    lab: &Layout,
    from: &str,
    request: &Request,
    kept: &mut Option<(Connection, SocketAddr)>,
) -> Result<Response, String> {
    if kept.is_none() {
        let connection = connect(lab, from, request.to, LIMIT).map_err(|error| error.to_string())?;
        let local = connection.stream().local_addr().map_err(|error| error.to_string())?;
        *kept = Some((connection, local));
    }
    let Some((connection, _)) = kept else { return Err("no connection".to_owned()) };
    let response = connection.exchange(request, LIMIT).map_err(|error| error.to_string())?;
    if response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        *kept = None;
    }
    Ok(response)
}
