//! The transparent listeners, as far as they can be seen without the kernel's part. Needs `CAP_NET_ADMIN`.

mod support;

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use support::until;
use weir_core::snapshot::Snapshot;
use weir_proxy::{Proxy, Settings, Transparent};
use weir_telemetry::{Telemetry, WorkerEvent};

#[expect(clippy::unwrap_used, reason = "failing is how a test says no")]
fn address(socket: Option<BorrowedFd<'_>>) -> SocketAddr {
    TcpListener::from(socket.unwrap().try_clone_to_owned().unwrap()).local_addr().unwrap()
}

#[test]
fn both_families_are_bound_and_nobody_reaches_the_proxy_by_its_own_address() {
    let settings = Settings { workers: 2, transparent: Transparent { ipv4: true, ipv6: true }, ..Settings::default() };
    let telemetry = Telemetry::default();
    let proxy = Proxy::bind(settings, Arc::new(ArcSwap::from_pointee(Snapshot::empty())), &telemetry).unwrap();
    let addresses = [address(proxy.transparent().v4), address(proxy.transparent().v6)];
    assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6());
    let drain = proxy.drain();
    let running = std::thread::spawn(move || proxy.run());
    for address in addresses {
        let read = TcpStream::connect(address).and_then(|mut stream| stream.read(&mut [0]));
        assert!(read.is_err(), "{address}: reset");
    }
    until("both to be counted", || telemetry.count(WorkerEvent::RefusedOwn) == 2);
    drain.finish(Duration::ZERO);
    running.join().unwrap().unwrap();
}
