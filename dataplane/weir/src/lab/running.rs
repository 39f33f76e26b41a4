//! A lab that runs: namespaces, servers, and the node as a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use weir_lab::{Lab, RunningLab, Server, ServerProgram, ServerSpec};

use super::terrain;
use crate::client::Node;
use crate::command::explain::compile_paths;
use crate::command::this_program;

/// How long a node may take until it is ready, on a slow and busy machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a node may take to stop in order, with requests under way.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

const FOLDER_PREFIX: &str = "weir-lab-";
const NODE_PREFIX: &str = "lab-";

/// A running lab; dropping it stops the node in order and removes everything.
pub(crate) struct Running {
    pub(crate) lab: Lab,
    pub(crate) folder: Folder,
    pub(crate) node: Node,
    /// `weir lab exec`, as the user would type it here, with the lab's id where there could be doubt.
    pub(crate) exec: String,
    process: Child,
    _servers: Vec<Server>,
}

impl Running {
    /// Builds the lab and waits until its node is ready.
    pub(crate) fn start(id: Option<String>, rules: Option<&Path>) -> anyhow::Result<Self> {
        sweep()?;
        let is_named = id.is_some() || !RunningLab::all()?.is_empty();
        let mut lab = Lab::build(&terrain::spec(id))?;
        let folder = Folder(folder_of(&lab.id));
        let documents = folder.join("rules");
        terrain::write_documents(&lab, &documents, rules)?;
        ensure_right(&documents)?;
        let servers = terrain::SERVERS.iter().map(|(pod, port, version)| {
            let program = ServerProgram::this(&["lab", "serve"])?;
            lab.serve(*pod, &ServerSpec::http(&program, pod, *port).version(version))
        });
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        let node = Node { admin: format!("unix:{}", folder.join("admin.sock").display()) };
        let settings = folder.join("node.yaml");
        std::fs::write(&settings, settings_text(&lab, &folder, &node))?;
        let process = spawn_node(&lab, &settings, &folder)?;
        lab.note("admin", &node.admin)?;
        let exec = format!(
            "{} lab exec{}",
            this_program(),
            if is_named { format!(" --id {}", lab.id) } else { String::new() }
        );
        let mut running = Self { lab, folder, node, exec, process, _servers: servers };
        running.await_ready()?;
        Ok(running)
    }

    /// The folder of documents that the node follows.
    pub(crate) fn rules(&self) -> PathBuf {
        self.folder.join("rules")
    }

    fn await_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("the node ended ({status}); it said:\n{}", self.log_tail());
            }
            if matches!(self.node.call(http::Method::GET, "/readyz", None), Ok((status, _)) if status.is_success()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the node is not ready after {READY_WITHIN:?}; it said:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The last lines that the node logged.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("node.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn stop_node(&mut self) -> anyhow::Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.process.id())?);
        if self.process.try_wait()?.is_none() {
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        }
        let deadline = Instant::now() + STOPPED_WITHIN;
        while self.process.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.process.kill()?;
                self.process.wait()?;
                bail!("the node did not stop within {STOPPED_WITHIN:?} and was killed");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Stops the node in order and removes the lab; says what could not be removed.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.stop_node()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.stop_node() {
            tracing::warn!(%error, "the lab's node");
        }
    }
}

/// The folder of a lab: documents, state, settings and log of its node. It goes with its owner, also when the lab was
/// not built to its end.
pub(crate) struct Folder(PathBuf);

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder_of(id: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{FOLDER_PREFIX}{id}"))
}

/// That a node would take these documents: one that cannot would only be waited for.
fn ensure_right(documents: &Path) -> anyhow::Result<()> {
    let errors: Vec<String> = compile_paths(&[documents.to_owned()])?
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .map(ToString::to_string)
        .collect();
    ensure!(errors.is_empty(), "a node would refuse the documents:\n{}", errors.join("\n"));
    Ok(())
}

/// Removes what labs of killed processes left: namespaces, folders, pinned programs. Somebody else may have removed a
/// lab's namespaces and its record already, and knows nothing of the rest: a lab without a record is no more.
fn sweep() -> anyhow::Result<()> {
    weir_lab::sweep()?;
    let remove_left = |folder: &Path, prefix: &str| {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix(prefix));
            if id.is_some_and(|id| !weir_lab::is_known(id)) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    };
    remove_left(&std::env::temp_dir(), FOLDER_PREFIX);
    remove_left(Path::new("/sys/fs/bpf/weir"), NODE_PREFIX);
    Ok(())
}

fn node_name(id: &str) -> String {
    format!("{NODE_PREFIX}{id}")
}

fn settings_text(lab: &Lab, folder: &Path, node: &Node) -> String {
    let (folder, cgroup) = (folder.display(), lab.pods_cgroup.display());
    format!(
        "# The settings of the lab's node; docs/settings.md tells about each.\n\
         node: {name}\n\
         state: {folder}/state\n\
         source: {{folder: {folder}/rules}}\n\
         admin: {{address: \"{admin}\"}}\n\
         interception: {{bridge: cni0, cgroup: \"{cgroup}\", fail: closed}}\n\
         proxy: {{accessLog: {{path: {folder}/access.log}}}}\n\
         log: {{filter: \"info,weir::ebpf=debug\"}}\n",
        name = node_name(&lab.id),
        admin = node.admin,
    )
}

fn spawn_node(lab: &Lab, settings: &Path, folder: &Path) -> anyhow::Result<Child> {
    use std::os::unix::process::CommandExt as _;
    let log = std::fs::File::create(folder.join("node.log"))?;
    let mut command = lab.command("node", std::env::current_exe()?)?;
    // Ctrl-C on the terminal is for the lab, which then stops the node in order.
    command
        .args(["node", "--settings"])
        .arg(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0);
    lab.spawn(command).context("cannot start the node")
}
