//! A story: the lab, the folder of documents, the node process, and what a storyteller does with them.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use weir_lab::client::{Connection, Response, connect};
use weir_lab::server::Mode;
use weir_lab::{Lab, Layout, Place, Server, ServerSpec, ServiceSpec, manifests, remove_on_signals, sweep};

use crate::admin::Admin;
use crate::far::Far;
use crate::kernel::{Footprint, pinned_names, told};
use crate::node::NodeProcess;
use crate::settings::settings;
use crate::terrain::Terrain;
use crate::{Answer, curl, rule, server_program, until, until_within, weir};

/// Loading programs takes a tenth of a second; a busy machine makes it more.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(60);
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// The end of the log that a failing story prints.
const LOG_LINES: usize = 120;

/// A story under way. When it ends, everything it made is removed.
pub struct Story {
    /// The namespaces; use it for pods and addresses.
    pub lab: Lab,
    /// The node's HTTP API.
    pub admin: Admin,
    folder: tempfile::TempDir,
    node: Option<NodeProcess>,
    servers: Vec<(String, Server)>,
    services: Vec<ServiceSpec>,
    /// A label of the namespace `default`.
    label: Option<String>,
    settings: Value,
}

impl Story {
    /// Builds everything and waits until the node is ready.
    #[track_caller]
    #[must_use]
    pub fn begin(terrain: &Terrain) -> Self {
        let mut story = Self::prepare(terrain);
        story.start();
        story
    }

    /// Builds everything; the node does not run yet.
    #[track_caller]
    #[must_use]
    pub fn prepare(terrain: &Terrain) -> Self {
        sweep_all();
        remove_on_signals(sweep_beside);
        let lab = Lab::build(&terrain.spec).unwrap();
        let folder = tempfile::Builder::new().prefix(&format!("weir-e2e-{}-", lab.id)).tempdir().unwrap();
        fs::create_dir(folder.path().join("rules")).unwrap();
        let admin = Admin::at(folder.path().join("admin.sock"));
        let settings = settings(&lab, folder.path(), &terrain.settings);
        let (servers, services) = (Vec::new(), terrain.services.clone());
        let label = terrain.label.clone();
        let mut story = Self { lab, admin, folder, node: None, servers, services, label, settings };
        for (pod, mode, version) in &terrain.servers {
            story.serve(pod, *mode, version);
        }
        story.write_cluster();
        for (name, text) in &terrain.files {
            story.write(name, text);
        }
        story
    }

    /// The folder that holds rules, state, settings and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of documents.
    #[must_use]
    pub fn rules(&self) -> PathBuf {
        self.folder().join("rules")
    }

    // Servers.

    /// Starts a server on port 8080 of a pod, in place of the one that was there.
    #[track_caller]
    pub fn serve(&mut self, pod: &str, mode: Mode, version: &str) {
        self.silence(pod);
        let spec = ServerSpec::http(&server_program(), pod, 8080).version(version).mode(mode);
        self.servers.push((pod.to_owned(), self.lab.serve(pod, &spec).unwrap()));
    }

    /// Kills the server of a pod; its port refuses.
    pub fn silence(&mut self, pod: &str) {
        self.servers.retain(|(name, _)| name != pod);
    }

    /// Requests that a pod's server remembers, oldest first, at most 256.
    #[track_caller]
    #[must_use]
    pub fn seen(&self, pod: &str) -> Vec<Value> {
        match self.aside(pod, "GET", "/last?n=256") {
            Value::Array(requests) => requests,
            other => panic!("{pod} remembers {other}"),
        }
    }

    /// What a pod's server counted.
    #[track_caller]
    #[must_use]
    pub fn counted(&self, pod: &str) -> Value {
        self.aside(pod, "GET", "/count")
    }

    /// Makes a pod's server forget.
    #[track_caller]
    pub fn forget(&self, pod: &str) {
        self.aside(pod, "POST", "/forget");
    }

    /// Asks a server from the node itself, past every rule.
    #[track_caller]
    fn aside(&self, pod: &str, method: &str, path: &str) -> Value {
        let pod_itself = self.lab.pod(pod).unwrap();
        let node = if pod_itself.spec.on_remote { "remote" } else { "node" };
        let url = format!("http://{}:8080{path}", pod_itself.ip4());
        let answer = self.curl(node, &["-X", method, &url]);
        assert_eq!(answer.status, 200, "{pod}: {answer:?}");
        answer.json()
    }

    // Clients.

    /// curl in a place. A failing transfer is an answer, too.
    #[track_caller]
    #[must_use]
    pub fn curl(&self, from: impl Into<Place>, arguments: &[&str]) -> Answer {
        curl::curl(&self.lab, from, arguments)
    }

    /// `GET` by curl with headers: `200 v1`, `500 unresolved`, or curl's complaint.
    #[track_caller]
    #[must_use]
    pub fn get(&self, from: &str, url: &str, headers: &[&str]) -> String {
        let headers = headers.iter().flat_map(|header| ["-H", header]);
        let arguments: Vec<&str> = std::iter::once(url).chain(headers).collect();
        self.curl(from, &arguments).brief()
    }

    /// A connection from a place that stays open.
    #[track_caller]
    #[must_use]
    pub fn connect(&self, from: &str, to: &str) -> Connection {
        let to = socket_address(to);
        connect(&self.lab, from, to, COMMAND_LIMIT).unwrap_or_else(|error| panic!("{from} to {to}: {error}"))
    }

    // Documents.

    /// Writes a file of the folder in one step.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) {
        let draft = self.folder().join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, self.rules().join(name)).unwrap();
    }

    /// Writes a file and waits for the version that it makes.
    #[track_caller]
    pub fn apply(&self, name: &str, text: &str) -> Value {
        let before = self.admin.sequence();
        self.write(name, text);
        self.await_version_after(before)
    }

    /// Writes a rule to a file of its name and waits for its version.
    #[track_caller]
    pub fn apply_rule(&self, name: &str, spec: &str) -> Value {
        self.apply(&format!("{name}.yaml"), &rule(name, spec))
    }

    /// Removes a file and waits for the version that this makes.
    #[track_caller]
    pub fn remove(&self, name: &str) -> Value {
        let before = self.admin.sequence();
        fs::remove_file(self.rules().join(name)).unwrap();
        self.await_version_after(before)
    }

    /// Waits until a version after this one is in force, or fails with what was rejected.
    #[track_caller]
    pub fn await_version_after(&self, sequence: u64) -> Value {
        until("a new version", || {
            let now = self.admin.current();
            match now["sequence"].as_u64() {
                Some(newer) if newer > sequence => Ok(now),
                _ => Err(format!("{} is in force; rejected: {}", now["sequence"], self.admin.status()["rejected"])),
            }
        })
    }

    /// Waits until the content of the folder was refused, and returns what was wrong with it.
    #[track_caller]
    pub fn await_rejection(&self) -> Vec<Value> {
        until("a rejection", || {
            let status = self.admin.status();
            let diagnostics = status["rejected"]["diagnostics"].as_array().cloned().unwrap_or_default();
            if diagnostics.is_empty() { Err(status["rejected"].to_string()) } else { Ok(diagnostics) }
        })
    }

    /// Writes the lab's pods and services as they are now, for instance after [`Lab::add_pod`].
    #[track_caller]
    pub fn write_cluster(&self) {
        let mut text = manifests(&self.lab, &self.services).unwrap();
        if let Some(label) = &self.label {
            let own = "labels:\n    kubernetes.io/metadata.name: default\n";
            assert!(text.contains(own), "{text}");
            text = text.replace(own, &format!("{own}    {label}\n"));
        }
        self.write("cluster.yaml", &text);
    }

    /// Gives the namespace `default` another label, written in YAML, and waits for the version that this makes.
    #[track_caller]
    pub fn relabel(&mut self, label: &str) -> Value {
        let before = self.admin.sequence();
        self.label = Some(label.to_owned());
        self.write_cluster();
        self.await_version_after(before)
    }

    /// Changes the services; call [`Story::write_cluster`] to make them known.
    pub fn services(&mut self) -> &mut Vec<ServiceSpec> {
        &mut self.services
    }

    // The node.

    /// Starts the node and waits until it is ready.
    #[track_caller]
    pub fn start(&mut self) {
        self.launch();
        self.await_ready();
    }

    /// Starts the node and does not wait.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.node.is_none(), "the node runs already");
        self.node = Some(self.spawn(&[]));
    }

    /// Starts a node on the remote node as well, with the same documents, and waits until it is ready.
    #[track_caller]
    #[must_use]
    pub fn begin_far(&self, overlay: &Value) -> Far {
        Far::begin(&self.lab, &self.rules(), overlay)
    }

    fn spawn(&self, arguments: &[&str]) -> NodeProcess {
        let text = serde_json::to_string_pretty(&self.settings).unwrap();
        fs::write(self.folder().join("node.yaml"), text).unwrap();
        NodeProcess::start(&self.lab, "node", self.folder.path(), arguments)
    }

    /// Starts another process that takes over, and waits until the one before has ended; how it did.
    #[track_caller]
    pub fn take_over(&mut self) -> ExitStatus {
        let next = self.spawn(&["--take-over"]);
        let before = self.node.replace(next);
        let ended = before.unwrap().await_end();
        self.await_ready();
        ended
    }

    /// Starts another process beside the one that runs, and waits until it has failed; how it did.
    #[track_caller]
    pub fn fail_beside(&mut self, arguments: &[&str]) -> ExitStatus {
        self.spawn(arguments).await_end()
    }

    /// Waits until the node is ready.
    #[track_caller]
    pub fn await_ready(&mut self) {
        let admin = self.admin.clone();
        let node = self.node.as_mut().unwrap();
        until_within(READY_LIMIT, "the node is ready", || {
            if let Some(status) = node.ended() {
                panic!("the node ended by itself: {status}");
            }
            admin.ready()
        });
    }

    /// Changes the settings of the next start.
    pub fn overlay(&mut self, overlay: Value) {
        crate::settings::merge(&mut self.settings, overlay);
    }

    /// The node's process.
    #[track_caller]
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.node.as_ref().unwrap().pid()
    }

    /// Whether the node still runs.
    pub fn is_running(&mut self) -> bool {
        self.node.as_mut().is_some_and(|node| node.ended().is_none())
    }

    /// Sends the node a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.node.as_ref().unwrap().signal(signal);
    }

    /// Stops the node in order.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.node.take().unwrap().stop()
    }

    /// SIGKILL, and waits until the process is gone.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.node.take().unwrap().kill9();
    }

    /// Stops in order and starts again.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Resident memory of the node in bytes.
    #[track_caller]
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// What the node has allocated, in bytes: resident memory without the pages of its own file. How many of these are
    /// mapped depends on the build and on how the kernel happens to hold the file.
    #[track_caller]
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.memory("RssAnon:")
    }

    #[track_caller]
    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Processor time of the node so far.
    #[track_caller]
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Fields 14 and 15 (proc_pid_stat(5)) in ticks of 10 ms; counting begins behind the name.
        let fields = stat[stat.rfind(')').unwrap() + 2..].split(' ').skip(11).take(2);
        Duration::from_millis(fields.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
    }

    /// Everything that the node logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("node.log")).unwrap_or_default()
    }

    /// The lines of the access log so far.
    #[must_use]
    pub fn access_log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder().join("access.log")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until so many requests for this path are in the access log: their lines.
    #[track_caller]
    pub fn await_access(&self, path: &str, count: usize) -> Vec<Value> {
        until("lines of the access log", || {
            let lines = self.access_log();
            let found: Vec<Value> = lines.iter().filter(|line| line["path"] == path).cloned().collect();
            if found.len() >= count { Ok(found) } else { Err(format!("{} for {path} in {lines:#?}", found.len())) }
        })
    }

    /// Waits for a line of the log that contains all of these texts.
    #[track_caller]
    pub fn await_log(&self, parts: &[&str]) -> String {
        until("a line of the log", || {
            let log = self.log();
            let mut lines = log.lines();
            lines
                .find(|line| parts.iter().all(|part| line.contains(part)))
                .map(str::to_owned)
                .ok_or(format!("none has {parts:?}"))
        })
    }

    /// `weir` with these arguments in the node's namespace, asking this story's node.
    #[track_caller]
    #[must_use]
    pub fn weir(&self, arguments: &[&str]) -> Output {
        let mut command = self.lab.command("node", weir()).unwrap();
        command.args(arguments).env("WEIR_ADMIN", self.admin.address()).env("NO_COLOR", "1");
        weir_lab::run(command, b"", COMMAND_LIMIT).unwrap()
    }

    /// The JSON that `weir … --output json` prints.
    #[track_caller]
    #[must_use]
    pub fn weir_json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        let output = self.weir(&arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "weir {arguments:?}: {}\n{out}{err}", output.status);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("weir {arguments:?}: {error}\n{out}"))
    }

    /// What the node says about a request of a pod.
    #[track_caller]
    #[must_use]
    pub fn explain(&self, from: &str, url: &str, headers: &[&str]) -> Value {
        let described = json!({ "url": url, "method": "GET", "headers": headers, "from": from });
        self.admin.json("POST", "/api/v1/explain", Some(&described))
    }

    // The kernel.

    /// The directory of the node's pins.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        pins_of(self.settings["node"].as_str().unwrap())
    }

    /// Links and programs that the node has loaded.
    #[track_caller]
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        Footprint::read(&self.pins())
    }

    /// Names of the pinned links, also while some of them go away.
    #[must_use]
    pub fn footprint_names(&self) -> Vec<String> {
        pinned_names(&self.pins())
    }

    /// Standard output of a program that must succeed in a place, such as `ip` in a pod.
    #[track_caller]
    pub fn told(&self, place: impl Into<Place>, command: &[&str]) -> String {
        told(&self.lab, place, command)
    }

    fn tell_failure(&self) {
        let log = self.log();
        // A load's lines would push everything else out.
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("DEBUG weir::")).collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        let inside: String = self.places().map(|path| format!("  nsenter --net={path}\n")).collect();
        #[expect(clippy::print_stderr, reason = "for whoever reads why the test failed")]
        {
            eprintln!(
                "the node's last words:\n{tail}\n\nto step inside while the story is held in a debugger:\n{inside}"
            );
        }
    }

    fn places(&self) -> impl Iterator<Item = String> {
        let layout: &Layout = &self.lab;
        let pods = layout.pods().iter().map(|pod| pod.namespace.path.display().to_string());
        std::iter::once(layout.node().path.display().to_string()).chain(pods)
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_failure();
        }
        // Links of the lab's namespaces go with those; what is pinned or hangs on a cgroup does not.
        drop(self.node.take());
        let _ = fs::remove_dir_all(self.pins());
    }
}

pub(crate) fn pins_of(node: &str) -> PathBuf {
    Path::new("/sys/fs/bpf/weir").join(node)
}

/// Removes what stories of killed test processes left.
fn sweep_all() {
    sweep().unwrap();
    sweep_beside();
}

/// Removes what stories made beside their labs, once these are gone, whoever removed them: a lab that has no record is
/// no more.
fn sweep_beside() {
    let remove_left = |folder: &Path, prefix: &str, ends: &[&str]| {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = name.strip_prefix(prefix).map(|rest| rest.split('-').next().unwrap_or(rest));
            let is_ours = ends.iter().any(|end| name.ends_with(end));
            if is_ours && id.is_some_and(|id| !weir_lab::is_known(id)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    };
    remove_left(&std::env::temp_dir(), "weir-e2e-", &[""]);
    remove_left(&pins_of(""), "e2e-", &[""]);
    // Nodes with an identity have the names that the documents of their pods say.
    remove_left(&pins_of(""), "weir-", &["-node", "-remote"]);
    // Only when nothing is in it.
    let _ = fs::remove_dir(pins_of(""));
}

fn socket_address(text: &str) -> SocketAddr {
    let parsed = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 80)));
    parsed.unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Status and server of a response in one text: `200 v1`, `500 unresolved`.
#[must_use]
pub fn brief(response: &Response) -> String {
    let who = response.header("x-weir-cause").or(response.served_by());
    format!("{} {}", response.status, who.unwrap_or_default())
}
