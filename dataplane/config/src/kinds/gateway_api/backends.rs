//! Backends of a route's rule: its destinations.

use std::sync::Arc;

use weir_core::filter::Filters;
use weir_core::route::Matcher;

use super::spec::{BackendSpec, ReferenceSpec};
use super::{filters, object, service};
use crate::check::Checker;
use crate::kinds::destination::{port, weight};
use crate::kinds::rules::{To, WeightedTo};
use crate::limits;

/// The destinations of a rule, which has these matchers and filters.
pub(super) fn destinations<'a>(
    specs: &'a [BackendSpec],
    types: &[filters::Type],
    matchers: &[Arc<Matcher>],
    rule: &Filters,
    namespace: &str,
    checker: &mut Checker<'a>,
) -> Vec<WeightedTo> {
    if specs.len() > limits::DESTINATIONS {
        checker.error(format!("at most {} backends, here are {}", limits::DESTINATIONS, specs.len()));
    }
    let specs = specs.iter().enumerate().take(limits::DESTINATIONS);
    let valid = specs.filter_map(|(position, spec)| {
        checker.element(position, |checker| {
            let weight = weight(spec.weight, checker);
            let filters =
                checker.field("filters", |checker| filters::of_backend(&spec.filters, types, matchers, rule, checker));
            let to = to(&Named::from(spec), namespace, checker)?;
            Some(WeightedTo { to, weight, filters: filters.shared() })
        })
    });
    valid.collect()
}

/// The destination of a mirror.
pub(super) fn mirrored<'a>(spec: &'a ReferenceSpec, namespace: &str, checker: &mut Checker<'a>) -> Option<To> {
    if spec.section_name.is_some() {
        checker.error_at("sectionName", "a backend has none");
    }
    to(&Named::from(spec), namespace, checker)
}

/// What names a backend, wherever it is written.
struct Named<'a> {
    group: Option<&'a str>,
    kind: Option<&'a str>,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    port: Option<i64>,
}

impl<'a> From<&'a BackendSpec> for Named<'a> {
    fn from(spec: &'a BackendSpec) -> Self {
        let BackendSpec { group, kind, namespace, name, port, .. } = spec;
        let [group, kind, namespace, name] = [group, kind, namespace, name].map(Option::as_deref);
        Self { group, kind, namespace, name, port: *port }
    }
}

impl<'a> From<&'a ReferenceSpec> for Named<'a> {
    fn from(spec: &'a ReferenceSpec) -> Self {
        let ReferenceSpec { group, kind, namespace, name, port, .. } = spec;
        let [group, kind, namespace, name] = [group, kind, namespace, name].map(Option::as_deref);
        Self { group, kind, namespace, name, port: *port }
    }
}

fn to<'a>(named: &Named<'a>, own: &str, checker: &mut Checker<'a>) -> Option<To> {
    let is_service = matches!((named.group, named.kind), (None | Some("" | "core"), None | Some("Service")));
    if !is_service {
        let (group, kind) = (named.group.unwrap_or_default(), named.kind.unwrap_or("Service"));
        // As the API has it: that is no reason to refuse the route, but its share of requests is.
        let kind = object(kind, group);
        checker.warning(format!("a backend must be a Service, {kind} is none; requests for it are answered with 500"));
    } else if named.port.is_none() {
        checker.missing("port", "a Service as a backend needs a port");
        return None;
    }
    let port = port(named.port, checker);
    let service = service(named.name, named.namespace, own, checker)?;
    Some(To { service, port, is_service })
}
