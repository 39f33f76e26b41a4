//! `Service` (v1): a name, virtual addresses, and ports.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weir_core::balance::Locality;
use weir_core::snapshot::Protocol;

use super::metadata::Metadata;
use super::protocol::carries;
use super::{Content, Kind};
use crate::check::Checker;
use crate::limits;
use crate::shape::nullable;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceDocument {
    #[serde(deserialize_with = "nullable")]
    metadata: Metadata,
    #[serde(deserialize_with = "nullable")]
    spec: Spec,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    cluster_ips: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<Port>,
    traffic_distribution: Option<String>,
    internal_traffic_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    port: Option<i64>,
    target_port: Option<TargetPort>,
    protocol: Option<String>,
    app_protocol: Option<String>,
}

/// A number, or the name of a container's port. Endpoint slices say what it comes to, so that it only matters where a
/// slice leaves the port out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a port number or the name of a container's port")]
enum TargetPort {
    Number(i64),
    Name(String),
}

/// A service as valid.
#[derive(Debug)]
pub(crate) struct Service {
    /// How clients reach it.
    pub(crate) reached: Reached,
    /// TCP and UDP ports; others are passed over.
    pub(crate) ports: Vec<ServicePort>,
    /// Which endpoints are preferred for where they are.
    pub(crate) locality: Locality,
}

/// How clients reach a service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// At virtual addresses.
    At(Vec<IpAddr>),
    /// At the addresses of its pods: nobody can tell that the service was meant.
    Headless,
    /// It is an alias of a name outside the cluster.
    ExternalName,
}

/// One port of a service.
#[derive(Debug)]
pub(crate) struct ServicePort {
    /// Position in `spec.ports`.
    pub(crate) position: usize,
    /// Empty when it has none.
    pub(crate) name: String,
    pub(crate) port: u16,
    /// Where endpoints listen when their slice does not say.
    pub(crate) target: u16,
    pub(crate) protocol: Protocol,
}

impl ServicePort {
    pub(crate) fn is_udp(&self) -> bool {
        self.protocol == Protocol::Udp
    }
}

impl Service {
    /// The TCP ports.
    pub(crate) fn tcp_ports(&self) -> impl Iterator<Item = &ServicePort> {
        self.ports.iter().filter(|port| !port.is_udp())
    }
}

impl Kind for ServiceDocument {
    const KIND: &'static str = "Service";
    const API_VERSIONS: &'static [&'static str] = &["v1"];

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, _: &str, checker: &mut Checker<'a>) -> Option<Content> {
        checker.field("metadata", |checker| self.metadata.check(checker));
        checker.field("spec", |checker| {
            let reached = self.spec.reached(checker);
            let ports = checker.field("ports", |checker| self.spec.ports(checker));
            let locality = self.spec.locality(checker);
            Some(Content::Service(Service { reached: reached?, ports: ports?, locality }))
        })
    }

    fn normalise(&mut self) {
        self.metadata.keep_own_annotations();
        let spec = &mut self.spec;
        if spec.cluster_ips.is_empty() {
            spec.cluster_ips.extend(spec.cluster_ip.take().filter(|address| !address.is_empty()));
        }
        spec.cluster_ip = None;
        spec.kind = spec.kind.take().filter(|kind| kind == "ExternalName");
        spec.internal_traffic_policy = spec.internal_traffic_policy.take().filter(|policy| policy != "Cluster");
        for port in &mut spec.ports {
            port.protocol = port.protocol.take().filter(|protocol| protocol != "TCP");
        }
    }
}

impl Spec {
    /// What Kubernetes says of where traffic goes
    /// (<https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-distribution>).
    fn locality<'a>(&'a self, checker: &mut Checker<'a>) -> Locality {
        match self.internal_traffic_policy.as_deref() {
            None | Some("Cluster") => {}
            Some("Local") => return Locality::OnlyNode,
            Some(other) => {
                checker.error_at("internalTrafficPolicy", format!("must be Cluster or Local, is \"{other}\""));
            }
        }
        match self.traffic_distribution.as_deref() {
            None => Locality::Anywhere,
            Some("PreferClose" | "PreferSameZone") => Locality::SameZone,
            Some("PreferSameNode") => Locality::SameNode,
            Some(other) => {
                let message = format!("\"{other}\" has no effect; Weir knows PreferSameZone and PreferSameNode");
                checker.field("trafficDistribution", |checker| checker.warning(message));
                Locality::Anywhere
            }
        }
    }

    fn reached<'a>(&'a self, checker: &mut Checker<'a>) -> Option<Reached> {
        if self.kind.as_deref() == Some("ExternalName") {
            return Some(Reached::ExternalName);
        }
        // `clusterIP` repeats the first of `clusterIPs` where both are given.
        let addresses: Vec<&str> = match self.cluster_ips.as_slice() {
            [] => self.cluster_ip.as_deref().filter(|address| !address.is_empty()).into_iter().collect(),
            several => several.iter().map(String::as_str).collect(),
        };
        if addresses.is_empty() || addresses == ["None"] {
            return Some(Reached::Headless);
        }
        let mut valid = Vec::new();
        for (position, text) in addresses.iter().enumerate() {
            let message = || format!("\"{text}\" is neither an IP address nor `None`");
            match (text.parse(), self.cluster_ips.is_empty()) {
                (Ok(address), _) => valid.push(address),
                (Err(_), true) => checker.error_at("clusterIP", message()),
                (Err(_), false) => checker.field("clusterIPs", |c| c.element(position, |c| c.error(message()))),
            }
        }
        (valid.len() == addresses.len()).then_some(Reached::At(valid))
    }

    fn ports<'a>(&'a self, checker: &mut Checker<'a>) -> Option<Vec<ServicePort>> {
        let mut valid: Vec<ServicePort> = Vec::new();
        let mut is_valid = true;
        if self.ports.len() > limits::SERVICE_PORTS {
            checker.error(format!("at most {} ports, here are {}", limits::SERVICE_PORTS, self.ports.len()));
            return None;
        }
        for (position, port) in self.ports.iter().enumerate() {
            checker.element(position, |checker| match port.check(position, checker) {
                Err(Wrong) => is_valid = false,
                Ok(None) => {}
                Ok(Some(port)) => {
                    let is_same = |other: &&ServicePort| other.is_udp() == port.is_udp();
                    if valid.iter().filter(is_same).any(|other| other.port == port.port) {
                        checker.error_at("port", format!("the service has port {} twice", port.port));
                        is_valid = false;
                    }
                    if valid.iter().any(|other| other.name == port.name) {
                        checker.error_at("name", "a service with several ports needs a different name for each");
                        is_valid = false;
                    }
                    valid.push(port);
                }
            });
        }
        is_valid.then_some(valid)
    }
}

/// It has been reported.
struct Wrong;

impl Port {
    /// `None` for a port that is neither TCP nor UDP.
    fn check<'a>(&'a self, position: usize, checker: &mut Checker<'a>) -> Result<Option<ServicePort>, Wrong> {
        let Some(port) = self.port.and_then(port_number) else {
            checker.error_at("port", "must be a port number, 1 to 65535");
            return Err(Wrong);
        };
        let name = self.name.clone().unwrap_or_default();
        let protocol = match self.protocol.as_deref() {
            None | Some("TCP") => carries(self.app_protocol.as_deref(), &name),
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => return Ok(None),
            Some(other) => {
                checker.error_at("protocol", format!("must be TCP, UDP or SCTP, is \"{other}\""));
                return Err(Wrong);
            }
        };
        let target = match &self.target_port {
            None | Some(TargetPort::Name(_)) => port,
            // Zero is how an absent target port is written by some generators.
            Some(TargetPort::Number(0)) => port,
            Some(TargetPort::Number(number)) => match port_number(*number) {
                Some(number) => number,
                None => {
                    checker.error_at("targetPort", "must be a port number, 1 to 65535, or a port's name");
                    return Err(Wrong);
                }
            },
        };
        Ok(Some(ServicePort { position, name, port, target, protocol }))
    }
}

/// The number as a port, if it is one.
pub(crate) fn port_number(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}
