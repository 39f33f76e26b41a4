//! What interception costs: direct traffic with and without programs in the same run, and each
//! program's nanoseconds per run. Prints the figures (`--nocapture`); fails only when something is
//! far from what it was, because the machine is shared.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use support::{Echo, Greeter, Lab, PATIENCE, inside, ip, run};
use weir_kernel::{Desired, Kernel, Protocol, ServiceAction, ServiceAddr, Slot};

const ROUND: Duration = Duration::from_millis(400);

/// Round trips of 64 bytes per second over one connection.
fn round_trips(lab: &Lab) -> f64 {
    let to: SocketAddr = "10.77.0.12:80".parse().unwrap();
    let work = inside(&lab.pod("a"), move || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        let (start, mut done, mut buffer) = (Instant::now(), 0u32, [0; 64]);
        while start.elapsed() < ROUND {
            stream.write_all(&buffer).unwrap();
            stream.read_exact(&mut buffer).unwrap();
            done += 1;
        }
        f64::from(done) / start.elapsed().as_secs_f64()
    });
    work.join().unwrap()
}

fn apply(lab: &Lab, kernel: Kernel, desired: &Desired) -> Kernel {
    let desired = desired.clone();
    lab.with(kernel, move |kernel| {
        kernel.apply(&desired).unwrap();
    })
    .0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Turns the kernel's measuring on, and off again.
struct Stats;

impl Stats {
    fn on() -> Self {
        run("sysctl -qw kernel.bpf_stats_enabled=1");
        Self
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        let _ = std::process::Command::new("sysctl").args(["-qw", "kernel.bpf_stats_enabled=0"]).status();
    }
}

#[test]
#[ignore = "a measurement, which a busy machine fails: cargo test --release -p weir-kernel --test cost -- --ignored --nocapture"]
fn direct_traffic_pays_next_to_nothing() {
    let lab = Lab::new();
    let _server = Echo::start(&lab, "b", "10.77.0.12:80");
    let with = lab.desired();
    let without = Desired::default();
    let mut kernel = lab.load(&lab.settings());
    let mut ratios = Vec::new();
    for _ in 0..15 {
        kernel = apply(&lab, kernel, &without);
        let direct = round_trips(&lab);
        kernel = apply(&lab, kernel, &with);
        ratios.push(round_trips(&lab) / direct);
    }
    let ratio = median(ratios.clone());
    println!("round trips with programs / without: median {ratio:.3} of {ratios:.3?}");
    assert!(ratio > 0.75, "{ratios:?}");

    // Nanoseconds per run, apart: measuring costs too.
    let mut proxied = with;
    let address = ServiceAddr { ip: ip("10.43.0.10"), port: 80, protocol: Protocol::Tcp };
    proxied.services.insert(address, ServiceAction::Proxy);
    kernel = apply(&lab, kernel, &proxied);
    let proxy = Greeter::proxy(&lab, "127.0.0.1:15001");
    let listener = proxy.listener().try_clone().unwrap();
    let (kernel, ()) = lab.with(kernel, move |kernel| kernel.set_listener(Slot::Out4, listener.as_fd()).unwrap());
    let stats = Stats::on();
    let figures = || {
        run(
            "bpftool prog show | awk '/name weir_/ && /run_cnt/ { for (i = 1; i < NF; i++) { if ($i == \"name\") n = $(i+1); if ($i == \"run_time_ns\") t = $(i+1); if ($i == \"run_cnt\") c = $(i+1) } if (c > 0) printf \"  %s %.0f ns over %d runs\\n\", n, t / c, c }'",
        )
    };
    round_trips(&lab);
    println!("direct round trips:\n{}", figures());
    for _ in 0..500 {
        lab.ask("a", "10.43.0.10:80", PATIENCE).unwrap();
    }
    println!("and 500 short connections through the proxy:\n{}", figures());
    drop(stats);
    drop(kernel);
}
