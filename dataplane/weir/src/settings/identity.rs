//! Settings of identities: who vouches for the workloads of this node.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use weir_core::authorization::{Principal, is_trust_domain};
use weir_core::workload::TRUST_DOMAIN;
use weir_identity::Origin;

/// Who vouches for the workloads of this node. One of `authority` and `files` must be there.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Identity {
    /// What the ids of all workloads begin with: `spiffe://TRUST-DOMAIN/ns/...`. Default: `cluster.local`.
    #[serde(default = "default_trust_domain")]
    pub(crate) trust_domain: String,
    /// The node's own authority, as `weir ca` makes it.
    #[serde(default)]
    pub(crate) authority: Option<Authority>,
    /// Certificates that somebody else writes, for example cert-manager.
    #[serde(default)]
    pub(crate) files: Option<Files>,
    /// Namespace and service account of the node itself: who sends what no workload sends (health checks, what plugins ask for,
    /// what clients of gateways do). The same on all nodes. Default: `weir-system/weir`.
    #[serde(default = "default_workload")]
    pub(crate) workload: String,
}

/// The node's own authority.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Authority {
    /// Has `node.crt`, `node.key`, `roots.crt` and, where something was revoked, `revoked.crl`.
    pub(crate) folder: PathBuf,
    /// A file with what opens `node.key`, at least 16 bytes.
    pub(crate) passphrase: PathBuf,
    /// How long certificates of workloads are valid, in hours, 1 to 8,760. They are renewed at half of that. Default: 24.
    #[serde(default = "default_hours")]
    pub(crate) certificate_hours: u16,
}

/// Certificates that somebody else writes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Files {
    /// Has `<namespace>/<service account>/tls.crt` and `tls.key`, `ca.crt` and, where something was revoked, `revoked.crl`.
    pub(crate) folder: PathBuf,
}

fn default_trust_domain() -> String {
    TRUST_DOMAIN.to_owned()
}

fn default_workload() -> String {
    "weir-system/weir".to_owned()
}

fn default_hours() -> u16 {
    24
}

impl Identity {
    /// Says what is wrong.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if !is_trust_domain(&self.trust_domain) {
            wrong.push("identity.trustDomain: 1 to 255 lower-case letters, digits, `.`, `-`, `_`".to_owned());
        }
        if self.authority.is_some() == self.files.is_some() {
            wrong.push("identity: one of authority and files".to_owned());
        }
        if self.authority.as_ref().is_some_and(|authority| !(1..=8_760).contains(&authority.certificate_hours)) {
            wrong.push("identity.authority.certificateHours: 1 to 8,760".to_owned());
        }
        if self.principal().is_none() {
            wrong.push("identity.workload: NAMESPACE/SERVICE-ACCOUNT".to_owned());
        }
    }

    /// Who the node itself is.
    pub(crate) fn principal(&self) -> Option<Principal> {
        let (namespace, service_account) = self.workload.split_once('/')?;
        Principal::from_id(&Principal::new(&self.trust_domain, &namespace.into(), service_account).id())
    }

    /// Where certificates come from.
    pub(crate) fn origin(&self, node: &str) -> Option<Origin> {
        let authority = self.authority.as_ref().map(|authority| Origin::Authority {
            node: node.into(),
            folder: authority.folder.clone(),
            passphrase: authority.passphrase.clone(),
            life: Duration::from_secs(u64::from(authority.certificate_hours) * 3_600),
        });
        authority.or_else(|| self.files.as_ref().map(|files| Origin::Files { folder: files.folder.clone() }))
    }
}
