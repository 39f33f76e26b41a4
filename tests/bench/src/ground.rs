//! What all cases of a run stand on: cores, directory, backend process, and the measuring of one load.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    backend::Addresses,
    h2load, machine,
    options::Options,
    paced,
    peers::{Peer, Running, Setup, Versions, free_address},
    process::{Launch, Tree},
    report::{Figures, metric},
    stats::Shuffle,
    wrk,
};

/// The core of the proxy under test, alone there.
const PROXY_CORE: usize = 1;
/// The core of the load generator and the backend.
const LOAD_CORE: usize = 0;
/// How long the backend may take to bind its ports.
const BACKEND_READY: Duration = Duration::from_secs(10);
/// How much longer than its load, drain included, the paced generator may run.
const GRACE: Duration = Duration::from_secs(15);

/// The ground of one run; dropping it ends the backend and removes the directory.
pub(crate) struct Ground {
    pub(crate) options: Options,
    pub(crate) backends: Addresses,
    pub(crate) shuffle: Shuffle,
    pub(crate) weir: PathBuf,
    directory: TempDir,
    backend: Child,
}

impl Ground {
    pub(crate) async fn prepare(options: Options, weir: PathBuf, seed: u64) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        ensure!(cores >= 2, "the proxy needs a core of its own, and this machine offers {cores}");
        let directory =
            tempfile::Builder::new().prefix("weir-bench-").tempdir().context("make a directory for the run")?;
        let launch = Launch { program: this_program()?, args: vec!["backend".into()], core: LOAD_CORE };
        let mut command = Command::from(launch.command());
        let mut backend = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the backend")?;
        let out = backend.stdout.take().context("the backend's output")?;
        let mut lines = BufReader::new(out).lines();
        let line = timeout(BACKEND_READY, lines.next_line()).await.context("the backend bound no ports in time")?;
        let line = line.context("read the backend's addresses")?.context("the backend ended before it was ready")?;
        let backends = serde_json::from_str(&line).context("understand the backend's addresses")?;
        Ok(Self { options, backends, shuffle: Shuffle::new(seed), weir, directory, backend })
    }

    /// Ends the backend and waits for it. Merely dropping the ground kills it.
    pub(crate) async fn close(mut self) -> anyhow::Result<Options> {
        drop(self.backend.stdin.take());
        let ended = timeout(BACKEND_READY, self.backend.wait()).await.context("the backend did not end")?;
        ensure!(ended.context("wait for the backend")?.success(), "the backend failed while it was measured against");
        Ok(self.options)
    }

    /// A directory of its own for one proxy.
    pub(crate) fn directory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }

    /// Starts the chosen peers; those without a proxy of their own only when `with_direct`.
    pub(crate) async fn start_peers(
        &self,
        case: &str,
        versions: Versions,
        skip: &[Peer],
    ) -> anyhow::Result<Vec<Running>> {
        let mut running = Vec::new();
        for peer in self.options.peers.iter().filter(|peer| !skip.contains(peer)) {
            let directory = self.directory(&format!("{case}-{peer}"))?;
            running.push(peer.start(&Setup { versions, ..self.setup(&directory)? }).await?);
        }
        Ok(running)
    }

    /// A setup with a free address of its own.
    pub(crate) fn setup<'a>(&'a self, directory: &'a std::path::Path) -> anyhow::Result<Setup<'a>> {
        Ok(Setup {
            versions: Versions::Http1,
            directory,
            address: free_address()?,
            backends: &self.backends,
            core: PROXY_CORE,
            weir: &self.weir,
            plugin: None,
        })
    }

    /// Measures a closed load through a peer.
    pub(crate) async fn closed(&self, running: &Running, load: &wrk::Load, seconds: u64) -> anyhow::Result<Figures> {
        let before = Before::look(running)?;
        let seen = wrk::run(load, running.address, LOAD_CORE, seconds, self.directory.path()).await?;
        let mut figures = Figures::default();
        figures.failed = seen.status + seen.connect + seen.read + seen.write + seen.timeout;
        figures.put(metric::RATE, seen.requests as f64 * 1e6 / seen.duration);
        figures.put(metric::P50, seen.p50);
        figures.put(metric::P99, seen.p99);
        before.compare(running, seen.requests, &mut figures)?;
        Ok(figures)
    }

    /// Measures a closed load in HTTP/2 through a peer.
    pub(crate) async fn closed_http2(
        &self,
        running: &Running,
        load: h2load::Load,
        seconds: u64,
    ) -> anyhow::Result<Figures> {
        let before = Before::look(running)?;
        let seen = h2load::run(load, running.address, LOAD_CORE, seconds, self.directory.path()).await?;
        let mut figures = Figures::default();
        figures.failed = seen.failed;
        figures.put(metric::RATE, seen.per_second);
        before.compare(running, seen.requests, &mut figures)?;
        Ok(figures)
    }

    /// Measures a paced load through a peer.
    pub(crate) async fn paced(&self, running: &Running, load: &PacedLoad) -> anyhow::Result<Figures> {
        let before = Before::look(running)?;
        let seen = self.start_paced(running, load, false)?.finish(load.time).await?;
        let mut figures = Figures::default();
        figures.failed = seen.refused + seen.broken;
        figures.put(metric::RATE, seen.due as f64 / seen.seconds);
        figures.put(metric::P50, seen.p50);
        figures.put(metric::P99, seen.p99);
        figures.put(metric::LATE, seen.late_p99);
        before.compare(running, seen.due, &mut figures)?;
        Ok(figures)
    }

    /// Starts a paced load that can be ended early.
    pub(crate) fn start_paced(&self, running: &Running, load: &PacedLoad, until_eof: bool) -> anyhow::Result<PacedRun> {
        let kind = match load.kind {
            paced::Kind::Get => "get",
            paced::Kind::Post16k => "post16k",
        };
        let mut args = vec!["paced-load".to_owned(), "--kind".to_owned(), kind.to_owned()];
        args.extend(["--address".to_owned(), running.address.to_string(), "--rate".to_owned(), load.rate.to_string()]);
        args.extend(["--milliseconds".to_owned(), load.time.as_millis().to_string()]);
        if until_eof {
            args.push("--until-eof".to_owned());
        }
        let launch =
            Launch { program: this_program()?, args: args.into_iter().map(Into::into).collect(), core: LOAD_CORE };
        let mut command = Command::from(launch.command());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        Ok(PacedRun(child.context("start the paced load")?))
    }
}

/// A paced load as the cases ask for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PacedLoad {
    pub(crate) kind: paced::Kind,
    /// Requests per second.
    pub(crate) rate: u32,
    pub(crate) time: Duration,
}

/// A paced load that runs.
pub(crate) struct PacedRun(Child);

impl PacedRun {
    /// Waits for its end and reads what it saw.
    pub(crate) async fn finish(mut self, time: Duration) -> anyhow::Result<paced::Outcome> {
        let mut out = self.0.stdout.take().context("the generator's output")?;
        let mut text = String::new();
        timeout(time + GRACE, out.read_to_string(&mut text)).await.context("the paced load did not end")??;
        serde_json::from_str(&text).context("the paced load failed before it had an outcome")
    }

    /// Ends it early.
    pub(crate) async fn stop(mut self) -> anyhow::Result<paced::Outcome> {
        drop(self.0.stdin.take());
        self.finish(Duration::ZERO).await
    }
}

struct Before {
    cpu: Option<Duration>,
    at: Instant,
}

impl Before {
    fn look(running: &Running) -> anyhow::Result<Self> {
        Ok(Self { cpu: running.tree.as_ref().map(Tree::cpu).transpose()?, at: Instant::now() })
    }

    fn compare(self, running: &Running, requests: u64, figures: &mut Figures) -> anyhow::Result<()> {
        let (Some(tree), Some(before)) = (&running.tree, self.cpu) else { return Ok(()) };
        let used = tree.cpu()?.saturating_sub(before).as_secs_f64();
        figures.put(metric::CPU, used * 1e6 / requests.max(1) as f64);
        figures.put(metric::BUSY, used * 100.0 / self.at.elapsed().as_secs_f64());
        figures.put(metric::RESIDENT, tree.resident_kib()? as f64 / 1024.0);
        Ok(())
    }
}

fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe()
        .with_context(|| format!("find this program (built in {})", machine::project_root().display()))
}
