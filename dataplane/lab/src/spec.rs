//! What a lab shall look like, as its user describes it, and the check of that description.
//! Nothing here touches the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::LabError;

/// The address plan gives each kind of link one /24; .1 is the node, .255 the broadcast.
const MAX_PODS: usize = 200;
/// Keeps every name derived from it readable and within kernel limits.
const MAX_ID: usize = 12;
const MAX_NAME: usize = 63;

/// A lab to build.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Lower-case letters and digits, at most 12; `None` takes a free random one.
    pub id: Option<String>,
    /// The pods, in the order of their addresses.
    pub pods: Vec<PodSpec>,
    /// Adds a second node behind a routed link (the node's `eth0`, with its default route).
    /// Without it the node has no route but those to its pods.
    pub remote: bool,
    /// Gives everything an IPv6 address beside the IPv4 one.
    pub ipv6: bool,
    /// Virtual addresses translated by nft as kube-proxy does it.
    pub kube_proxy: Vec<DnatRule>,
    /// The node's packet filter settings.
    pub tuning: Tuning,
    /// Further sysctls of the node's namespace (`net.` keys), set last, in this order.
    pub sysctls: Vec<(String, String)>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            id: None,
            pods: Vec::new(),
            remote: false,
            ipv6: true,
            kube_proxy: Vec::new(),
            tuning: Tuning::default(),
            sysctls: Vec::new(),
        }
    }
}

impl Spec {
    /// A dual-stack lab with these pods, all in the mesh.
    pub fn with_pods<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { pods: names.into_iter().map(PodSpec::new).collect(), ..Self::default() }
    }
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// A DNS label, unique in the lab; `node` and `remote` are taken.
    pub name: String,
    /// The Kubernetes namespace.
    pub namespace: String,
    /// Labels, among them `version` where the pod has one.
    pub labels: BTreeMap<String, String>,
    /// The service account, which becomes part of the pod's identity.
    pub service_account: String,
    /// Written to the annotation `weir.dev/mesh`.
    pub in_mesh: bool,
    /// How the pod hangs on the node.
    pub link: Link,
    /// Whether it runs on the remote node, which has a bridge of its own for such pods.
    #[serde(default)]
    pub on_remote: bool,
}

impl PodSpec {
    /// A pod in the mesh, in namespace `default`, with the label `app: <name>`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            service_account: "default".to_owned(),
            in_mesh: true,
            link: Link::Bridge,
            on_remote: false,
        }
    }

    /// Adds or replaces a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the Kubernetes namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// Sets the service account.
    #[must_use]
    pub fn service_account(mut self, account: &str) -> Self {
        account.clone_into(&mut self.service_account);
        self
    }

    /// Leaves the pod out of the mesh.
    #[must_use]
    pub fn outside_mesh(mut self) -> Self {
        self.in_mesh = false;
        self
    }

    /// Puts the pod on the remote node.
    #[must_use]
    pub fn on_remote(mut self) -> Self {
        self.on_remote = true;
        self
    }

    /// Connects the pod by a routed link instead of the bridge.
    #[must_use]
    pub fn routed(mut self) -> Self {
        self.link = Link::Routed;
        self
    }
}

/// How a pod hangs on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// A port of `cni0`, as flannel does it.
    Bridge,
    /// A point-to-point veth with a host route, as Calico and cloud CNIs do it.
    Routed,
}

/// A virtual address and where kube-proxy would send its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnatRule {
    /// The virtual address and port.
    pub vip: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where connections go, each with the same probability; of the same family as `vip`.
    pub endpoints: Vec<SocketAddr>,
}

/// A transport protocol that services use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Settings of the node that change how packets pass it. `None` keeps the kernel's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Reverse path filter of every interface: 0 off, 1 strict, 2 loose.
    pub rp_filter: Option<u8>,
    /// Whether the reverse path filter considers packet marks (wg-quick sets it).
    pub src_valid_mark: Option<bool>,
    /// Whether bridged packets pass the IP hooks of netfilter (K3s sets it).
    pub bridge_nf_call: Option<bool>,
}

impl Spec {
    pub(crate) fn check(&self) -> Result<(), LabError> {
        let bad = |text: String| Err(LabError::BadSpec(text));
        if let Some(id) = &self.id
            && !is_id(id)
        {
            return bad(format!("the id `{id}` must be 1 to {MAX_ID} lower-case letters and digits"));
        }
        if self.pods.len() > MAX_PODS {
            return bad(format!("more than {MAX_PODS} pods"));
        }
        let mut seen = BTreeSet::new();
        for pod in &self.pods {
            if !is_label(&pod.name) || matches!(pod.name.as_str(), "node" | "remote") {
                return bad(format!(
                    "`{}` cannot name a pod: a DNS label other than node and remote is needed",
                    pod.name
                ));
            }
            if pod.on_remote && (!self.remote || pod.link != Link::Bridge) {
                return bad(format!("the pod `{}` needs a remote node, and a bridge there", pod.name));
            }
            if !seen.insert(&pod.name) {
                return bad(format!("two pods are called `{}`", pod.name));
            }
        }
        for rule in &self.kube_proxy {
            rule.check()?;
        }
        match self.tuning.rp_filter {
            Some(value @ 3..) => bad(format!("rp_filter is 0, 1 or 2, not {value}")),
            _ => Ok(()),
        }
    }
}

impl DnatRule {
    pub(crate) fn check(&self) -> Result<(), LabError> {
        let mixed = |e: &SocketAddr| e.is_ipv4() != self.vip.is_ipv4();
        if let Some(endpoint) = self.endpoints.iter().find(|e| mixed(e)) {
            return Err(LabError::BadSpec(format!("the endpoint {endpoint} is not of the family of {}", self.vip)));
        }
        Ok(())
    }
}

/// Ids have no dash, so that `weir-<id>-` is never a prefix of another lab's names.
pub(crate) fn is_id(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(ok)
}

fn is_label(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(ok) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_named() {
        let dnat = DnatRule {
            vip: "10.96.0.10:80".parse().unwrap(),
            protocol: Protocol::Tcp,
            endpoints: vec!["[fd77::2]:80".parse().unwrap()],
        };
        let names: Vec<_> = (0..=MAX_PODS).map(|i| format!("p{i}")).collect();
        let many = Spec::with_pods(names.iter().map(String::as_str));
        let tuning = Tuning { rp_filter: Some(3), ..Tuning::default() };
        let with_id = |id: &str| Spec { id: Some(id.to_owned()), ..Spec::default() };
        let far = Spec { pods: vec![PodSpec::new("far").on_remote()], ..Spec::default() };
        let cases = [
            (far, "the pod `far` needs a remote node"),
            (with_id("a-b"), "the id `a-b`"),
            (with_id(""), "the id ``"),
            (with_id("abcdefghijklm"), "the id"),
            (Spec::with_pods(["a", "a"]), "two pods"),
            (Spec::with_pods(["node"]), "`node` cannot"),
            (Spec::with_pods(["../x"]), "`../x` cannot"),
            (Spec::with_pods(["-x"]), "`-x` cannot"),
            (many, "more than"),
            (Spec { kube_proxy: vec![dnat], ..Spec::default() }, "family"),
            (Spec { tuning, ..Spec::default() }, "rp_filter"),
        ];
        for (spec, part) in cases {
            let said = spec.check().unwrap_err().to_string();
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        }
        assert!(Spec::with_pods(["client", "v1-2"]).check().is_ok());
    }
}
