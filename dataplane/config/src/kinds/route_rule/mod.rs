//! `RouteRule` (weir.dev/v1): which requests go where, and what is copied. A document is one rule.

mod filters;
mod matches;
mod retry;
mod route;
mod spec;

use weir_core::route::Unmatched;

use super::metadata::Metadata;
use super::rules::{Rule, Rules, Syntax};
use super::{Content, Kind, services};
use crate::check::Checker;
use crate::limits;

pub(crate) use spec::RouteRuleDocument;

impl Kind for RouteRuleDocument {
    const KIND: &'static str = "RouteRule";
    const API_VERSIONS: &'static [&'static str] = &["weir.dev/v1", "gateway.example.com/v1"];

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Content> {
        checker.field("metadata", |checker| self.metadata.check(checker));
        let spec = &self.spec;
        checker.field("spec", |checker| {
            if *spec
                == (spec::Spec { services: spec.services.clone(), priority: spec.priority, ..spec::Spec::default() })
            {
                checker.warning("the rule says nothing: it needs match, route or something else to do");
            }
            let priority = spec.priority(checker);
            let services = checker.field("services", |checker| {
                spec.services.as_ref().map(|written| services::services("a rule", written, namespace, checker))
            });
            let matchers = checker.field("match", |checker| matches::matchers(spec.matches.as_ref(), checker));
            let route = checker.field("route", |checker| {
                spec.route.as_ref().map(|route| route::route(route, namespace, checker)).transpose()
            });
            let mirrors = checker.field("mirror", |checker| route::mirrors(spec.mirror.as_ref(), namespace, checker));
            let timeouts = checker.field("timeouts", |checker| route::timeouts(spec.timeouts.as_ref(), checker));
            let retry = checker.field("retry", |checker| {
                spec.retry.as_ref().and_then(|retry| retry::retry(retry, namespace, &timeouts, checker)).map(Box::new)
            });
            let filters = filters::filters(spec, checker).shared();
            let route = route.ok()?;
            let rule = Rule {
                section: None,
                priority,
                matchers,
                filters,
                route,
                mirrors,
                timeouts,
                retry,
                plugins: Box::default(),
            };
            Some(Content::Rules(Box::new(Rules {
                syntax: Syntax::RouteRule,
                created: None,
                applies_to: services,
                attachment: None,
                unmatched: Unmatched::ToService,
                rules: vec![rule],
            })))
        })
    }

    fn normalise(&mut self) {
        self.spec.normalise();
    }
}

impl spec::Spec {
    fn priority<'a>(&'a self, checker: &mut Checker<'a>) -> i32 {
        let priority = self.priority.unwrap_or_default();
        if priority.abs() > limits::PRIORITY {
            checker.error_at("priority", format!("must be between -{0} and {0}, is {priority}", limits::PRIORITY));
            return 0;
        }
        priority as i32
    }
}
