//! What a lab consists of, once built: names, paths, addresses. It is written to the lab's
//! record, so that other processes find their way in. It owns nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::spec::PodSpec;

/// The names and addresses of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The lab's id.
    pub id: String,
    pub(crate) node: Namespace,
    pub(crate) remote: Option<Namespace>,
    pub(crate) pods: Vec<Pod>,
    /// Parent of the pods' cgroups, like `kubepods` on a real node. The node's own
    /// processes are outside of it.
    pub pods_cgroup: PathBuf,
    /// The node's addresses on its uplink; empty without a remote node.
    pub uplink: Vec<IpAddr>,
}

/// A network namespace and the cgroup of the processes that belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// As `ip netns` lists it.
    pub name: String,
    /// The file that holds it; `nsenter --net=<path>` steps inside.
    pub path: PathBuf,
    /// The cgroup v2 directory.
    pub cgroup: PathBuf,
    /// The address that others reach it by.
    pub ip4: Ipv4Addr,
    /// The same for IPv6, where the lab has it.
    pub ip6: Option<Ipv6Addr>,
    /// Addresses of pods that only exist as addresses: those behind the remote node.
    pub behind: Vec<IpAddr>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// As it was asked for.
    pub spec: PodSpec,
    /// Where it lives; `ip4` and `ip6` there are the pod's addresses.
    pub namespace: Namespace,
    /// The MAC address of its `eth0`.
    pub mac: String,
    /// The node's end of its link.
    pub host_link: String,
    /// Index of that link in the node's namespace.
    pub host_ifindex: u32,
}

impl Pod {
    /// The pod's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The IPv4 address of `eth0`.
    #[must_use]
    pub fn ip4(&self) -> Ipv4Addr {
        self.namespace.ip4
    }

    /// The IPv6 address of `eth0`, where the lab has IPv6.
    #[must_use]
    pub fn ip6(&self) -> Option<Ipv6Addr> {
        self.namespace.ip6
    }

    /// All addresses, IPv4 first.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        let six = self.namespace.ip6.map(IpAddr::from);
        std::iter::once(self.ip4().into()).chain(six).collect()
    }

    /// The `version` label.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.spec.labels.get("version").map(String::as_str)
    }

    /// The labels.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.spec.labels
    }
}

/// Somewhere in a lab. `"node"` and `"remote"` convert to those, other text to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The node itself.
    Node,
    /// The node behind the uplink.
    Remote,
    /// A pod, by name.
    Pod(String),
}

impl From<&str> for Place {
    fn from(text: &str) -> Self {
        match text {
            "node" => Self::Node,
            "remote" => Self::Remote,
            pod => Self::Pod(pod.to_owned()),
        }
    }
}

impl From<&String> for Place {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&Pod> for Place {
    fn from(pod: &Pod) -> Self {
        Self::Pod(pod.spec.name.clone())
    }
}

impl From<&Self> for Place {
    fn from(place: &Self) -> Self {
        place.clone()
    }
}

impl Layout {
    /// The node.
    #[must_use]
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// The remote node.
    ///
    /// # Errors
    /// [`LabError::NoRemote`] when the lab was built without one.
    pub fn remote(&self) -> Result<&Namespace, LabError> {
        let missing = || LabError::NoRemote(self.id.clone());
        self.remote.as_ref().ok_or_else(missing)
    }

    /// The node that a pod runs on.
    #[must_use]
    pub fn node_of(&self, pod: &Pod) -> &Namespace {
        self.remote.as_ref().filter(|_| pod.spec.on_remote).unwrap_or(&self.node)
    }

    /// All pods, in the order of their addresses.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// A pod by name.
    ///
    /// # Errors
    /// [`LabError::UnknownPod`], which lists the pods there are.
    pub fn pod(&self, name: &str) -> Result<&Pod, LabError> {
        let found = self.pods.iter().find(|p| p.spec.name == name);
        found.ok_or_else(|| LabError::UnknownPod {
            lab: self.id.clone(),
            name: name.to_owned(),
            known: self.pods.iter().map(Pod::name).collect::<Vec<_>>().join(", "),
        })
    }

    /// The namespace of a place.
    ///
    /// # Errors
    /// When the place does not exist in this lab.
    pub fn namespace(&self, place: impl Into<Place>) -> Result<&Namespace, LabError> {
        match place.into() {
            Place::Node => Ok(&self.node),
            Place::Remote => self.remote(),
            Place::Pod(name) => self.pod(&name).map(|pod| &pod.namespace),
        }
    }

    /// Every namespace of the lab.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        let pods = self.pods.iter().map(|pod| &pod.namespace);
        std::iter::once(&self.node).chain(&self.remote).chain(pods)
    }
}
