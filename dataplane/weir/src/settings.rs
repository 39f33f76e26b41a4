//! The settings of `weir node`: what describes this process (addresses, workers, sources, limits, fail mode), as
//! opposed to documents, which describe the mesh.

mod identity;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use weir_core::name::{DEFAULT_NAMESPACE, ServiceName};

pub(crate) use identity::Identity;

/// Where settings are looked for when `--settings` is not given.
pub(crate) const DEFAULT_PATH: &str = "/etc/weir/node.yaml";

/// One YAML file. Every field but `source.folder` has a default, and one of `interception`, `listeners` and
/// `proxy.gateways` must be there; unknown fields are errors.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Settings {
    /// Name of the node; tells nodes apart in the BPF file system, and `weir status` shows it. Default: `node`.
    #[serde(default = "default_node")]
    pub(crate) node: String,
    /// The zone of the node, as endpoint slices name zones; for services that prefer what is near. Default: none.
    #[serde(default)]
    pub(crate) zone: Option<String>,
    /// Folder for what must survive a restart: the version log. Default: `/var/lib/weir`.
    #[serde(default = "default_state")]
    pub(crate) state: PathBuf,
    /// Where documents come from.
    pub(crate) source: Source,
    /// Threads that serve requests, 1 to 256. Default: one per processor.
    #[serde(default)]
    pub(crate) workers: Option<u16>,
    /// Where the HTTP API listens: `IP:PORT` or `unix:/path`. Default: `127.0.0.1:15021`.
    #[serde(default)]
    pub(crate) admin: Admin,
    /// Interception by eBPF. Absent: none; only `listeners` and gateways take traffic.
    #[serde(default)]
    pub(crate) interception: Option<Interception>,
    /// Addresses that stand for one port of a service each, for hosts without interception. Default: none.
    #[serde(default)]
    pub(crate) listeners: Vec<Listener>,
    /// Who vouches for the workloads of this node. Absent: nobody; then there are no tunnels between nodes.
    #[serde(default)]
    pub(crate) identity: Option<Identity>,
    /// Limits of the data path.
    #[serde(default)]
    pub(crate) proxy: ProxyLimits,
    /// What concerns plugins.
    #[serde(default)]
    pub(crate) plugins: Plugins,
    /// How many revisions the version log keeps, 1 to 10,000. Default: 100.
    #[serde(default = "default_revisions")]
    pub(crate) revisions: usize,
    /// What is logged and how.
    #[serde(default)]
    pub(crate) log: Log,
}

/// Limits of the data path; `docs/settings.md` lists every field.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ProxyLimits {
    /// What concerns the listeners of gateways.
    pub(crate) gateways: Option<weir_proxy::Gateways>,
    /// Of clients' connections.
    pub(crate) downstream: weir_proxy::Downstream,
    /// Of connections to endpoints.
    pub(crate) upstream: weir_proxy::Upstream,
    /// Of mirrored copies.
    pub(crate) mirror: weir_proxy::MirrorLimits,
    /// Of bodies that are kept for further tries.
    pub(crate) retry: weir_proxy::RetryLimits,
    /// Whether traces begin here.
    pub(crate) tracing: weir_proxy::Tracing,
    /// The access log. Default: none.
    pub(crate) access_log: Option<weir_proxy::AccessLog>,
    /// How long requests under way may take when the node stops, in milliseconds. Default: 10,000.
    pub(crate) drain_ms: DrainTime,
}

/// A drain time with its default.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct DrainTime(pub(crate) u64);

impl Default for DrainTime {
    fn default() -> Self {
        Self(10_000)
    }
}

/// Where documents come from. One source for now: a folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Source {
    /// A folder of Kubernetes manifests, with its subfolders.
    pub(crate) folder: PathBuf,
    /// How often the folder's content is checked besides its events, in milliseconds, 100 to 3,600,000. Default: 5,000.
    #[serde(default = "default_check")]
    pub(crate) check_every_ms: u64,
}

/// The address of the HTTP API.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Admin {
    /// `IP:PORT` or `unix:/path`.
    pub(crate) address: String,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: crate::client::DEFAULT_ADDRESS.to_owned() }
    }
}

/// What concerns plugins.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Plugins {
    /// What the files that `Plugin` documents name are below. Default: `source.folder`.
    pub(crate) folder: Option<PathBuf>,
    /// Registries that need more than their names.
    pub(crate) registries: Vec<weir_plugin_modules::Registry>,
    /// A file with the certificates (PEM) of the authorities that modules are fetched by. Default: the host's.
    pub(crate) authorities: Option<PathBuf>,
}

/// An address that stands for one port of a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Listener {
    /// Where to listen.
    pub(crate) address: SocketAddr,
    /// The service, `namespace/name` or `name`.
    pub(crate) service: String,
    /// The service's port.
    pub(crate) port: u16,
}

impl Listener {
    fn service(&self) -> weir_proxy::ServiceListener {
        let (namespace, name) = self.service.split_once('/').unwrap_or((DEFAULT_NAMESPACE, &self.service));
        weir_proxy::ServiceListener {
            address: self.address,
            service: ServiceName::new(namespace, name),
            port: self.port,
        }
    }
}

/// Interception by eBPF.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Interception {
    /// The bridge that the pods' links are ports of. Default: `cni0`, as K3s calls it.
    #[serde(default = "default_bridge")]
    pub(crate) bridge: String,
    /// Links to other nodes. Default: none.
    #[serde(default)]
    pub(crate) uplinks: Vec<String>,
    /// Where the BPF file system is, or is to be mounted. Default: `/sys/fs/bpf`.
    #[serde(default = "default_bpffs")]
    pub(crate) bpffs: PathBuf,
    /// The cgroup (v2) of the pods, for balancing plain services when a pod connects. Absent: left to kube-proxy.
    #[serde(default)]
    pub(crate) cgroup: Option<PathBuf>,
    /// What happens to intercepted traffic while no proxy runs. Default: `closed`.
    #[serde(default)]
    pub(crate) fail: FailMode,
    /// What an orderly stop leaves in the kernel. Default: `detach`.
    #[serde(default)]
    pub(crate) on_stop: OnStop,
}

/// What happens to traffic that a rule concerns while no proxy runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FailMode {
    /// New connections wait (their first packet is dropped and sent again by the client) until the proxy is back.
    #[default]
    Closed,
    /// New connections go where they would go without Weir.
    Open,
}

/// What an orderly stop leaves in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum OnStop {
    /// Nothing: pods are as if Weir had never run.
    #[default]
    Detach,
    /// The programs, which apply the fail mode until a node starts again: for upgrades.
    Keep,
}

/// What is logged and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Log {
    /// Levels by target, for example `info,weir::ebpf=debug`. Default: `info`.
    pub(crate) filter: String,
    /// `text` for people or `json` for collectors. Default: `text`.
    pub(crate) format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For collectors.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

fn default_node() -> String {
    "node".to_owned()
}

fn default_state() -> PathBuf {
    PathBuf::from("/var/lib/weir")
}

fn default_revisions() -> usize {
    100
}

fn default_check() -> u64 {
    5_000
}

fn default_bridge() -> String {
    "cni0".to_owned()
}

fn default_bpffs() -> PathBuf {
    PathBuf::from("/sys/fs/bpf")
}

impl Settings {
    /// Reads and checks a settings file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read the settings {}; name another file with --settings", path.display())
        })?;
        let settings = Self::parse(&text).with_context(|| format!("in the settings {}", path.display()))?;
        Ok(settings)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        // The error names the field, the line and the column.
        let settings: Self = serde_yaml::from_str(text)?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> anyhow::Result<()> {
        let mut wrong = Vec::new();
        let name_is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        if self.node.is_empty() || self.node.len() > 63 || !self.node.bytes().all(name_is_fine) {
            wrong.push("node: 1 to 63 letters, digits, - or .".to_owned());
        }
        if self.workers.is_some_and(|workers| !(1..=256).contains(&workers)) {
            wrong.push("workers: 1 to 256".to_owned());
        }
        if !(1..=10_000).contains(&self.revisions) {
            wrong.push("revisions: 1 to 10,000".to_owned());
        }
        if !(100..=3_600_000).contains(&self.source.check_every_ms) {
            wrong.push("source.checkEveryMs: 100 to 3,600,000".to_owned());
        }
        if self.interception.is_none() && self.listeners.is_empty() && self.proxy.gateways.is_none() {
            let message = "neither interception, listeners nor proxy.gateways: nothing would ever reach this node";
            wrong.push(message.to_owned());
        }
        self.identity.iter().for_each(|identity| identity.check(&mut wrong));
        let has_no_uplinks = self.interception.as_ref().is_some_and(|interception| interception.uplinks.is_empty());
        if self.identity.is_some() && has_no_uplinks {
            wrong.push(
                "interception.uplinks: with an identity, the links that tunnels of other nodes come by".to_owned(),
            );
        }
        anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    /// What the files of plugins are below.
    pub(crate) fn plugins_folder(&self) -> &Path {
        self.plugins.folder.as_ref().unwrap_or(&self.source.folder)
    }

    /// What concerns gateways; on a host without IPv6 all of its addresses are those of IPv4.
    fn gateways(&self, has_ipv6: bool) -> weir_proxy::Gateways {
        let mut gateways = self.proxy.gateways.clone().unwrap_or_default();
        gateways.addresses.retain(|ip| has_ipv6 || *ip != Ipv6Addr::UNSPECIFIED);
        gateways
    }

    /// Whether plain services are balanced when a pod connects.
    pub(crate) fn balances(&self) -> bool {
        self.interception.as_ref().is_some_and(|interception| interception.cgroup.is_some())
    }

    /// The settings of the proxy, with transparent listeners where there is interception.
    pub(crate) fn proxy(&self) -> weir_proxy::Settings {
        let has_ipv6 = Path::new("/proc/net/if_inet6").exists();
        let transparent = self.interception.is_some();
        weir_proxy::Settings {
            // 0 is one for each processor.
            workers: self.workers.unwrap_or(0),
            transparent: weir_proxy::Transparent { ipv4: transparent, ipv6: transparent && has_ipv6 },
            services: self.listeners.iter().map(Listener::service).collect(),
            mark: if transparent { weir_kernel::MARK_PROXY } else { 0 },
            locality: weir_proxy::Locality { node: Some(self.node.clone()), zone: self.zone.clone() },
            gateways: self.gateways(has_ipv6),
            downstream: self.proxy.downstream.clone(),
            upstream: self.proxy.upstream.clone(),
            mirror: self.proxy.mirror.clone(),
            retry: self.proxy.retry.clone(),
            tracing: self.proxy.tracing.clone(),
            access_log: self.proxy.access_log.clone(),
            identity: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), &str>) {
        let found = Settings::parse(text).map(drop).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn settings_say_what_is_wrong_and_where() {
        check("source: {folder: /r}\ninterception: {}", Ok(()));
        check("source: {folder: /r}\ninterception: {fail: open, onStop: keep}\nworkers: 2", Ok(()));
        check(
            "source: {folder: /r}\ninterception: {fail: ajar}",
            Err("interception.fail: unknown variant `ajar`, expected `closed` or `open` at line 2 column 22"),
        );
        let identity = "source: {folder: /r}\ninterception: {uplinks: [eth0]}\nidentity: ";
        let authority = "authority: {folder: /a, passphrase: /p}";
        check(&format!("{identity}{{{authority}}}"), Ok(()));
        check(&format!("{identity}{{files: {{folder: /a}}, trustDomain: edge.example, workload: a/b}}"), Ok(()));
        check(&format!("{identity}{{}}"), Err("identity: one of authority and files"));
        check(
            &format!(
                "source: {{folder: /r}}\ninterception: {{}}\nidentity: {{{authority}, trustDomain: A, workload: a}}"
            ),
            Err(
                "identity.trustDomain: 1 to 255 lower-case letters, digits, `.`, `-`, `_`; identity.workload: NAMESPACE/SERVICE-ACCOUNT; interception.uplinks: with an identity, the links that tunnels of other nodes come by",
            ),
        );
        check(
            "node: a/b\nworkers: 0\nsource: {folder: /r}",
            Err(
                "node: 1 to 63 letters, digits, - or .; workers: 1 to 256; neither interception, listeners nor proxy.gateways: nothing would ever reach this node",
            ),
        );
    }
}
