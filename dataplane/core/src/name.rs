//! Names of things, each its own type, so that a service can never be passed where a rule is meant.

use std::cell::RefCell;
use std::fmt;
use std::hash::BuildHasher as _;
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

/// The namespace a document without one belongs to, as in Kubernetes.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Names that were used a moment ago and are likely to be used again.
const REMEMBERED: usize = 256;

/// The text of a name. A configuration names the same kinds, namespaces and services again and again; where one was
/// named a moment ago on this thread, it is the same text and takes no more memory.
fn shared(text: &str) -> Arc<str> {
    thread_local! {
        static RECENT: RefCell<[Option<Arc<str>>; REMEMBERED]> = const { RefCell::new([const { None }; REMEMBERED]) };
    }
    let place = FixedState::default().hash_one(text) as usize % REMEMBERED;
    RECENT.with_borrow_mut(|recent| match &recent[place] {
        Some(known) if **known == *text => Arc::clone(known),
        _ => Arc::clone(recent[place].insert(text.into())),
    })
}

/// A service as the mesh knows it: `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceName {
    /// The namespace of the `Service` document.
    pub namespace: Arc<str>,
    /// Its `metadata.name`.
    pub name: Arc<str>,
}

impl ServiceName {
    /// A service name from its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: shared(namespace), name: shared(name) }
    }

    /// Its document.
    pub fn object(&self) -> ObjectName {
        ObjectName { kind: shared("Service"), namespace: Arc::clone(&self.namespace), name: Arc::clone(&self.name) }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Any document: its kind and where it is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// The Kubernetes kind, for example `RouteRule`.
    pub kind: Arc<str>,
    /// The namespace; empty for kinds that have none (`Namespace`).
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl ObjectName {
    /// An object name from its parts.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: shared(kind), namespace: shared(namespace), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// A cluster: one port of one service. Every set of endpoints in Weir is found under such a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterName {
    /// The service that has the endpoints.
    pub service: ServiceName,
    /// The service's port (not the endpoints' target port).
    pub port: u16,
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

/// The address that a client meant to reach, before interception: a service's virtual IP and port, as a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginalDst(pub SocketAddr);

/// The address of the other end of a downstream connection: the pod that connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddr(pub SocketAddr);
