//! `Pod` (v1): a workload, its addresses, and whether the mesh concerns it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weir_core::balance::Weight;
use weir_core::workload::Enrolment;

use super::metadata::{Metadata, enrolment};
use super::{Content, Kind};
use crate::check::Checker;
use crate::shape::nullable;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PodDocument {
    #[serde(deserialize_with = "nullable")]
    metadata: Metadata,
    #[serde(deserialize_with = "nullable")]
    spec: Spec,
    #[serde(deserialize_with = "nullable")]
    status: Status,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    service_account_name: Option<String>,
    node_name: Option<String>,
    #[serde(deserialize_with = "nullable")]
    host_network: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs", deserialize_with = "nullable")]
    pod_ips: Vec<PodIp>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: Option<String>,
}

/// A pod as valid.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) service_account: String,
    pub(crate) version: Option<String>,
    /// By which policies choose it.
    pub(crate) labels: BTreeMap<String, String>,
    /// What its labels say that it is.
    pub(crate) app: Option<(String, String)>,
    pub(crate) node: Option<String>,
    /// What its annotation says about the mesh.
    pub(crate) enrolment: Option<Enrolment>,
    /// How much it is to take of the requests of its services.
    pub(crate) weight: Option<Weight>,
    /// Addresses that are the pod's own. Empty for pods in the host's network, whose address is the node's, and for
    /// pods that have ended, whose address may be another's by now.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Kind for PodDocument {
    const KIND: &'static str = "Pod";
    const API_VERSIONS: &'static [&'static str] = &["v1"];

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, _: &str, checker: &mut Checker<'a>) -> Option<Content> {
        checker.field("metadata", |checker| self.metadata.check(checker));
        let enrolment = enrolment(&self.metadata.annotations, "annotations", checker);
        let weight = self.metadata.weight(checker);
        let mut addresses = checker.field("status", |checker| self.status.addresses(checker));
        if self.spec.host_network || self.status.has_ended() {
            addresses.clear();
        }
        let account = self.spec.service_account_name.as_deref().filter(|name| !name.is_empty());
        Some(Content::Pod(Box::new(Pod {
            service_account: account.unwrap_or("default").to_owned(),
            version: self.metadata.version().map(str::to_owned),
            labels: self.metadata.labels.clone(),
            app: self.metadata.app().map(|(label, app)| (label.to_owned(), app.to_owned())),
            node: self.spec.node_name.clone(),
            enrolment,
            weight,
            addresses,
        })))
    }

    fn normalise(&mut self) {
        self.metadata.keep_own_annotations();
        let (spec, status) = (&mut self.spec, &mut self.status);
        spec.service_account_name = spec.service_account_name.take().filter(|name| !name.is_empty());
        if status.pod_ips.is_empty() {
            status.pod_ips.extend(status.pod_ip.take().map(|ip| PodIp { ip: Some(ip) }));
        }
        status.pod_ip = None;
        status.phase = status.has_ended().then(|| status.phase.take()).flatten();
    }
}

impl Status {
    fn has_ended(&self) -> bool {
        matches!(self.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    fn addresses<'a>(&'a self, checker: &mut Checker<'a>) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        let mut parse = |text: &str, checker: &mut Checker<'a>| match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => checker.error(format!("\"{text}\" is not an IP address")),
        };
        match (self.pod_ips.as_slice(), self.pod_ip.as_deref()) {
            ([], Some(text)) if !text.is_empty() => checker.field("podIP", |checker| parse(text, checker)),
            (several, _) => checker.field("podIPs", |checker| {
                for (position, entry) in several.iter().enumerate() {
                    let Some(text) = &entry.ip else { continue };
                    checker.element(position, |checker| checker.field("ip", |checker| parse(text, checker)));
                }
            }),
        }
        addresses
    }
}
