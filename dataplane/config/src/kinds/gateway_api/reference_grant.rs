//! `ReferenceGrant`: which routes of other namespaces may name services of this one as their backends, and which gateways
//! may show its certificates.

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
    /// Kinds of the Gateway API, each with the namespace that they are of.
    from: Vec<(Box<str>, Box<str>)>,
    /// Kinds with names; `None` for all of the namespace.
    to: Vec<(Box<str>, Option<Box<str>>)>,
}

impl ReferenceGrant {
    /// Whether what is of this kind and namespace may name this, by kind and name, of the grant's namespace.
    pub(crate) fn allows(&self, (kind, namespace): (&str, &str), (to, name): (&str, &str)) -> bool {
        let is_it = |known: &Option<Box<str>>| known.as_ref().is_none_or(|known| **known == *name);
        self.from.iter().any(|(known, from)| **known == *kind && **from == *namespace)
            && self.to.iter().any(|(known, names)| **known == *to && is_it(names))
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
            // Grants of other kinds are for others.
            let from = self.spec.from.iter().filter(|from| from.group.as_deref() == Some(GATEWAY_GROUP));
            let from = from.filter_map(|from| Some((from.kind.as_deref()?.into(), from.namespace.as_deref()?.into())));
            let to = self.spec.to.iter().filter(|to| matches!(to.group.as_deref(), None | Some("" | "core")));
            let name = |to: &ToSpec| to.name.as_deref().filter(|name| !name.is_empty()).map(Into::into);
            let to = to.filter_map(|to| Some((to.kind.as_deref()?.into(), name(to))));
            Some(Content::ReferenceGrant(Box::new(ReferenceGrant { from: from.collect(), to: to.collect() })))
        })
    }

    fn normalise(&mut self) {
        self.metadata.keep_own_annotations();
    }
}
