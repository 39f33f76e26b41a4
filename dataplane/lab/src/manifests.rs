//! A lab's pods and services as the Kubernetes manifests that a real cluster would hold:
//! `Namespace`, `Pod`, `Service` (v1) and `EndpointSlice` (discovery.k8s.io/v1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::LabError;
use crate::layout::{Layout, Pod};

/// A service to describe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its IPv4 virtual address.
    pub vip4: Option<Ipv4Addr>,
    /// Its IPv6 virtual address.
    pub vip6: Option<Ipv6Addr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// The pods behind it, by name.
    pub pods: Vec<String>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name.
    pub name: String,
    /// Where clients connect.
    pub port: u16,
    /// Where the pods listen.
    pub target_port: u16,
    /// `http`, or another value of `appProtocol`.
    pub app_protocol: Option<String>,
}

impl ServicePort {
    /// A port that speaks HTTP.
    #[must_use]
    pub fn http(port: u16, target_port: u16) -> Self {
        let app_protocol = Some("http".to_owned());
        Self { name: "http".to_owned(), port, target_port, app_protocol }
    }

    /// A port of which only TCP is known.
    #[must_use]
    pub fn tcp(port: u16, target_port: u16) -> Self {
        Self { name: "tcp".to_owned(), port, target_port, app_protocol: None }
    }
}

impl ServiceSpec {
    fn vips(&self) -> Vec<IpAddr> {
        let four = self.vip4.map(IpAddr::from);
        four.into_iter().chain(self.vip6.map(IpAddr::from)).collect()
    }
}

/// All manifests as one YAML stream, in the order in which they could be applied.
///
/// # Errors
/// When a service names a pod that the lab does not have.
pub fn manifests(lab: &Layout, services: &[ServiceSpec]) -> Result<String, LabError> {
    let pods = lab.pods().iter().map(|pod| pod.spec.namespace.as_str());
    let namespaces: BTreeSet<_> = pods.chain(services.iter().map(|s| s.namespace.as_str())).collect();
    let mut documents: Vec<Value> = namespaces
        .into_iter()
        .map(|name| {
            let labels = json!({ "kubernetes.io/metadata.name": name });
            json!({ "apiVersion": "v1", "kind": "Namespace",
                    "metadata": { "name": name, "labels": labels } })
        })
        .collect();
    documents.extend(lab.pods().iter().map(|pod| pod_document(lab, pod)));
    for service in services {
        let pods = service.pods.iter().map(|name| lab.pod(name));
        let pods = pods.collect::<Result<Vec<_>, _>>()?;
        documents.push(service_document(service, &pods));
        for address_type in ["IPv4", "IPv6"] {
            documents.extend(slice_document(lab, service, &pods, address_type));
        }
    }
    let mut out = String::new();
    for document in documents {
        let text =
            serde_yaml::to_string(&document).map_err(|e| LabError::BadSpec(format!("a manifest is no YAML: {e}")))?;
        out += "---\n";
        out += &text;
    }
    Ok(out)
}

fn pod_document(lab: &Layout, pod: &Pod) -> Value {
    let mesh = if pod.spec.in_mesh { "enabled" } else { "disabled" };
    let ips: Vec<_> = pod.ips().iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name(),
            "namespace": pod.spec.namespace,
            "uid": uid(lab, pod),
            "labels": pod.labels(),
            "annotations": { "weir.dev/mesh": mesh },
        },
        "spec": {
            "nodeName": lab.node_of(pod).name,
            "serviceAccountName": pod.spec.service_account,
            "containers": [{ "name": "app", "image": "weir.dev/lab-server" }],
        },
        "status": {
            "phase": "Running",
            "hostIP": lab.node_of(pod).ip4,
            "podIP": pod.ip4(),
            "podIPs": ips,
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

fn service_document(service: &ServiceSpec, pods: &[&Pod]) -> Value {
    let vips = service.vips();
    let families: Vec<_> = vips.iter().map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
    let ports: Vec<_> = service.ports.iter().map(service_port).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": service.name, "namespace": service.namespace },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": vips.first().map_or("None".to_owned(), IpAddr::to_string),
            "clusterIPs": vips,
            "ipFamilies": families,
            "ipFamilyPolicy": if vips.len() > 1 { "RequireDualStack" } else { "SingleStack" },
            "ports": ports,
            "selector": selector(pods),
        },
    })
}

/// The labels that all pods of a service share.
fn selector(pods: &[&Pod]) -> BTreeMap<String, String> {
    let Some((first, rest)) = pods.split_first() else {
        return BTreeMap::new();
    };
    let mut shared = first.labels().clone();
    shared.retain(|key, value| rest.iter().all(|pod| pod.labels().get(key) == Some(value)));
    shared
}

fn slice_document(lab: &Layout, service: &ServiceSpec, pods: &[&Pod], address_type: &str) -> Option<Value> {
    let wanted = |ip: &IpAddr| ip.is_ipv4() == (address_type == "IPv4");
    // Kubernetes makes slices for the families of the service only.
    if !service.vips().iter().any(wanted) {
        return None;
    }
    let endpoint = |pod: &&Pod| {
        let ip = pod.ips().into_iter().find(wanted)?;
        Some(json!({
            "addresses": [ip],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": lab.node_of(pod).name,
            "targetRef": {
                "kind": "Pod",
                "name": pod.name(),
                "namespace": pod.spec.namespace,
                "uid": uid(lab, pod),
            },
        }))
    };
    let endpoints: Vec<_> = pods.iter().filter_map(endpoint).collect();
    let ports: Vec<_> = service.ports.iter().map(slice_port).collect();
    Some(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-{}", service.name, address_type.to_lowercase()),
            "namespace": service.namespace,
            "labels": {
                "kubernetes.io/service-name": service.name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": address_type,
        "endpoints": endpoints,
        "ports": ports,
    }))
}

fn service_port(port: &ServicePort) -> Value {
    let mut value = json!({
        "name": port.name,
        "protocol": "TCP",
        "port": port.port,
        "targetPort": port.target_port,
    });
    if let Some(protocol) = &port.app_protocol {
        value["appProtocol"] = json!(protocol);
    }
    value
}

/// A slice's port is the pods' port.
fn slice_port(port: &ServicePort) -> Value {
    let mut value = json!({ "name": port.name, "protocol": "TCP", "port": port.target_port });
    if let Some(protocol) = &port.app_protocol {
        value["appProtocol"] = json!(protocol);
    }
    value
}

/// Stable within a lab and unlike that of any other lab's pod; has the form of a UUID.
fn uid(lab: &Layout, pod: &Pod) -> String {
    use sha2::{Digest, Sha256};
    let name = format!("{}/{}/{}", lab.id, pod.spec.namespace, pod.name());
    let hex = crate::content::hex(&Sha256::digest(name));
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]];
    parts.join("-")
}
