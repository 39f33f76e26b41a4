//! Rules as valid, before the names in them are resolved; whichever kind of document they are written in.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_core::filter::Filters;
use weir_core::gateway::Hostname;
use weir_core::methods::Methods;
use weir_core::name::{ObjectName, ServiceName};
use weir_core::retry::{Retry, RetryTo};
use weir_core::route::{Created, Matcher, Precedence, Section, Timeouts, Unmatched};
use weir_core::session::Session;
use weir_core::share::Share;
use weir_core::split::StickyKey;

use crate::place::Segment;

/// How a kind of document writes its rules: the fields that errors and references name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    RouteRule,
    GatewayApi,
}

/// The rules of a document.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) syntax: Syntax,
    pub(crate) created: Option<Created>,
    /// The services they apply to; `None` for all of the document's namespace.
    pub(crate) applies_to: Option<Vec<AppliesTo>>,
    /// What they are attached to; most are to nothing, and shall not have room for it.
    pub(crate) attachment: Option<Box<Attachment>>,
    /// What becomes of requests to those that no rule matches.
    pub(crate) unmatched: Unmatched,
    pub(crate) rules: Vec<Rule>,
}

/// A service that a document names.
#[derive(Debug)]
pub(crate) struct AppliesTo {
    pub(crate) service: ServiceName,
    /// `None` for every TCP port.
    pub(crate) port: Option<u16>,
    /// The name of the port; `None` for any.
    pub(crate) port_name: Option<Box<str>>,
    /// Where in the list it is written.
    pub(crate) position: usize,
}

/// The gateways that rules are attached to.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) gateways: Vec<AttachesTo>,
    /// The host names that the rules are for; none for all.
    pub(crate) hostnames: Vec<Hostname>,
}

/// A gateway that the document names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AttachesTo {
    pub(crate) gateway: ObjectName,
    /// `None` for any of its listeners.
    pub(crate) listener: Option<Box<str>>,
    /// `None` for any port.
    pub(crate) port: Option<u16>,
    /// Where in the list it is written.
    pub(crate) position: usize,
}

impl AttachesTo {
    /// Whether it names the same, wherever it is written.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.gateway, &self.listener, self.port) == (&other.gateway, &other.listener, other.port)
    }

    /// The field that names it.
    pub(crate) fn path(&self) -> [Segment<'static>; 3] {
        [Segment::Key("spec"), Segment::Key("parentRefs"), Segment::Index(self.position)]
    }
}

impl AppliesTo {
    /// Whether it names the same, wherever it is written.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.service, self.port, &self.port_name) == (&other.service, other.port, &other.port_name)
    }
}

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Which rule of the document; `None` where a document is one rule.
    pub(crate) section: Option<Section>,
    pub(crate) priority: i32,
    /// At least one.
    pub(crate) matchers: Vec<Arc<Matcher>>,
    pub(crate) filters: Option<Arc<Filters>>,
    /// Where requests go; `None` for the service that they were sent to.
    pub(crate) route: Option<Route>,
    pub(crate) mirrors: Vec<MirrorTo>,
    pub(crate) timeouts: Timeouts,
    /// Most rules have none, and shall not have room for it.
    pub(crate) retry: Option<Box<Retry<To>>>,
    /// The plugins that it names, each with its place in the list of filters.
    pub(crate) plugins: Box<[(usize, ObjectName)]>,
}

/// The destinations of a rule.
#[derive(Debug)]
pub(crate) struct Route {
    /// None: requests are answered with 500.
    pub(crate) destinations: Vec<WeightedTo>,
    /// Whether it is written as a list, so that paths have positions.
    pub(crate) is_list: bool,
    pub(crate) sticky: Option<StickyKey>,
    pub(crate) session: Option<Arc<Session>>,
}

/// A destination by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct To {
    pub(crate) service: ServiceName,
    /// `None`: the service's only port, else the one that the client addressed.
    pub(crate) port: Option<u16>,
    /// Whether it is one: of other kinds only the name is known.
    pub(crate) is_service: bool,
}

/// A destination with its part of the whole.
#[derive(Debug)]
pub(crate) struct WeightedTo {
    pub(crate) to: To,
    pub(crate) weight: u32,
    pub(crate) filters: Option<Arc<Filters>>,
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

impl Rules {
    /// The gateways that they are attached to.
    pub(crate) fn attached(&self) -> &[AttachesTo] {
        self.attachment.as_ref().map_or(&[], |attachment| &attachment.gateways)
    }

    /// The host names that they are for, at gateways; none for all.
    pub(crate) fn hostnames(&self) -> &[Hostname] {
        self.attachment.as_ref().map_or(&[], |attachment| &attachment.hostnames)
    }

    /// Whether they name any of these services. Rules that name none mean all of their namespace.
    pub(crate) fn refer_to(&self, namespace: &str, services: &BTreeSet<ServiceName>) -> bool {
        if services.is_empty() {
            return false;
        }
        let applies = match &self.applies_to {
            Some(named) => named.iter().any(|one| services.contains(&one.service)),
            None => services.iter().any(|service| *service.namespace == *namespace),
        };
        applies || self.rules.iter().flat_map(Rule::named).any(|to| to.is_service && services.contains(&to.service))
    }

    /// The places in the order of all their matches.
    pub(crate) fn precedences(&self, document: &ObjectName) -> impl Iterator<Item = Precedence> {
        self.rules.iter().flat_map(move |rule| {
            rule.matchers.iter().enumerate().map(move |(position, matcher)| Precedence {
                priority: rule.priority,
                created: self.created.clone(),
                section: rule.index(),
                position,
                ..Precedence::of(matcher, document)
            })
        })
    }
}

impl Rule {
    /// Every place that it sends something to.
    fn named(&self) -> impl Iterator<Item = &To> {
        let routed = self.route.iter().flat_map(|route| &route.destinations).map(|one| &one.to);
        routed.chain(self.retry_destination()).chain(self.mirrors.iter().map(|mirror| &mirror.to))
    }

    /// Whether the rule comes to the same at every port that it concerns: it names each destination with its port.
    pub(crate) fn is_same_everywhere(&self) -> bool {
        let has_ports = |route: &Route| {
            !route.destinations.is_empty() && route.destinations.iter().all(|one| one.to.port.is_some())
        };
        self.route.as_ref().is_some_and(has_ports)
            && self.mirrors.iter().all(|mirror| mirror.to.port.is_some())
            && self.retry_destination().is_none_or(|to| to.port.is_some())
    }

    /// Where requests that fail are tried again, if the rule names a place for that.
    pub(crate) fn retry_destination(&self) -> Option<&To> {
        match &self.retry.as_ref()?.to {
            RetryTo::Other(to) => Some(to),
            RetryTo::First | RetryTo::Same => None,
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.section.as_ref().map_or(0, |section| section.index)
    }
}

impl Syntax {
    /// The field of a service that the document names.
    pub(crate) fn applies_path(self, one: &AppliesTo) -> Vec<Segment<'static>> {
        let list = match self {
            Self::RouteRule => "services",
            Self::GatewayApi => "parentRefs",
        };
        vec![Segment::Key("spec"), Segment::Key(list), Segment::Index(one.position)]
    }

    /// The field of a destination.
    pub(crate) fn destination_path(self, rule: &Rule, position: usize) -> Vec<Segment<'static>> {
        let mut path = self.rule_path(rule);
        match self {
            Self::RouteRule => {
                path.push(Segment::Key("route"));
                let is_list = rule.route.as_ref().is_some_and(|route| route.is_list);
                path.push(Segment::Key(if is_list { "destinations" } else { "destination" }));
                path.extend(is_list.then_some(Segment::Index(position)));
            }
            Self::GatewayApi => path.extend([Segment::Key("backendRefs"), Segment::Index(position)]),
        }
        path
    }

    /// The field of a mirror's destination.
    pub(crate) fn mirror_path(self, rule: &Rule, mirror: &MirrorTo) -> Vec<Segment<'static>> {
        let mut path = self.rule_path(rule);
        let (list, inner): (_, &[_]) = match self {
            Self::RouteRule => ("mirror", &[Segment::Key("destination")]),
            Self::GatewayApi => ("filters", &[Segment::Key("requestMirror"), Segment::Key("backendRef")]),
        };
        path.push(Segment::Key(list));
        path.extend(mirror.position.map(Segment::Index));
        path.extend(inner);
        path
    }

    /// The field of a filter that names a plugin.
    pub(crate) fn filter_path(self, rule: &Rule, position: usize) -> Vec<Segment<'static>> {
        let mut path = self.rule_path(rule);
        path.extend([Segment::Key("filters"), Segment::Index(position), Segment::Key("extensionRef")]);
        path
    }

    /// The field of the destination of retries.
    pub(crate) fn retry_path(self, rule: &Rule) -> Vec<Segment<'static>> {
        let mut path = self.rule_path(rule);
        path.extend([Segment::Key("retry"), Segment::Key("destination")]);
        path
    }

    /// The field of a destination that names the service.
    pub(crate) fn name_key(self) -> &'static str {
        match self {
            Self::RouteRule => "host",
            Self::GatewayApi => "name",
        }
    }

    fn rule_path(self, rule: &Rule) -> Vec<Segment<'static>> {
        match self {
            Self::RouteRule => vec![Segment::Key("spec")],
            Self::GatewayApi => vec![Segment::Key("spec"), Segment::Key("rules"), Segment::Index(rule.index())],
        }
    }
}
