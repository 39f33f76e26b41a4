//! A proxy in front of endpoints of the test's own making, over loopback, and a client that sees every byte.

#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(unreachable_pub, reason = "a module that several test binaries include")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "failing is how a test says no")]

pub mod frames;
pub mod http2;
pub mod message;
pub mod plugins;
pub mod tls;
pub mod upstream;
pub mod world;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use socket2::{Domain, Socket, Type};
use weir_core::name::ServiceName;
use weir_core::snapshot::Snapshot;
use weir_proxy::{Drain, GatewayStatus, Proxy, RunError, ServiceListener, Settings};
use weir_telemetry::{Cause, MirrorEvent, Telemetry, WorkerEvent};

use message::Message;
use world::World;

/// No wait in these tests is longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running proxy with a listener in front of the service `a`.
pub struct Node {
    pub world: World,
    pub address: SocketAddr,
    pub drain: Drain,
    pub telemetry: Telemetry,
    pub gateways: GatewayStatus,
    snapshots: Arc<ArcSwap<Snapshot>>,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Node {
    pub fn start(world: World) -> Self {
        Self::start_with(world, |_| {})
    }

    pub fn start_with(mut world: World, change: impl FnOnce(&mut Settings)) -> Self {
        let service = ServiceListener {
            address: "127.0.0.1:0".parse().unwrap(),
            service: ServiceName::new("default", "a"),
            port: 80,
        };
        let mut settings = Settings { workers: 1, services: vec![service], mark: 0, ..Settings::default() };
        change(&mut settings);
        let snapshots = Arc::new(ArcSwap::from_pointee(world.snapshot()));
        let telemetry = Telemetry::default();
        let proxy = Proxy::bind(settings, Arc::clone(&snapshots), &telemetry).unwrap();
        let (address, drain, gateways) = (proxy.service_addresses()[0].1, proxy.drain(), proxy.gateways());
        let thread = Some(std::thread::spawn(move || proxy.run()));
        Self { world, address, drain, telemetry, gateways, snapshots, thread }
    }

    /// The configuration in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.load_full()
    }

    /// Changes the configuration.
    pub fn publish(&mut self, change: impl FnOnce(&mut World)) {
        change(&mut self.world);
        self.snapshots.store(Arc::new(self.world.snapshot()));
    }

    /// Changes at which addresses gateways listen, and waits until that is so.
    pub fn listen_at(&mut self, gateways: &[SocketAddr]) {
        self.publish(|world| world.gateways = gateways.to_vec());
        let open =
            || self.gateways.addresses().iter().map(|one| (one.address, one.failure.is_none())).collect::<Vec<_>>();
        let mut wanted: Vec<_> = gateways.iter().map(|address| (*address, true)).collect();
        wanted.sort_unstable();
        until(&format!("gateways at {gateways:?}"), || open() == wanted);
    }

    /// A connection of a client.
    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The reply to one request on a connection of its own.
    pub fn ask(&self, request: &str) -> Message {
        self.client().ask(request)
    }

    /// Waits until something was counted at least this often.
    pub fn await_event(&self, event: WorkerEvent, count: u64) {
        until(&format!("{count} times {}", event.name()), || self.telemetry.count(event) >= count);
    }

    pub fn await_cause(&self, cause: Cause, count: u64) {
        until(&format!("{count} times {}", cause.name()), || self.telemetry.count_cause(cause) >= count);
    }

    /// What `/metrics` says: the sum of a metric's samples that have these labels, with commas between them.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.telemetry.encode(self.world.keys()).unwrap();
        let has_all = |rest: &str| rest.starts_with('{') && labels.split(',').all(|label| rest.contains(label));
        let samples = text.lines().filter(|line| line.strip_prefix(name).is_some_and(has_all));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until `/metrics` says so.
    pub fn await_metric(&self, name: &str, label: &str, value: f64) {
        until(&format!("{name}{{{label}}} {value}"), || self.metric(name, label) == value);
    }

    pub fn copies(&self, event: MirrorEvent) -> u64 {
        self.telemetry.mirrors(self.world.keys()).iter().map(|mirror| mirror.count(event)).sum()
    }

    pub fn await_copies(&self, event: MirrorEvent, count: u64) {
        until(&format!("{count} copies {}", event.name()), || self.copies(event) >= count);
    }

    /// Waits for the proxy to end after it was drained.
    pub fn join(&mut self) -> Result<(), RunError> {
        let thread = self.thread.take().unwrap();
        until("the proxy to end", || thread.is_finished());
        thread.join().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.drain.finish(Duration::ZERO);
            let ended = self.join();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

/// Waits until a condition is true; panics when it stays false.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A client's connection.
pub struct Client {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// A connection from this address of the machine, where a reset may come as early as that.
    pub fn try_connect_from(source: &str, address: SocketAddr) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        let source: IpAddr = source.parse().unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect_timeout(&address.into(), PATIENCE)?;
        Self::new(socket.into())
    }

    /// A connection, where a reset may come as early as that.
    pub fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        Self::new(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    fn new(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The next response. Panics when there is none.
    pub fn receive(&mut self) -> Message {
        self.try_receive().expect("a whole response")
    }

    /// The next response, or why there is none.
    pub fn try_receive(&mut self) -> std::io::Result<Message> {
        message::read(&mut self.stream, &mut self.unread, message::Kind::Response)
    }

    pub fn ask(&mut self, request: &str) -> Message {
        self.send(request);
        self.receive()
    }

    /// Reads until this was among what is unread.
    pub fn await_text(&mut self, text: &str) {
        while !self.unread.windows(text.len()).any(|window| window == text.as_bytes()) {
            let mut buffer = [0; 4_096];
            let got = self.stream.read(&mut buffer).unwrap();
            assert!(got > 0, "closed before {text:?}");
            self.unread.extend_from_slice(&buffer[..got]);
        }
    }

    /// Everything until the other side closes or resets.
    pub fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.unread);
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }
}

/// A request without a body and with these further header lines.
pub fn get(path: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n{lines}\r\n")
}

/// An address where nobody listens.
pub fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
