//! The proxies that are compared: how each is configured, started, found ready, and proven to route by header.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::{
    backend::Addresses,
    client, machine,
    process::{Launch, Tree},
};

pub(crate) mod envoy;
mod haproxy;
mod nginx;
pub(crate) mod weir;

/// How long a proxy may take from its start to its first right answer.
const READY: Duration = Duration::from_secs(20);
/// Pause between two looks at a proxy that is not ready.
const LOOK: Duration = Duration::from_millis(10);

/// A way from the load generator to the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// No proxy: straight to the canary backend.
    Direct,
    /// Weir, in front of one service without eBPF.
    Weir,
    /// Envoy.
    Envoy,
    /// nginx.
    Nginx,
    /// `HAProxy`.
    Haproxy,
}

/// The versions of HTTP that a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// HTTP/1.1 on both sides.
    Http1,
    /// HTTP/2 from the client, HTTP/1.1 to the backend.
    Http2ToHttp1,
    /// HTTP/2 on both sides.
    Http2,
}

impl Versions {
    pub(crate) fn has_http2_client(self) -> bool {
        self != Self::Http1
    }

    pub(crate) fn has_http2_backend(self) -> bool {
        self == Self::Http2
    }
}

/// What a proxy is set up with.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) versions: Versions,
    /// For its configuration, state and log.
    pub(crate) directory: &'a Path,
    /// Where it shall listen.
    pub(crate) address: SocketAddr,
    pub(crate) backends: &'a Addresses,
    /// Its own core.
    pub(crate) core: usize,
    /// The binary of Weir.
    pub(crate) weir: &'a Path,
    /// What sees every request, in those that can.
    pub(crate) plugin: Option<Plugin<'a>>,
}

/// A plugin of `plugins/guests`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plugin<'a> {
    /// Which.
    pub(crate) name: &'static str,
    /// What it is configured with.
    pub(crate) configuration: &'a str,
}

impl Plugin<'_> {
    /// Its module, which `make plugins` builds.
    pub(crate) fn module(&self) -> PathBuf {
        machine::project_root().join("target/plugins").join(self.name).with_extension("wasm")
    }
}

impl Setup<'_> {
    fn stable(&self) -> SocketAddr {
        if self.versions.has_http2_backend() { self.backends.stable_http2 } else { self.backends.stable }
    }

    fn canary(&self) -> SocketAddr {
        if self.versions.has_http2_backend() { self.backends.canary_http2 } else { self.backends.canary }
    }
}

/// A peer that answers.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) peer: Peer,
    pub(crate) address: SocketAddr,
    pub(crate) versions: Versions,
    /// Absent without a proxy.
    pub(crate) tree: Option<Tree>,
}

impl Peer {
    /// Starts it, waits until it answers, and checks that requests with and without the header reach different backends.
    pub(crate) async fn start(self, setup: &Setup<'_>) -> anyhow::Result<Running> {
        let launch = match self {
            Self::Direct => {
                // Straight to the backend: what the client speaks, it speaks.
                let http2 = setup.versions.has_http2_client();
                let address = if http2 { setup.backends.canary_http2 } else { setup.backends.canary };
                return Ok(Running { peer: self, address, versions: setup.versions, tree: None });
            }
            Self::Weir => weir::launch(setup, &weir::Rules::of(setup))?,
            Self::Envoy => envoy::launch(setup)?,
            Self::Nginx => nginx::launch(setup)?,
            Self::Haproxy => haproxy::launch(setup)?,
        };
        let running = self.start_as(setup, &launch).await?;
        running.check_routing().await?;
        Ok(running)
    }

    /// Starts a launch made for it and waits until it answers.
    pub(crate) async fn start_as(self, setup: &Setup<'_>, launch: &Launch) -> anyhow::Result<Running> {
        let mut tree = Tree::start(launch, &self.to_string(), setup.directory)?;
        let deadline = Instant::now() + READY;
        loop {
            tree.check_alive().with_context(|| format!("{self} did not start"))?;
            match client::reached(setup.address, setup.versions, None).await {
                Ok(reached) if reached.status == 200 => break,
                seen if Instant::now() > deadline => {
                    let seen = seen.map_or_else(|error| error.to_string(), |seen| format!("status {}", seen.status));
                    bail!(
                        "{self} gave no good answer within {READY:?} ({seen}); its log ends with:\n{}",
                        tree.log_end()
                    );
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
        Ok(Running { peer: self, address: setup.address, versions: setup.versions, tree: Some(tree) })
    }

    /// The version line of the installed program; fails when it is not installed.
    pub(crate) fn version(self, weir: &Path) -> anyhow::Result<Option<String>> {
        let (program, argument) = match self {
            Self::Direct => return Ok(None),
            Self::Weir => (weir.to_owned(), "--version"),
            Self::Envoy => (envoy::program(), "--version"),
            Self::Nginx => (installed("nginx"), "-v"),
            Self::Haproxy => (installed("haproxy"), "-v"),
        };
        let run = Command::new(&program).arg(argument).output();
        let output =
            run.with_context(|| format!("run {} (tests/bench/install.sh installs the peers)", program.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown version");
        Ok(Some(match self {
            Self::Envoy => envoy::version(line),
            // HAProxy adds its address.
            _ => line.split_once(" - ").map_or(line, |(version, _)| version).to_owned(),
        }))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Weir => "weir",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        })
    }
}

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Running {
    /// Checks that requests with and without the header reach different backends.
    pub(crate) async fn check_routing(&self) -> anyhow::Result<()> {
        for (tag, expected) in [(None, "stable"), (Some("canary-user"), "canary"), (Some("canary-users"), "stable")] {
            let seen = client::reached(self.address, self.versions, tag).await;
            let seen = seen.with_context(|| format!("ask {}", self.peer))?;
            let reached = seen.backend.as_deref().unwrap_or("none");
            let peer = self.peer;
            ensure!(
                seen.status == 200 && reached == expected,
                "{peer} routes wrongly: status {} from backend {reached}, expected 200 from {expected}, for the tag {tag:?}",
                seen.status
            );
        }
        Ok(())
    }
}

/// An address on loopback that is free now; the proxy that is given it binds it next.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port on loopback")?;
    listener.local_addr().context("read the free port")
}

/// A program from `PATH`, or from where Debian puts servers, which is not on everyone's `PATH`.
fn installed(name: &str) -> PathBuf {
    let sbin = Path::new("/usr/sbin").join(name);
    if sbin.exists() { sbin } else { name.into() }
}
