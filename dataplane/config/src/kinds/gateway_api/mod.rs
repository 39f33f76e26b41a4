//! The kinds of the Gateway API (gateway.networking.k8s.io): `HTTPRoute` and `GRPCRoute`, with a `Service` (GAMMA,
//! GEP-1294) or a `Gateway` as their parent, `Gateway` and `ReferenceGrant`. A route has several rules; a service that has
//! routes, and a gateway, answer what none of them matches with 404. The kinds of routes differ in their matches and in
//! which filters they have.

mod backends;
mod filters;
mod gateway;
mod grpc_route;
mod hostnames;
mod http_route;
mod reference_grant;
mod session;
mod spec;
mod texts;

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_core::name::{ObjectName, ServiceName};
use weir_core::route::{Matcher, Unmatched};

use super::destination::port;
use super::envelope::Envelope;
use super::metadata::{Metadata, is_label, is_subdomain};
use super::rules::{AppliesTo, AttachesTo, Attachment, Rule, Rules, Syntax};
use super::{Content, Kind};
use crate::check::Checker;
use crate::limits;
pub(crate) use gateway::{From, Gateway, GatewayDocument, Listener};
pub(crate) use reference_grant::{ReferenceGrant, ReferenceGrantDocument};
use spec::{ReferenceSpec, Spec};

/// An `HTTPRoute` as it is written.
pub(crate) type HttpRouteDocument = Envelope<Spec<http_route::HttpRuleSpec>>;
/// A `GRPCRoute` as it is written.
pub(crate) type GrpcRouteDocument = Envelope<Spec<grpc_route::GrpcRuleSpec>>;

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

impl<R: RuleSpec> Kind for Envelope<Spec<R>> {
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
            let (services, gateways) = checker.field("parentRefs", |checker| self.spec.parents(namespace, checker));
            let hostnames = checker.field("hostnames", |checker| hostnames::hostnames(&self.spec.hostnames, checker));
            if !hostnames.is_empty() && !services.is_empty() && gateways.is_empty() {
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
                attachment: (!gateways.is_empty()).then(|| Box::new(Attachment { gateways, hostnames })),
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
    fn parents<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> (Vec<AppliesTo>, Vec<AttachesTo>) {
        if self.parent_refs.is_empty() {
            checker.warning("the route has no parent, and no effect");
        }
        if self.parent_refs.len() > limits::PARENTS {
            checker.error(format!("at most {} parents, here are {}", limits::PARENTS, self.parent_refs.len()));
        }
        let mut valid: Vec<AppliesTo> = Vec::new();
        let mut gateways: Vec<AttachesTo> = Vec::new();
        for (position, parent) in self.parent_refs.iter().enumerate().take(limits::PARENTS) {
            checker.element(position, |checker| {
                let group = parent.group.as_deref().unwrap_or(GATEWAY_GROUP);
                match (group, parent.kind.as_deref().unwrap_or("Gateway")) {
                    ("" | "core", "Service") => {}
                    (GATEWAY_GROUP, "Gateway") => {
                        let Some(attached) = parent.gateway(position, namespace, checker) else { return };
                        if gateways.iter().any(|other| other.is_same(&attached)) {
                            checker.error("the route names this parent twice");
                        }
                        gateways.push(attached);
                        return;
                    }
                    (_, "Service") => {
                        checker.error_at("group", "the group of a Service is written `group: \"\"`");
                        return;
                    }
                    (group, kind) => {
                        checker.error(format!(
                            "a parent must be a Gateway or a Service, {} is neither",
                            object(kind, group)
                        ));
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
        (valid, gateways)
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

impl ReferenceSpec {
    /// The gateway that a parent is.
    fn gateway<'a>(&'a self, position: usize, namespace: &str, checker: &mut Checker<'a>) -> Option<AttachesTo> {
        let Some(name) = self.name.as_deref() else {
            checker.missing("name", "must name a gateway");
            return None;
        };
        for (field, name) in [("name", Some(name)), ("sectionName", self.section_name.as_deref())] {
            if let Some(name) = name.filter(|name| !is_subdomain(name)) {
                checker
                    .error_at(field, format!("\"{name}\" is not a name: lower-case letters, digits, \"-\" and \".\""));
            }
        }
        if let Some(other) = self.namespace.as_deref().filter(|namespace| !is_label(namespace)) {
            checker.error_at("namespace", format!("\"{other}\" is not the name of a namespace"));
        }
        let gateway = ObjectName::new(GatewayDocument::KIND, self.namespace.as_deref().unwrap_or(namespace), name);
        let listener = self.section_name.as_deref().map(Into::into);
        Some(AttachesTo { gateway, listener, port: port(self.port, checker), position })
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
