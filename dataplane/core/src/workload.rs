//! Workloads: the pods of the mesh as the source of a request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::authorization::{Guard, Principal};
use crate::name::ServiceName;

/// The trust domain of a mesh that names none.
pub const TRUST_DOMAIN: &str = "cluster.local";

/// A pod as the mesh knows it. On this node the source address of its packets is checked in the kernel, so that an
/// address is as good as the name.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// Name of the pod.
    pub name: Arc<str>,
    /// What it is one of: its label `app.kubernetes.io/name`, `app` or `k8s-app`, else its own name.
    pub app: Arc<str>,
    /// The label that says so, and its value, if it has one.
    pub app_label: Option<(Arc<str>, Arc<str>)>,
    /// The service account it runs as.
    pub service_account: Arc<str>,
    /// Who it is for others.
    pub principal: Principal,
    /// Who may reach it; none where that is everybody, as with every workload outside the mesh.
    pub guard: Option<Arc<Guard>>,
    /// Value of its `version` label (or `app.kubernetes.io/version`).
    pub version: Option<Arc<str>>,
    /// All its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether its traffic is intercepted.
    pub enrolment: Enrolment,
    /// The node it runs on, where documents say so.
    pub node: Option<Arc<str>>,
    /// How it is reached from other nodes; none where the mesh does not care.
    pub mtls: Option<Mtls>,
}

/// How a workload of the mesh is reached from other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mtls {
    /// At ports of which nothing else is said.
    pub mode: MtlsMode,
    /// At these ports.
    pub ports: BTreeMap<u16, MtlsMode>,
}

/// Whether connections from other nodes come in tunnels of mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MtlsMode {
    /// They do. Others are kept out.
    Strict,
    /// They do where the client can. Others are let in, and told of.
    Permissive,
    /// They do not.
    Disabled,
}

impl Mtls {
    /// The same at all ports.
    pub fn all(mode: MtlsMode) -> Self {
        Self { mode, ports: BTreeMap::new() }
    }

    /// At a port.
    pub fn at(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }
}

/// Whether the traffic of a workload is the mesh's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// Intercepted and policed.
    Enrolled,
    /// Left alone.
    Outside,
}

impl Workload {
    /// A pod that is enrolled, of which nothing else is known, in the trust domain that meshes have that name none.
    pub fn new(namespace: &Arc<str>, name: &Arc<str>, service_account: &str) -> Self {
        Self {
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
            app: Arc::clone(name),
            app_label: None,
            service_account: service_account.into(),
            principal: Principal::new(TRUST_DOMAIN, namespace, service_account),
            guard: None,
            version: None,
            addresses: Vec::new(),
            enrolment: Enrolment::Enrolled,
            node: None,
            mtls: None,
        }
    }

    /// Whether connections to it from this node go in a tunnel: it is a workload of the mesh that runs on another. One of which
    /// nobody says where it runs is taken for one of this node.
    pub fn is_tunnelled_from(&self, node: &str, port: u16) -> bool {
        self.is_elsewhere(node) && self.mtls.as_ref().is_some_and(|mtls| mtls.at(port) != MtlsMode::Disabled)
    }

    /// Whether it runs on another node than this.
    pub fn is_elsewhere(&self, node: &str) -> bool {
        self.node.as_deref().is_some_and(|own| own != node)
    }

    /// Whether tunnels to it are accepted on this node.
    pub fn accepts_tunnels_on(&self, node: &str) -> bool {
        !self.is_elsewhere(node) && self.mtls.is_some()
    }

    /// The identity that policy and sticky splits use: namespace and service account.
    pub fn identity(&self) -> ServiceAccount {
        ServiceAccount(ServiceName { namespace: self.namespace.clone(), name: self.service_account.clone() })
    }
}

/// A service account, the part of a workload that is the same for all its replicas.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccount(ServiceName);

impl std::fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ns/{}/sa/{}", self.0.namespace, self.0.name)
    }
}
