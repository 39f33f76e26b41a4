//! `HTTPRoute` (gateway.networking.k8s.io/v1): the Gateway API's routes, with a `Service` as their parent (GAMMA,
//! GEP-1294). A document has several rules; a service that has routes answers what none of them matches with 404.

mod backends;
mod filters;
mod matches;
mod spec;

use weir_core::name::ServiceName;
use weir_core::route::{Section, Timeouts, Unmatched};

use super::destination::port;
use super::duration;
use super::metadata::{Metadata, is_label, is_subdomain};
use super::rules::{AppliesTo, Route, Rule, Rules, Syntax};
use super::{Content, Kind};
use crate::check::Checker;
use crate::limits;
use spec::{RuleSpec, Spec, TimeoutsSpec};

pub(crate) use spec::HttpRouteDocument;

/// The group of the Gateway API's own kinds.
const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

impl Kind for HttpRouteDocument {
    const KIND: &'static str = "HTTPRoute";
    const API_VERSIONS: &'static [&'static str] =
        &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];
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
            let rules = checker.field("rules", |checker| self.spec.rules(namespace, checker));
            Some(Content::Rules(Box::new(Rules {
                syntax: Syntax::HttpRoute,
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

impl Spec {
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

    fn rules<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Vec<Rule> {
        /// What the API takes for a route that says nothing: everything, to nowhere.
        static NOTHING: RuleSpec = RuleSpec {
            name: None,
            matches: None,
            filters: Vec::new(),
            backend_refs: Vec::new(),
            timeouts: None,
            retry: None,
            session_persistence: None,
        };
        let Some(rules) = self.rules.as_ref().filter(|rules| !rules.is_empty()) else {
            return vec![rule(&NOTHING, 0, namespace, checker)];
        };
        if rules.len() > limits::RULES {
            checker.error(format!("at most {} rules, here are {}", limits::RULES, rules.len()));
        }
        let mut valid: Vec<Rule> = Vec::new();
        for (index, spec) in rules.iter().enumerate().take(limits::RULES) {
            checker.element(index, |checker| {
                let rule = rule(spec, index, namespace, checker);
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

fn rule<'a>(spec: &'a RuleSpec, index: usize, namespace: &str, checker: &mut Checker<'a>) -> Rule {
    if let Some(name) = spec.name.as_deref().filter(|name| !is_subdomain(name)) {
        checker.error_at("name", format!("\"{name}\" is not a name: lower-case letters, digits, \"-\" and \".\""));
    }
    for (key, value) in [("retry", &spec.retry), ("sessionPersistence", &spec.session_persistence)] {
        if value.is_some() {
            checker.error_at(key, "this version of Weir does not do that yet");
        }
    }
    let matchers = checker.field("matches", |checker| matches::matchers(spec.matches.as_deref(), checker));
    let done = checker.field("filters", |checker| filters::of_rule(&spec.filters, &matchers, namespace, checker));
    let destinations = checker.field("backendRefs", |checker| {
        if done.filters.redirect.is_some() && !spec.backend_refs.is_empty() {
            checker.error("a rule that redirects has no backends");
        }
        backends::destinations(&spec.backend_refs, &matchers, &done.filters, namespace, checker)
    });
    if done.filters.redirect.is_none() && destinations.iter().all(|one| one.weight == 0) {
        checker.field("backendRefs", |checker| {
            checker.warning("there is no backend with a weight: requests are answered with 500");
        });
    }
    let timeouts = checker.field("timeouts", |checker| timeouts(spec.timeouts.as_ref(), checker));
    Rule {
        section: Some(Section { index, name: spec.name.as_deref().map(Into::into) }),
        priority: 0,
        matchers,
        filters: done.filters.shared(),
        route: Some(Route { destinations, is_list: true, sticky: None }),
        mirrors: done.mirrors,
        timeouts,
    }
}

fn timeouts<'a>(spec: Option<&'a TimeoutsSpec>, checker: &mut Checker<'a>) -> Timeouts {
    let Some(spec) = spec else {
        return Timeouts::default();
    };
    duration::timeouts(spec.request.as_ref(), ("backendRequest", spec.backend_request.as_ref()), checker)
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
