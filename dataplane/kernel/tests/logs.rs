//! Lines of the programs arrive where all others do.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use support::{Lab, PATIENCE, ip};
use tracing_subscriber::fmt::MakeWriter;
use weir_kernel::{LogLevel, Protocol, ServiceAction, ServiceAddr, Slot};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn steered_and_dropped_flows_are_logged_with_both_ends() {
    let lab = Lab::new();
    let mut settings = lab.settings();
    settings.log_level = LogLevel::Debug;
    let mut desired = lab.desired();
    for vip in ["10.43.0.10", "fd43::10"] {
        let address = ServiceAddr { ip: ip(vip), port: 80, protocol: Protocol::Tcp };
        desired.services.insert(address, ServiceAction::Proxy);
    }
    let proxy = support::Greeter::proxy(&lab, "127.0.0.1:15001");
    let listener = proxy.listener().try_clone().unwrap();
    let kernel = lab.load(&settings);
    let (kernel, ()) = lab.with(kernel, move |kernel| {
        kernel.set_listener(Slot::Out4, std::os::fd::AsFd::as_fd(&listener)).unwrap();
        kernel.apply(&desired).unwrap();
    });
    assert!(lab.ask("a", "10.43.0.10:80", PATIENCE).is_ok());
    // Without a listener for IPv6.
    assert!(lab.ask("a", "[fd43::10]:80", std::time::Duration::from_millis(300)).is_err());

    let lines = Lines::default();
    let written = lines.clone();
    lab.with(kernel, move |kernel| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(lines)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut events = kernel.take_events().unwrap().unwrap();
                // Lines are read while records are waited for; the first record is there already.
                let wait = std::time::Duration::from_millis(300);
                while tokio::time::timeout(wait, events.next()).await.is_ok() {}
            });
        });
    });
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    for expected in [
        "DEBUG weir::ebpf: steered protocol 6 10.77.0.11:",
        " to 10.43.0.10:80 ",
        "DEBUG weir::ebpf: dropped_no_proxy protocol 6 [fd77::11]:",
        " to [fd43::10]:80 ",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
}
