//! `EndpointSlice` (discovery.k8s.io/v1): addresses behind a service.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weir_core::balance::Weight;
use weir_core::name::ServiceName;

use super::metadata::Metadata;
use super::service::port_number;
use super::{Content, Kind};
use crate::check::Checker;
use crate::limits;
use crate::shape::nullable;

/// The label that says which service a slice belongs to.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EndpointSliceDocument {
    #[serde(deserialize_with = "nullable")]
    metadata: Metadata,
    address_type: Option<String>,
    #[serde(deserialize_with = "nullable")]
    endpoints: Vec<EndpointSpec>,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<PortSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EndpointSpec {
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    conditions: Conditions,
    target_ref: Option<TargetRef>,
    node_name: Option<String>,
    zone: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct TargetRef {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct PortSpec {
    name: Option<String>,
    port: Option<i64>,
    protocol: Option<String>,
}

/// A slice as valid.
#[derive(Debug)]
pub(crate) struct EndpointSlice {
    /// The service it belongs to.
    pub(crate) service: Option<ServiceName>,
    /// The endpoints that are ready.
    pub(crate) ready: Vec<ReadyEndpoint>,
    /// Pods that endpoints name, ready or not, each with the endpoint's position.
    pub(crate) pods: Vec<(usize, PodRef)>,
    /// Its ports.
    pub(crate) ports: Vec<SlicePort>,
}

/// Namespace and name of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PodRef {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// An endpoint that takes requests.
#[derive(Debug)]
pub(crate) struct ReadyEndpoint {
    /// The first address is the one that is used, as in Kubernetes, where all of them lead to the same pod.
    pub(crate) address: IpAddr,
    pub(crate) pod: Option<PodRef>,
    pub(crate) node: Option<String>,
    pub(crate) zone: Option<String>,
    /// How much those of the slice are to take.
    pub(crate) weight: Option<Weight>,
}

/// A port of a slice.
#[derive(Debug)]
pub(crate) struct SlicePort {
    /// Name of the service's port; empty when that has none.
    pub(crate) name: String,
    /// Where endpoints listen; `None` when it is the service's target port.
    pub(crate) port: Option<u16>,
    pub(crate) is_udp: bool,
}

impl Kind for EndpointSliceDocument {
    const KIND: &'static str = "EndpointSlice";
    const API_VERSIONS: &'static [&'static str] = &["discovery.k8s.io/v1"];

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Content> {
        checker.field("metadata", |checker| self.metadata.check(checker));
        let service = self.metadata.labels.get(SERVICE_LABEL).map(|name| ServiceName::new(namespace, name));
        if service.is_none() {
            let message = "without this label the slice belongs to no service and has no effect";
            checker.field("metadata", |c| c.field("labels", |c| c.field(SERVICE_LABEL, |c| c.warning(message))));
        }
        let weight = self.metadata.weight(checker);
        let family = self.family(checker);
        let mut ready = Vec::new();
        let mut pods = Vec::new();
        checker.field("endpoints", |checker| {
            at_most(limits::SLICE_ENDPOINTS, self.endpoints.len(), checker);
            for (position, endpoint) in self.endpoints.iter().enumerate() {
                let pod = endpoint.pod(namespace);
                pods.extend(pod.clone().map(|pod| (position, pod)));
                let address = checker.element(position, |checker| endpoint.address(family, checker));
                if let Some(address) = address.filter(|_| endpoint.conditions.ready != Some(false)) {
                    let (node, zone) = (endpoint.node_name.clone(), endpoint.zone.clone());
                    ready.push(ReadyEndpoint { address, pod, node, zone, weight });
                }
            }
        });
        let ports = checker.field("ports", |checker| self.ports(checker));
        Some(Content::EndpointSlice(Box::new(EndpointSlice { service, ready, pods, ports })))
    }

    fn normalise(&mut self) {
        self.metadata.keep_own_annotations();
        for endpoint in &mut self.endpoints {
            endpoint.conditions.ready = endpoint.conditions.ready.filter(|ready| !ready);
        }
        for port in &mut self.ports {
            port.protocol = port.protocol.take().filter(|protocol| protocol != "TCP");
        }
        // Their order means nothing, and changes in a cluster when nothing else does.
        self.endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    }
}

fn at_most(limit: usize, count: usize, checker: &mut Checker<'_>) {
    if count > limit {
        checker.error(format!("a slice has at most {limit}, here are {count}"));
    }
}

/// The kind of addresses that a slice has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    Names,
}

impl EndpointSliceDocument {
    fn family<'a>(&'a self, checker: &mut Checker<'a>) -> Family {
        match self.address_type.as_deref() {
            Some("IPv4") => Family::V4,
            Some("IPv6") => Family::V6,
            Some("FQDN") => {
                checker.field("addressType", |c| c.warning("endpoints that are names have no effect"));
                Family::Names
            }
            other => {
                let is = other.map_or_else(String::new, |other| format!(", is \"{other}\""));
                checker.error_at("addressType", format!("must be IPv4 or IPv6{is}"));
                Family::Names
            }
        }
    }

    fn ports<'a>(&'a self, checker: &mut Checker<'a>) -> Vec<SlicePort> {
        let mut ports = Vec::new();
        at_most(limits::SLICE_PORTS, self.ports.len(), checker);
        for (position, port) in self.ports.iter().enumerate() {
            let number = port.port.map(port_number);
            if number == Some(None) {
                let message = "must be a port number, 1 to 65535";
                checker.element(position, |checker| checker.error_at("port", message));
            }
            let is_udp = port.protocol.as_deref() == Some("UDP");
            ports.push(SlicePort { name: port.name.clone().unwrap_or_default(), port: number.flatten(), is_udp });
        }
        ports
    }
}

impl EndpointSpec {
    fn address<'a>(&'a self, family: Family, checker: &mut Checker<'a>) -> Option<IpAddr> {
        if family == Family::Names {
            return None;
        }
        let mut first = None;
        checker.field("addresses", |checker| {
            if self.addresses.is_empty() {
                checker.error("an endpoint needs an address");
            }
            for (position, text) in self.addresses.iter().enumerate() {
                let address = text.parse::<IpAddr>().ok();
                match address.filter(|address| address.is_ipv4() == (family == Family::V4)) {
                    Some(address) => first = first.or(Some(address)),
                    None => {
                        let family = if family == Family::V4 { "IPv4" } else { "IPv6" };
                        let message = format!("\"{text}\" is not an {family} address, as addressType says");
                        checker.element(position, |checker| checker.error(message));
                    }
                }
            }
        });
        first
    }

    fn pod(&self, namespace: &str) -> Option<PodRef> {
        let target = self.target_ref.as_ref()?;
        // Slices that people write leave the kind out; pods are all that it can be in practice.
        if target.kind.as_deref().is_some_and(|kind| kind != "Pod") {
            return None;
        }
        let namespace = target.namespace.as_deref().unwrap_or(namespace).to_owned();
        Some(PodRef { namespace, name: target.name.clone()? })
    }
}
