//! The routes of the Gateway API (gateway.networking.k8s.io): `HTTPRoute` and `GRPCRoute`, with a `Service` as their
//! parent (GAMMA, GEP-1294). A document has several rules; a service that has routes answers what none of them matches
//! with 404. The kinds differ in their matches and in which filters they have.

mod backends;
mod filters;
mod grpc_route;
mod http_route;
mod session;
mod spec;
mod texts;

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_core::name::ServiceName;
use weir_core::route::{Matcher, Unmatched};

use super::destination::port;
use super::metadata::{Metadata, is_label, is_subdomain};
use super::rules::{AppliesTo, Rule, Rules, Syntax};
use super::{Content, Kind};
use crate::check::Checker;
use crate::limits;
use spec::{Document, Spec};

/// An `HTTPRoute` as it is written.
pub(crate) type HttpRouteDocument = Document<http_route::HttpRuleSpec>;
/// A `GRPCRoute` as it is written.
pub(crate) type GrpcRouteDocument = Document<grpc_route::GrpcRuleSpec>;

/// The group of the Gateway API's own kinds.
const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// Where a rule is written.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    namespace: &'a str,
    /// Name of the route.
    route: &'a str,
    /// Its number there.
    index: usize,
}

/// A rule of one of the kinds of routes, as it is written.
pub(crate) trait RuleSpec: DeserializeOwned + Serialize + Default + PartialEq + 'static {
    /// The kind whose documents have such rules.
    const KIND: &'static str;
    const API_VERSIONS: &'static [&'static str];

    /// What the API takes for a route that says nothing: everything, to nowhere.
    fn nothing() -> &'static Self;

    fn name(&self) -> Option<&str>;

    /// The rule.
    fn check<'a>(&'a self, at: At<'_>, checker: &mut Checker<'a>) -> Rule;

    fn normalise(&mut self);
}

impl<R: RuleSpec> Kind for Document<R> {
    const KIND: &'static str = R::KIND;
    const API_VERSIONS: &'static [&'static str] = R::API_VERSIONS;
    const HAS_AGE: bool = true;

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Content> {
        let created = checker.field("metadata", |checker| {
            self.metadata.check(checker);
            self.metadata.created(checker)
        });
        checker.field("spec", |checker| {
            let services = checker.field("parentRefs", |checker| self.spec.parents(namespace, checker));
            if !self.spec.hostnames.is_empty() && !services.is_empty() {
                let message =
                    "has no effect on services: they are known by their addresses, whatever name a client says";
                checker.field("hostnames", |checker| checker.warning(message));
            }
            let route = self.metadata.name.as_deref().unwrap_or_default();
            let at = At { namespace, route, index: 0 };
            let rules = checker.field("rules", |checker| self.spec.rules(at, checker));
            Some(Content::Rules(Box::new(Rules {
                syntax: Syntax::GatewayApi,
                created,
                applies_to: Some(services),
                unmatched: Unmatched::NotFound,
                rules,
            })))
        })
    }

    fn normalise(&mut self) {
        self.metadata.keep_own_annotations();
        self.spec.normalise();
    }
}

impl<R: RuleSpec> Spec<R> {
    fn parents<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Vec<AppliesTo> {
        if self.parent_refs.is_empty() {
            checker.warning("the route has no parent, and no effect");
        }
        if self.parent_refs.len() > limits::PARENTS {
            checker.error(format!("at most {} parents, here are {}", limits::PARENTS, self.parent_refs.len()));
        }
        let mut valid: Vec<AppliesTo> = Vec::new();
        for (position, parent) in self.parent_refs.iter().enumerate().take(limits::PARENTS) {
            checker.element(position, |checker| {
                let group = parent.group.as_deref().unwrap_or(GATEWAY_GROUP);
                match (group, parent.kind.as_deref().unwrap_or("Gateway")) {
                    ("" | "core", "Service") => {}
                    (GATEWAY_GROUP, "Gateway") => {
                        checker.warning("this version of Weir serves no Gateway; the route has no effect on it");
                        return;
                    }
                    (_, "Service") => {
                        checker.error_at("group", "the group of a Service is written `group: \"\"`");
                        return;
                    }
                    (group, kind) => {
                        checker.error(format!("a parent must be a Service, {} is none", object(kind, group)));
                        return;
                    }
                }
                let port = port(parent.port, checker);
                let service = service(parent.name.as_deref(), parent.namespace.as_deref(), namespace, checker);
                let port_name = parent.section_name.as_deref().map(Into::into);
                let Some(service) = service else { return };
                let applies = AppliesTo { service, port, port_name, position };
                if valid.iter().any(|other| other.is_same(&applies)) {
                    checker.error("the route names this parent twice");
                }
                valid.push(applies);
            });
        }
        valid
    }

    fn rules<'a>(&'a self, at: At<'_>, checker: &mut Checker<'a>) -> Vec<Rule> {
        let Some(rules) = self.rules.as_ref().filter(|rules| !rules.is_empty()) else {
            return vec![R::nothing().check(at, checker)];
        };
        if rules.len() > limits::RULES {
            checker.error(format!("at most {} rules, here are {}", limits::RULES, rules.len()));
        }
        let mut valid: Vec<Rule> = Vec::new();
        for (index, spec) in rules.iter().enumerate().take(limits::RULES) {
            checker.element(index, |checker| {
                if let Some(name) = spec.name().filter(|name| !is_subdomain(name)) {
                    checker.error_at(
                        "name",
                        format!("\"{name}\" is not a name: lower-case letters, digits, \"-\" and \".\""),
                    );
                }
                let rule = spec.check(At { index, ..at }, checker);
                let name = |rule: &Rule| rule.section.as_ref().and_then(|section| section.name.clone());
                if name(&rule).is_some() && valid.iter().any(|other| name(other) == name(&rule)) {
                    checker.error_at("name", "another rule of this route has this name");
                }
                valid.push(rule);
            });
        }
        valid
    }
}

/// The matchers of a rule; `any` where nothing is written.
fn matchers<'a, M>(
    specs: Option<&'a [M]>,
    any: Matcher,
    matcher: fn(&'a M, &mut Checker<'a>) -> Matcher,
    checker: &mut Checker<'a>,
) -> Vec<Arc<Matcher>> {
    let specs = specs.unwrap_or_default();
    if specs.is_empty() {
        return vec![Arc::new(any)];
    }
    if specs.len() > limits::MATCHES {
        checker.error(format!("at most {} matches, here are {}", limits::MATCHES, specs.len()));
    }
    let specs = specs.iter().enumerate().take(limits::MATCHES);
    specs.map(|(position, one)| Arc::new(checker.element(position, |checker| matcher(one, checker)))).collect()
}

/// A kind as people call it.
fn object(kind: &str, group: &str) -> String {
    if group.is_empty() { format!("`{kind}` of the core group") } else { format!("`{kind}` of `{group}`") }
}

/// The service that a reference names.
fn service<'a>(
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    own: &str,
    checker: &mut Checker<'a>,
) -> Option<ServiceName> {
    let Some(name) = name else {
        checker.missing("name", "must name a service");
        return None;
    };
    if !is_label(name) {
        checker.error_at("name", format!("\"{name}\" is not the name of a service"));
        return None;
    }
    if let Some(namespace) = namespace.filter(|namespace| !is_label(namespace)) {
        checker.error_at("namespace", format!("\"{namespace}\" is not the name of a namespace"));
        return None;
    }
    Some(ServiceName::new(namespace.unwrap_or(own), name))
}
