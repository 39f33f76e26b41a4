//! What the destinations of rules lead to.

use weir_core::name::ClusterName;

use super::names::{Found, Names};
use crate::diagnostic::Diagnostic;
use crate::document::Document;
use crate::kinds::rules::{Rules, Syntax, To};
use crate::kinds::service::{Reached, Service, ServicePort};
use crate::place::Segment;

/// What becomes of requests for a destination that leads nowhere.
#[derive(Clone, Copy)]
enum Use {
    Routed,
    Retried,
    Mirrored,
}

impl Use {
    fn fate(self, status: u16) -> String {
        match self {
            Self::Routed => format!("requests for it are answered with {status}"),
            Self::Retried => format!("retries are answered with {status}"),
            Self::Mirrored => "nothing is copied".to_owned(),
        }
    }
}

/// Reports destinations that lead nowhere. `ports` are those that the rules concern.
pub(super) fn check_destinations(
    names: &Names<'_>,
    document: &Document,
    rules: &Rules,
    ports: &[ClusterName],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let syntax = rules.syntax;
    let mut check = |used, path, to| check(names, document, (syntax, used), (path, to), ports, diagnostics);
    for rule in &rules.rules {
        for (position, destination) in rule.route.iter().flat_map(|route| route.destinations.iter().enumerate()) {
            check(Use::Routed, syntax.destination_path(rule, position), &destination.to);
        }
        if let Some(to) = rule.retry_destination() {
            check(Use::Retried, syntax.retry_path(rule), to);
        }
        for mirror in &rule.mirrors {
            check(Use::Mirrored, syntax.mirror_path(rule, mirror), &mirror.to);
        }
    }
}

fn check(
    names: &Names<'_>,
    document: &Document,
    (syntax, used): (Syntax, Use),
    (mut path, to): (Vec<Segment<'static>>, &To),
    ports: &[ClusterName],
    diagnostics: &mut Vec<Diagnostic>,
) {
    if !to.is_service {
        return;
    }
    let scope = document.scope();
    let name = &to.service;
    let Some(Found { service, .. }) = names.service(name) else {
        path.push(Segment::Key(syntax.name_key()));
        diagnostics.push(scope.warning(&path, format!("there is no Service {name}; {}", used.fate(500))));
        return;
    };
    if service.reached == Reached::ExternalName {
        path.push(Segment::Key(syntax.name_key()));
        let message = format!("Service {name} is an ExternalName, which cannot be a destination");
        diagnostics.push(scope.error(&path, message));
    } else if !is_resolved(to, service, ports) {
        path.push(Segment::Key("port"));
        let reason = no_such_port(service.tcp_ports(), to.port);
        diagnostics.push(scope.warning(&path, format!("Service {name} {reason}; {}", used.fate(500))));
    } else if names.slices(name).is_empty() {
        path.push(Segment::Key(syntax.name_key()));
        let message = format!("Service {name} has no EndpointSlice; {}", used.fate(503));
        diagnostics.push(scope.warning(&path, message));
    }
}

/// Whether the port is known wherever the rule applies.
fn is_resolved(to: &To, service: &Service, ports: &[ClusterName]) -> bool {
    let known = service.tcp_ports().count();
    if to.port.is_some() || known <= 1 {
        return port(to, service.tcp_ports(), 0).is_some();
    }
    ports.iter().all(|addressed| port(to, service.tcp_ports(), addressed.port).is_some())
}

/// Why a port is not known, after the name of the service.
pub(super) fn no_such_port<'p>(known: impl Iterator<Item = &'p ServicePort>, wanted: Option<u16>) -> String {
    let known: Vec<String> = known.map(|port| port.port.to_string()).collect();
    match (wanted, known.as_slice()) {
        (_, []) => "has no TCP port".to_owned(),
        (Some(wanted), known) => format!("has no TCP port {wanted}, it has {}", known.join(", ")),
        (None, known) => format!("has the TCP ports {}; name one of them", known.join(", ")),
    }
}

/// The port of a destination when the client addressed port `addressed`: what is written, else the only one, else the
/// same as the client's.
pub(super) fn port<'p>(to: &To, known: impl Iterator<Item = &'p ServicePort>, addressed: u16) -> Option<u16> {
    let wanted = to.port.unwrap_or(addressed);
    let (mut count, mut only, mut is_there) = (0, None, false);
    for known in known {
        (count, only) = (count + 1, Some(known.port));
        is_there |= known.port == wanted;
    }
    match (to.port, count) {
        (None, 1) => only,
        _ => is_there.then_some(wanted),
    }
}
