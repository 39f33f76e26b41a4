//! Finds what every rule concerns.

use std::collections::HashSet;

use weir_core::name::{ClusterName, ServiceName};
use weir_core::snapshot::Protocol;

use super::destinations::{check_destinations, no_such_port};
use super::names::{Found, Names};
use crate::diagnostic::Diagnostic;
use crate::document::Document;
use crate::kinds::route_rule::RouteRule;
use crate::kinds::service::{Reached, ServicePort};
use crate::limits;
use crate::place::Segment;

/// A rule, and the ports that it concerns.
pub(super) struct Planned<'s> {
    pub(super) document: &'s Document,
    pub(super) rule: &'s RouteRule,
    pub(super) ports: Vec<ClusterName>,
}

/// Finds what every rule concerns and reports what is wrong with that and with its destinations.
pub(super) fn plan<'s>(names: &Names<'s>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Planned<'s>> {
    let mut planned = Vec::new();
    let mut unnamed = HashSet::new();
    let mut count = 0;
    for (document, rule) in &names.rules {
        let mut found = Concerned { names, document, ports: Vec::new(), diagnostics };
        match &rule.services {
            Some(services) => {
                for (position, applies) in services.iter().enumerate() {
                    let path = [Segment::Key("spec"), Segment::Key("services"), Segment::Index(position)];
                    found.named(&path, &applies.service, applies.port);
                }
            }
            None => found.every_service(&mut unnamed),
        }
        let ports = found.ports;
        check_destinations(names, document, rule, &ports, diagnostics);
        count += ports.len() * rule.matchers.len();
        planned.push(Planned { document, rule, ports });
        if count <= limits::ROUTE_ENTRIES {
            continue;
        }
        let message = format!(
            "the rules come to more than {} route entries (matches times ports of services); name the services that a \
             rule applies to",
            limits::ROUTE_ENTRIES
        );
        diagnostics.push(Diagnostic::error(message));
        break;
    }
    planned
}

/// Collects the ports that a rule concerns.
struct Concerned<'a, 's> {
    names: &'a Names<'s>,
    document: &'s Document,
    ports: Vec<ClusterName>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Concerned<'_, '_> {
    fn warn(&mut self, path: &[Segment<'_>], message: String) {
        self.diagnostics.push(self.document.scope().warning(path, message));
    }

    /// A service that the rule names.
    fn named(&mut self, path: &[Segment<'_>], name: &ServiceName, port: Option<u16>) {
        let Some(Found { service, .. }) = self.names.service(name) else {
            self.warn(path, format!("there is no Service {name}; the rule does not apply to it"));
            return;
        };
        match &service.reached {
            Reached::At(_) => {}
            Reached::Headless => {
                let message = format!(
                    "Service {name} has no virtual address: clients reach its pods directly, and no rule concerns that"
                );
                self.warn(path, message);
            }
            Reached::ExternalName => {
                self.warn(path, format!("Service {name} is an ExternalName, to which no rule applies"));
                return;
            }
        }
        let mut ports = service.tcp_ports().filter(|known| port.is_none_or(|port| port == known.port)).peekable();
        if ports.peek().is_none() {
            self.warn(path, format!("Service {name} {}", no_such_port(service.tcp_ports(), port)));
        }
        for known in ports {
            let name = ClusterName { service: name.clone(), port: known.port };
            if matches!(known.carries.protocol, Protocol::Http | Protocol::Detect) {
                if !self.ports.contains(&name) {
                    self.ports.push(name);
                }
            } else if port.is_some() || known.carries.is_http2 {
                // Of a service as a whole, ports for something else than HTTP are not meant.
                self.warn(path, format!("port {} of Service {} {}", known.port, name.service, why_not(known)));
            }
        }
    }

    /// Every service of the rule's namespace, because the rule names none.
    fn every_service(&mut self, warned: &mut HashSet<ClusterName>) {
        let mut is_none = true;
        let names = self.names;
        for (name, Found { document, service }) in names.services_in(&self.document.name.namespace) {
            is_none = false;
            for port in service.tcp_ports().filter(|_| service.reached != Reached::ExternalName) {
                if matches!(port.carries.protocol, Protocol::Http | Protocol::Detect) {
                    self.ports.push(ClusterName { service: name.clone(), port: port.port });
                } else if port.carries.is_http2 && warned.insert(ClusterName { service: name.clone(), port: port.port })
                {
                    // Once for the port, not for every rule: whoever wrote them did not think of this port.
                    let path = [Segment::Key("spec"), Segment::Key("ports"), Segment::Index(port.position)];
                    let message = format!("{}; the rules of the namespace have no effect on it", why_not(port));
                    self.diagnostics.push(document.scope().warning(&path, message));
                }
            }
        }
        if is_none {
            let message = format!("there is no Service in the namespace `{}`", self.document.name.namespace);
            self.warn(&[Segment::Key("spec")], message);
        }
    }
}

fn why_not(port: &ServicePort) -> &'static str {
    if port.carries.is_http2 {
        "carries HTTP/2, which this version of Weir does not route yet"
    } else {
        "does not carry HTTP, as its name or appProtocol says"
    }
}
