//! `Namespace` (v1): whether the mesh concerns its pods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_core::workload::Enrolment;

use super::metadata::{Authorization, Metadata, authorization, enrolment};
use super::{Content, Kind};
use crate::check::Checker;
use crate::shape::nullable;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NamespaceDocument {
    #[serde(deserialize_with = "nullable")]
    metadata: Metadata,
}

/// A namespace as valid.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// What its label says about the mesh, for pods that do not say it themselves.
    pub(crate) enrolment: Option<Enrolment>,
    /// What its label says about who may reach its pods.
    pub(crate) authorization: Option<Authorization>,
    /// By which gateways choose whose routes they take.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Kind for NamespaceDocument {
    const KIND: &'static str = "Namespace";
    const API_VERSIONS: &'static [&'static str] = &["v1"];
    const IS_NAMESPACED: bool = false;

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, _: &str, checker: &mut Checker<'a>) -> Option<Content> {
        checker.field("metadata", |checker| self.metadata.check(checker));
        let enrolment = enrolment(&self.metadata.labels, "labels", checker);
        let authorization = authorization(&self.metadata.labels, checker);
        Some(Content::Namespace(Namespace { enrolment, authorization, labels: self.metadata.labels.clone() }))
    }

    fn normalise(&mut self) {
        self.metadata.keep_own_annotations();
    }
}
