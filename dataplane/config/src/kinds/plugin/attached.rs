//! What a plugin is for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_core::name::ObjectName;
use weir_core::plugin::Plugin;

use super::Spec;
use crate::check::Checker;
use crate::kinds::rules::AppliesTo;
use crate::kinds::services::services;
use crate::limits;
use crate::shape::Shape;

/// The kinds of documents with rules.
pub(crate) const RULES: [&str; 3] = ["RouteRule", "HTTPRoute", "GRPCRoute"];

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with kind, name and rule")]
pub(super) struct RuleRefSpec {
    kind: Option<String>,
    name: Option<String>,
    rule: Option<String>,
}

impl Shape for RuleRefSpec {
    const ONE: &'static str = "text (the name of a rule) or an object with kind, name and rule";
    const SEVERAL: &'static str = "a list of names of rules";
}

impl From<String> for RuleRefSpec {
    fn from(name: String) -> Self {
        Self { name: Some(name), ..Self::default() }
    }
}

/// A plugin as valid, with what it is for.
#[derive(Debug)]
pub(crate) struct PluginFor {
    /// `None`: it names nothing. Then it is for the routes that name it, and where there are none for all services of its
    /// namespace.
    pub(crate) attached: Option<Attached>,
    pub(crate) plugin: Arc<Plugin>,
}

/// What a plugin names.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    pub(crate) services: Vec<AppliesTo>,
    /// Each in the place in which it is written.
    pub(crate) gateways: Vec<ObjectName>,
    /// The same.
    pub(crate) rules: Vec<RuleRef>,
}

/// Rules that a plugin names.
#[derive(Debug)]
pub(crate) struct RuleRef {
    /// The documents that may be meant: of one kind, or of all.
    pub(crate) documents: Vec<ObjectName>,
    /// Which rule of the document; `None` for all.
    pub(crate) rule: Option<Box<str>>,
}

impl Spec {
    pub(super) fn attached<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Attached> {
        let Self { services: of_services, gateways, rules, .. } = self;
        if of_services.is_none() && gateways.is_none() && rules.is_none() {
            return None;
        }
        let services = checker.field("services", |checker| {
            of_services.as_ref().map(|written| services("a plugin", written, namespace, checker))
        });
        let most = limits::SERVICES;
        let gateways = checker.field("gateways", |checker| {
            let written = gateways.as_deref().unwrap_or_default();
            bounded(written.len(), gateways.is_some(), "gateways", checker);
            written.iter().take(most).map(|name| ObjectName::new("Gateway", namespace, name)).collect()
        });
        let rules = checker.field("rules", |checker| {
            let written = rules.as_deref().unwrap_or_default();
            bounded(written.len(), rules.is_some(), "rules", checker);
            let named = written.iter().take(most).enumerate();
            named
                .filter_map(|(position, one)| checker.element(position, |checker| one.0.check(namespace, checker)))
                .collect()
        });
        if self.protocol.as_deref() == Some("tcp") && (self.gateways.is_some() || self.rules.is_some()) {
            checker.error_at("protocol", "gateways and rules have no connections that are none of HTTP");
        }
        Some(Attached { services: services.unwrap_or_default(), gateways, rules })
    }
}

fn bounded(count: usize, is_written: bool, what: &str, checker: &mut Checker<'_>) {
    if is_written && count == 0 {
        checker.error(format!("an empty list names no {what}; leave it out"));
    }
    if count > limits::SERVICES {
        checker.error(format!("at most {} {what}, here are {count}", limits::SERVICES));
    }
}

impl RuleRefSpec {
    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<RuleRef> {
        let kinds = match self.kind.as_deref() {
            None => RULES.to_vec(),
            Some(kind) => match RULES.iter().find(|known| **known == kind) {
                Some(known) => vec![*known],
                None => {
                    checker.error_at("kind", format!("must be one of {}, is \"{kind}\"", RULES.join(", ")));
                    return None;
                }
            },
        };
        match self.name.as_deref() {
            None | Some("") => {
                checker.missing("name", "must name a rule");
                None
            }
            Some(name) => {
                let documents = kinds.into_iter().map(|kind| ObjectName::new(kind, namespace, name)).collect();
                Some(RuleRef { documents, rule: self.rule.as_deref().map(Into::into) })
            }
        }
    }
}
