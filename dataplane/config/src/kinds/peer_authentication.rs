//! `PeerAuthentication` (weir.dev/v1, and Istio's of that name for the same): whether workloads are reached from other nodes in
//! tunnels of mutual TLS only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_core::workload::MtlsMode;

use super::envelope::Envelope;
use super::metadata::Metadata;
use super::selector::{Selector, SelectorSpec};
use super::{Content, Kind};
use crate::check::Checker;
use crate::limits;
use crate::shape::nullable;

/// A `PeerAuthentication` as it is written.
pub(crate) type PeerAuthenticationDocument = Envelope<Spec>;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with selector, mtls, portLevelMtls"
)]
pub(crate) struct Spec {
    #[serde(deserialize_with = "nullable")]
    selector: SelectorSpec,
    #[serde(deserialize_with = "nullable")]
    mtls: MtlsSpec,
    #[serde(deserialize_with = "nullable")]
    port_level_mtls: BTreeMap<String, MtlsSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with mode")]
struct MtlsSpec {
    mode: Option<String>,
}

/// One as valid.
#[derive(Debug)]
pub(crate) struct PeerAuthentication {
    pub(crate) selector: Selector,
    /// `None`: as what is for more workloads says.
    pub(crate) mode: Option<MtlsMode>,
    pub(crate) ports: BTreeMap<u16, MtlsMode>,
}

impl Kind for PeerAuthenticationDocument {
    const KIND: &'static str = "PeerAuthentication";
    const API_VERSIONS: &'static [&'static str] = &["weir.dev/v1", "security.istio.io/v1", "security.istio.io/v1beta1"];

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, _: &str, checker: &mut Checker<'a>) -> Option<Content> {
        checker.field("metadata", |checker| self.metadata.check(checker));
        checker.field("spec", |checker| {
            let selector = Selector::new(&self.spec.selector);
            let mode = checker.field("mtls", |checker| self.spec.mtls.check(checker));
            let ports = checker.field("portLevelMtls", |checker| {
                let ports = &self.spec.port_level_mtls;
                if ports.len() > limits::AUTHENTICATION_PORTS {
                    let most = limits::AUTHENTICATION_PORTS;
                    checker.error(format!("at most {most} ports, here are {}", ports.len()));
                }
                let mut valid = BTreeMap::new();
                for (port, mtls) in ports.iter().take(limits::AUTHENTICATION_PORTS) {
                    let mode = checker.field(port, |checker| mtls.check(checker));
                    match port.parse::<u16>() {
                        Ok(number) if number > 0 => valid.extend(mode.map(|mode| (number, mode))),
                        _ => checker.error_at(port, "must be the number of a port, 1 to 65535"),
                    }
                }
                valid
            });
            if selector.is_empty() && !self.spec.port_level_mtls.is_empty() {
                checker.error_at("portLevelMtls", "needs a selector: ports are those of certain workloads");
            }
            Some(Content::Authentication(Box::new(PeerAuthentication { selector, mode, ports })))
        })
    }

    fn normalise(&mut self) {
        self.metadata.keep_own_annotations();
    }
}

impl MtlsSpec {
    fn check(&self, checker: &mut Checker<'_>) -> Option<MtlsMode> {
        match self.mode.as_deref().unwrap_or("UNSET") {
            "UNSET" => None,
            "STRICT" => Some(MtlsMode::Strict),
            "PERMISSIVE" => Some(MtlsMode::Permissive),
            "DISABLE" => Some(MtlsMode::Disabled),
            other => {
                let message = format!("must be one of UNSET, STRICT, PERMISSIVE, DISABLE, is \"{other}\"");
                checker.error_at("mode", message);
                None
            }
        }
    }
}
