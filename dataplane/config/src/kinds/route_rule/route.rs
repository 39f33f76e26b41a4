//! What a rule does with requests: destinations, mirrors, timeouts.

use http::HeaderName;
use weir_core::methods::Methods;
use weir_core::route::Timeouts;
use weir_core::share::Share;
use weir_core::split::StickyKey;

use super::matches::methods;
use super::spec::{DestinationSpec, MirrorSpec, RouteSpec, StickySpec, TimeoutsSpec};
use crate::check::Checker;
use crate::kinds::condition::cookie;
use crate::kinds::destination::{port, weight};
use crate::kinds::duration;
use crate::kinds::host;
use crate::kinds::rules::{MirrorTo, Route, To, WeightedTo};
use crate::limits;
use crate::shape::OneOrMany;

/// It has been reported.
pub(super) struct Wrong;

pub(super) fn route<'a>(spec: &'a RouteSpec, namespace: &str, checker: &mut Checker<'a>) -> Result<Route, Wrong> {
    let sticky = spec.sticky.as_ref().and_then(|sticky| checker.field("sticky", |checker| sticky_key(sticky, checker)));
    let (destinations, is_list) = match (&spec.destination, &spec.destinations) {
        (Some(one), None) => {
            let to = checker.field("destination", |checker| weighted(one, namespace, checker));
            (to.into_iter().collect(), false)
        }
        (None, Some(several)) => {
            let several = checker.field("destinations", |checker| destinations(several, namespace, checker));
            (several, true)
        }
        (Some(_), Some(_)) => {
            checker.error("has both destination and destinations; use one of them");
            return Err(Wrong);
        }
        (None, None) => {
            checker.missing("destination", "a route needs destination or destinations");
            return Err(Wrong);
        }
    };
    if destinations.is_empty() {
        return Err(Wrong);
    }
    if destinations.iter().all(|destination| destination.weight == 0) {
        checker.warning("every weight is 0: requests are answered with 500");
    }
    Ok(Route { destinations, is_list, sticky, session: None })
}

fn destinations<'a>(specs: &'a [DestinationSpec], namespace: &str, checker: &mut Checker<'a>) -> Vec<WeightedTo> {
    if specs.is_empty() {
        checker.error("needs at least one destination");
    }
    if specs.len() > limits::DESTINATIONS {
        checker.error(format!("at most {} destinations, here are {}", limits::DESTINATIONS, specs.len()));
    }
    let mut valid: Vec<WeightedTo> = Vec::new();
    for (position, spec) in specs.iter().enumerate().take(limits::DESTINATIONS) {
        checker.element(position, |checker| {
            let Some(one) = weighted(spec, namespace, checker) else { return };
            if valid.iter().any(|other| other.to == one.to) {
                checker.error("this destination is there twice; give it the sum of the weights once");
            }
            valid.push(one);
        });
    }
    valid
}

fn weighted<'a>(spec: &'a DestinationSpec, namespace: &str, checker: &mut Checker<'a>) -> Option<WeightedTo> {
    let weight = weight(spec.weight, checker);
    Some(WeightedTo { to: to(spec, namespace, checker)?, weight, filters: None })
}

fn to<'a>(spec: &'a DestinationSpec, namespace: &str, checker: &mut Checker<'a>) -> Option<To> {
    named(spec.host.as_deref(), spec.port, namespace, checker)
}

/// The service that a destination names.
pub(super) fn named<'a>(
    host: Option<&'a str>,
    number: Option<i64>,
    namespace: &str,
    checker: &mut Checker<'a>,
) -> Option<To> {
    let port = port(number, checker);
    let Some(name) = host else {
        checker.missing("host", "must name a service");
        return None;
    };
    let service = host::parse(name, namespace);
    if service.is_none() {
        let forms = "name, name.namespace or name.namespace.svc.cluster.local";
        checker.error_at("host", format!("\"{name}\" is not a service; write {forms}"));
    }
    Some(To { service: service?, port, is_service: true })
}

pub(super) fn sticky_key<'a>(spec: &'a StickySpec, checker: &mut Checker<'a>) -> Option<StickyKey> {
    match (&spec.header, &spec.cookie, spec.source.as_deref()) {
        (Some(name), None, None) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => return Some(StickyKey::Header(name)),
            Err(_) => checker.error_at("header", format!("\"{name}\" is not the name of a header")),
        },
        (None, Some(name), None) => match cookie(name) {
            Ok(_) => return Some(StickyKey::Cookie(name.as_str().into())),
            Err(message) => checker.error_at("cookie", message),
        },
        (None, None, Some("identity")) => return Some(StickyKey::SourceIdentity),
        (None, None, Some("ip")) => return Some(StickyKey::SourceIp),
        (None, None, Some(other)) => {
            checker.error_at("source", format!("must be `identity` or `ip`, is \"{other}\""));
        }
        _ => checker.error("needs exactly one of header, cookie, source"),
    }
    None
}

pub(super) fn mirrors<'a>(
    spec: Option<&'a OneOrMany<MirrorSpec>>,
    namespace: &str,
    checker: &mut Checker<'a>,
) -> Vec<MirrorTo> {
    let Some(spec) = spec else {
        return Vec::new();
    };
    if !spec.is_list {
        return spec.items.iter().filter_map(|one| mirror(one, None, namespace, checker)).collect();
    }
    if spec.items.is_empty() {
        checker.error("an empty list mirrors nothing; leave it out");
    }
    if spec.items.len() > limits::MIRRORS {
        checker.error(format!("at most {} mirrors, here are {}", limits::MIRRORS, spec.items.len()));
    }
    let items = spec.items.iter().enumerate().take(limits::MIRRORS);
    let each = |(position, one)| checker.element(position, |c| mirror(one, Some(position), namespace, c));
    items.filter_map(each).collect()
}

/// A share of requests, which is all of them where nothing is written.
pub(super) fn share(percentage: Option<f64>, checker: &mut Checker<'_>) -> Option<Share> {
    let percentage = percentage.unwrap_or(100.0);
    let share = Share::from_percent(percentage);
    if share.is_none() {
        checker.error_at("percentage", format!("must be between 0 and 100, is {percentage}"));
    }
    share
}

fn mirror<'a>(
    spec: &'a MirrorSpec,
    position: Option<usize>,
    namespace: &str,
    checker: &mut Checker<'a>,
) -> Option<MirrorTo> {
    let share = share(spec.percentage, checker);
    let methods = methods(spec.methods.as_deref(), Methods::Safe, checker);
    let Some(destination) = &spec.destination else {
        checker.missing("destination", "a mirror needs a destination");
        return None;
    };
    let to = checker.field("destination", |checker| {
        if destination.weight.is_some() {
            checker.error_at("weight", "the destination of a mirror has no weight; see percentage");
        }
        to(destination, namespace, checker)
    });
    Some(MirrorTo { to: to?, share: share?, methods, position })
}

pub(super) fn timeouts<'a>(spec: Option<&'a TimeoutsSpec>, checker: &mut Checker<'a>) -> Timeouts {
    let Some(spec) = spec else {
        return Timeouts::default();
    };
    duration::timeouts(spec.request.as_ref(), ("perTry", spec.per_try.as_ref()), checker)
}
