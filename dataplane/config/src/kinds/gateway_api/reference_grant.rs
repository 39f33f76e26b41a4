//! `ReferenceGrant`: which routes of other namespaces may name services of this one as their backends.

use serde::{Deserialize, Serialize};

use super::GATEWAY_GROUP;
use crate::check::Checker;
use crate::kinds::envelope::Envelope;
use crate::kinds::metadata::Metadata;
use crate::kinds::{Content, Kind};
use crate::shape::nullable;

/// A `ReferenceGrant` as it is written.
pub(crate) type ReferenceGrantDocument = Envelope<GrantSpec>;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with from and to")]
pub(crate) struct GrantSpec {
    #[serde(deserialize_with = "nullable")]
    from: Vec<FromSpec>,
    #[serde(deserialize_with = "nullable")]
    to: Vec<ToSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with group, kind, namespace")]
struct FromSpec {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with group, kind, name")]
struct ToSpec {
    group: Option<String>,
    kind: Option<String>,
    name: Option<String>,
}

/// A grant as valid, of what can be granted here.
#[derive(Debug)]
pub(crate) struct ReferenceGrant {
    /// Kinds of routes, each with the namespace that they are of.
    from: Vec<(Box<str>, Box<str>)>,
    /// Names of services; `None` for all of the namespace.
    to: Vec<Option<Box<str>>>,
}

impl ReferenceGrant {
    /// Whether routes of this kind and namespace may name this service of the grant's namespace.
    pub(crate) fn allows(&self, kind: &str, namespace: &str, service: &str) -> bool {
        self.from.iter().any(|(known, from)| **known == *kind && **from == *namespace)
            && self.to.iter().any(|to| to.as_ref().is_none_or(|name| **name == *service))
    }
}

impl Kind for ReferenceGrantDocument {
    const KIND: &'static str = "ReferenceGrant";
    const API_VERSIONS: &'static [&'static str] =
        &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, _: &str, checker: &mut Checker<'a>) -> Option<Content> {
        checker.field("metadata", |checker| self.metadata.check(checker));
        checker.field("spec", |checker| {
            for (field, is_empty) in [("from", self.spec.from.is_empty()), ("to", self.spec.to.is_empty())] {
                if is_empty {
                    checker.missing(field, "a grant says from where and to what");
                }
            }
            // Grants of other kinds, such as a gateway's for a secret, are for others.
            let from = self.spec.from.iter().filter(|from| from.group.as_deref() == Some(GATEWAY_GROUP));
            let from = from.filter_map(|from| Some((from.kind.as_deref()?.into(), from.namespace.as_deref()?.into())));
            let to = self.spec.to.iter().filter(|to| matches!(to.group.as_deref(), None | Some("" | "core")));
            let to = to.filter(|to| to.kind.as_deref() == Some("Service"));
            let to = to.map(|to| to.name.as_deref().filter(|name| !name.is_empty()).map(Into::into));
            Some(Content::ReferenceGrant(Box::new(ReferenceGrant { from: from.collect(), to: to.collect() })))
        })
    }

    fn normalise(&mut self) {
        self.metadata.keep_own_annotations();
    }
}
