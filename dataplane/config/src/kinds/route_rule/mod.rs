//! `RouteRule` (weir.dev/v1): which requests go where, and what is copied.

mod duration;
mod host;
mod matches;
mod route;
mod spec;

use std::sync::Arc;

use weir_core::mirror::{Methods, Share};
use weir_core::name::ServiceName;
use weir_core::route::{Matcher, Timeouts};
use weir_core::split::StickyKey;

use super::metadata::Metadata;
use super::{Content, Kind};
use crate::check::Checker;
use crate::limits;
use crate::place::Segment;

pub(crate) use spec::RouteRuleDocument;

/// A rule as valid, before the names in it are resolved.
#[derive(Debug)]
pub(crate) struct RouteRule {
    /// The services it applies to; `None` for all of its namespace.
    pub(crate) services: Option<Vec<AppliesTo>>,
    pub(crate) priority: i32,
    /// At least one.
    pub(crate) matchers: Vec<Arc<Matcher>>,
    /// Where requests go; `None` for the service that they were sent to.
    pub(crate) route: Option<Route>,
    pub(crate) mirrors: Vec<MirrorTo>,
    pub(crate) timeouts: Timeouts,
}

/// A service that a rule names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AppliesTo {
    pub(crate) service: ServiceName,
    /// `None` for every TCP port.
    pub(crate) port: Option<u16>,
}

/// The destinations of a rule.
#[derive(Debug)]
pub(crate) struct Route {
    /// At least one.
    pub(crate) destinations: Vec<WeightedTo>,
    /// Whether it is written as a list, so that paths have positions.
    pub(crate) is_list: bool,
    pub(crate) sticky: Option<StickyKey>,
}

/// A destination by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct To {
    pub(crate) service: ServiceName,
    /// `None`: the service's only port, else the one that the client addressed.
    pub(crate) port: Option<u16>,
}

/// A destination with its part of the whole.
#[derive(Debug)]
pub(crate) struct WeightedTo {
    pub(crate) to: To,
    pub(crate) weight: u32,
}

/// A mirror by name.
#[derive(Debug)]
pub(crate) struct MirrorTo {
    pub(crate) to: To,
    pub(crate) share: Share,
    pub(crate) methods: Methods,
    /// Position in the list, `None` when it is not written as one.
    pub(crate) position: Option<usize>,
}

impl RouteRule {
    /// Whether the rule comes to the same at every port that it concerns: it names each destination with its port.
    pub(crate) fn is_same_everywhere(&self) -> bool {
        let has_ports = |route: &Route| route.destinations.iter().all(|destination| destination.to.port.is_some());
        self.route.as_ref().is_some_and(has_ports) && self.mirrors.iter().all(|mirror| mirror.to.port.is_some())
    }

    /// The field of a destination.
    pub(crate) fn destination_path(&self, position: usize) -> Vec<Segment<'static>> {
        let route = [Segment::Key("spec"), Segment::Key("route")];
        let rest: &[Segment<'static>] = match &self.route {
            Some(route) if route.is_list => &[Segment::Key("destinations"), Segment::Index(position)],
            _ => &[Segment::Key("destination")],
        };
        [&route, rest].concat()
    }
}

impl MirrorTo {
    /// The field of the mirror.
    pub(crate) fn path(&self) -> Vec<Segment<'static>> {
        let mut path = vec![Segment::Key("spec"), Segment::Key("mirror")];
        path.extend(self.position.map(Segment::Index));
        path
    }
}

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
            if spec.matches.is_none() && spec.route.is_none() && spec.mirror.is_none() && spec.timeouts.is_none() {
                checker.warning("the rule says nothing: it needs match, route, mirror or timeouts");
            }
            let priority = spec.priority(checker);
            let services = checker.field("services", |checker| spec.services(namespace, checker));
            let matchers = checker.field("match", |checker| matches::matchers(spec.matches.as_ref(), checker));
            let route = checker.field("route", |checker| {
                spec.route.as_ref().map(|route| route::route(route, namespace, checker)).transpose()
            });
            let mirrors = checker.field("mirror", |checker| route::mirrors(spec.mirror.as_ref(), namespace, checker));
            let timeouts = checker.field("timeouts", |checker| route::timeouts(spec.timeouts.as_ref(), checker));
            Some(Content::RouteRule(Box::new(RouteRule {
                services,
                priority,
                matchers,
                route: route.ok()?,
                mirrors,
                timeouts,
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

    fn services<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Vec<AppliesTo>> {
        let services = self.services.as_ref()?;
        if services.is_empty() {
            checker.error("an empty list names no service; leave it out for every service of the namespace");
        }
        if services.len() > limits::SERVICES {
            checker.error(format!("at most {} services, here are {}", limits::SERVICES, services.len()));
        }
        let mut valid: Vec<AppliesTo> = Vec::new();
        for (position, service) in services.iter().enumerate().take(limits::SERVICES) {
            checker.element(position, |checker| {
                let applies = service.0.check(namespace, checker);
                if applies.as_ref().is_some_and(|applies| valid.contains(applies)) {
                    checker.error("the rule names this service twice");
                }
                valid.extend(applies);
            });
        }
        Some(valid)
    }
}

impl spec::ServiceSpec {
    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<AppliesTo> {
        let port = route::port(self.port, checker);
        let Some(name) = &self.name else {
            checker.missing("name", "must name a service");
            return None;
        };
        match host::parse(name, namespace) {
            Some(service) if *service.namespace == *namespace => Some(AppliesTo { service, port }),
            Some(service) => {
                let message = format!(
                    "a rule applies to services of its own namespace `{namespace}`, `{name}` is in `{}`",
                    service.namespace
                );
                checker.error(message);
                None
            }
            None => {
                checker.error(format!("\"{name}\" is not the name of a service"));
                None
            }
        }
    }
}
