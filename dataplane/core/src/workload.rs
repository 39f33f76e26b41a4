//! Workloads: the pods of the mesh as the source of a request.

use std::net::IpAddr;
use std::sync::Arc;

use crate::authorization::{Guard, Principal};
use crate::name::ServiceName;

/// The trust domain of identities.
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
    /// A pod that is enrolled, of which nothing else is known.
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
        }
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
