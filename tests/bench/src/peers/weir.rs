//! Weir in front of one service, without eBPF: its settings file and the manifests of its rules folder.
//!
//! Everything that the benchmark knows of Weir's formats is here. The rules are what a user would write: plain Kubernetes
//! objects and `RouteRule`s.

use std::{
    fmt::Write as _,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{Plugin, Setup};
use crate::{backend::Addresses, process::Launch};

/// The folder of rules inside a setup's directory.
const RULES: &str = "rules";
/// The file of a [`Rules::many_with_probe`] folder whose rule [`point_probe`] changes.
const PROBE_FILE: &str = "probe.yaml";
/// The value of `x-user-tag` that the probe's rule matches.
pub(crate) const PROBE_TAG: &str = "reload-probe";

/// How the threads of its workers are named, before their numbers.
pub(crate) const WORKER_THREADS: &str = "weir-worker-";

/// Files of a rules folder at most; a node reads twice as many.
const MOST_FILES: usize = 10_000;

/// Files of a rules folder, by name.
#[derive(Debug)]
pub(crate) struct Rules(Vec<(String, String)>);

/// A service that requests or copies can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Stable,
    Canary,
}

impl To {
    pub(crate) fn host(self) -> &'static str {
        match self {
            Self::Stable => "web",
            Self::Canary => "web-canary",
        }
    }
}

impl Rules {
    /// The service, its canary, and the rule that the header decides by, for the versions of a setup.
    pub(crate) fn of(setup: &Setup<'_>) -> Self {
        let port = if setup.versions.has_http2_backend() { "h2c" } else { "http" };
        let mut rules = Self::decided_by_header(Self::services(setup.stable(), setup.canary(), port));
        if let Some(named) = setup.plugin {
            rules.add("plugin.yaml", plugin(named));
        }
        rules
    }

    /// The same in HTTP/1.1.
    fn header_route(backends: &Addresses) -> Self {
        Self::decided_by_header(Self::services(backends.stable, backends.canary, "http"))
    }

    fn decided_by_header(mut rules: Self) -> Self {
        rules.add("canary.yaml", rule("user-header-canary", "canary-user", To::Canary, None));
        rules
    }

    /// The same with every request to the canary mirrored to `target`, if there is one.
    pub(crate) fn mirrored(backends: &Addresses, target: Option<SocketAddr>) -> Self {
        let mut rules = Self::services(backends.stable, backends.canary, "http");
        if let Some(target) = target {
            rules.add("web-mirror.yaml", service("web-mirror", "10.96.0.12", target, "http"));
        }
        rules.add("canary.yaml", rule("user-header-canary", "canary-user", To::Canary, target.map(|_| "web-mirror")));
        rules
    }

    /// The header rule and others that match other users' tags: `count` rules, each in a file of its own as long as that
    /// is not more than a node reads.
    pub(crate) fn many(backends: &Addresses, count: usize) -> Self {
        let mut rules = Self::header_route(backends);
        let others: Vec<usize> = (1..count).collect();
        for several in others.chunks(count.div_ceil(MOST_FILES)) {
            let names = several.iter().map(|number| format!("user-{number}"));
            let text: Vec<_> = names.map(|name| rule(&name, &name, To::Canary, None)).collect();
            rules.add(&format!("user-{}.yaml", several[0]), text.join("---\n"));
        }
        rules
    }

    /// The same, and the probe's rule among them.
    pub(crate) fn many_with_probe(backends: &Addresses, count: usize) -> Self {
        let mut rules = Self::many(backends, count - 1);
        rules.add(PROBE_FILE, probe(To::Stable));
        rules
    }

    fn services(stable: SocketAddr, canary: SocketAddr, port: &str) -> Self {
        let web = service("web", "10.96.0.10", stable, port);
        let canary = service("web-canary", "10.96.0.11", canary, port);
        Self(vec![("web.yaml".to_owned(), web), ("web-canary.yaml".to_owned(), canary)])
    }

    fn add(&mut self, file: &str, text: String) {
        self.0.push((file.to_owned(), text));
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        self.0.iter().try_for_each(|(name, text)| fs::write(folder.join(name), text))
    }
}

/// Writes settings and rules; the process listens as the front of the service `default/web`, with one worker.
pub(crate) fn launch(setup: &Setup<'_>, rules: &Rules) -> anyhow::Result<Launch> {
    launch_workers(setup, rules, 1)
}

/// The same with so many workers and the header rule.
pub(crate) fn launch_several(setup: &Setup<'_>, workers: usize) -> anyhow::Result<Launch> {
    launch_workers(setup, &Rules::header_route(setup.backends), workers)
}

fn launch_workers(setup: &Setup<'_>, rules: &Rules, workers: usize) -> anyhow::Result<Launch> {
    let folder = setup.directory.join(RULES);
    rules.write(&folder).with_context(|| format!("write the rules folder {}", folder.display()))?;
    let path = setup.directory.join("weir.yaml");
    fs::write(&path, settings(setup, &folder, workers)).with_context(|| format!("write {}", path.display()))?;
    let args = ["node".into(), "--settings".into(), path.into()];
    Ok(Launch { program: setup.weir.to_owned(), args: args.into(), core: setup.core })
}

/// Changes the probe's rule in a running node's folder, in one step as editors and ConfigMap volumes do it.
pub(crate) fn point_probe(directory: &Path, to: To) -> anyhow::Result<()> {
    let folder = directory.join(RULES);
    // Outside the folder until it is complete, so that the watcher sees one event for one whole file.
    let new = directory.join("probe.new");
    fs::write(&new, probe(to))
        .and_then(|()| fs::rename(&new, folder.join(PROBE_FILE)))
        .context("change the probe's rule")
}

/// The binary beside this one, or in the project's target directory, the shipped profile first.
pub(crate) fn find() -> PathBuf {
    let beside = std::env::current_exe().unwrap_or_default();
    let target = beside.ancestors().nth(2).unwrap_or(Path::new("target")).to_owned();
    let candidates = ["dist", "release", "debug"].map(|profile| target.join(profile).join("weir"));
    candidates.iter().find(|path| path.exists()).unwrap_or(&candidates[0]).clone()
}

fn settings(setup: &Setup<'_>, folder: &Path, workers: usize) -> String {
    let Setup { directory, address, .. } = setup;
    format!(
        "workers: {workers}
admin:
  address: unix:{admin}
state: {state}
source:
  folder: {folder}
listeners:
  - address: {address}
    service: default/web
    port: 80
",
        admin = directory.join("admin.sock").display(),
        state = directory.join("state").display(),
        folder = folder.display(),
    )
}

fn probe(to: To) -> String {
    rule(PROBE_TAG, PROBE_TAG, to, None)
}

fn rule(name: &str, tag: &str, to: To, mirror: Option<&str>) -> String {
    let mut text = format!(
        "apiVersion: weir.dev/v1
kind: RouteRule
metadata:
  name: {name}
  namespace: default
spec:
  services: [web]
  match:
    headers:
      x-user-tag:
        exact: {tag}
  route:
    destination:
      host: {host}
      port: 80
",
        host = to.host(),
    );
    if let Some(host) = mirror {
        let _ = write!(
            text,
            "  mirror:
    destination:
      host: {host}
      port: 80
    percentage: 100
    methods: [GET, POST]
"
        );
    }
    text
}

fn plugin(plugin: Plugin<'_>) -> String {
    format!(
        "apiVersion: weir.dev/v1
kind: Plugin
metadata:
  name: bench
  namespace: default
spec:
  module:
    file: {module}
  services: [web]
  configuration: {configuration}
",
        module = plugin.module().display(),
        // JSON is YAML.
        configuration = serde_json::Value::from(plugin.configuration),
    )
}

fn service(name: &str, cluster_ip: &str, endpoint: SocketAddr, port_name: &str) -> String {
    let (address, port) = (endpoint.ip(), endpoint.port());
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: default
spec:
  clusterIP: {cluster_ip}
  ports:
    - name: {port_name}
      port: 80
      targetPort: {port}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  namespace: default
  labels:
    kubernetes.io/service-name: {name}
addressType: IPv4
endpoints:
  - addresses: [{address}]
    conditions:
      ready: true
ports:
  - name: {port_name}
    port: {port}
    protocol: TCP
"
    )
}
