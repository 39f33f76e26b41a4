//! Finds what the rules of every document concern.

use std::fmt;

use weir_core::name::ClusterName;

use super::destinations::{check_destinations, no_such_port};
use super::names::{Found, Names};
use crate::diagnostic::Diagnostic;
use crate::document::Document;
use crate::kinds::rules::{AppliesTo, Rules};
use crate::kinds::service::{Reached, ServicePort};
use crate::limits;
use crate::place::Segment;

/// The rules of a document, and the ports that they concern.
pub(super) struct Planned<'s> {
    pub(super) document: &'s Document,
    pub(super) rules: &'s Rules,
    pub(super) ports: Vec<ClusterName>,
}

/// There are more than [`limits::ROUTE_ENTRIES`].
#[derive(Clone, Copy, Debug)]
pub(super) struct TooMany;

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the rules come to more than {} route entries (matches times ports of services); name the services that a \
             rule applies to",
            limits::ROUTE_ENTRIES
        )
    }
}

/// Finds what rules concern and reports what is wrong with that and with their destinations. `count` is the number of
/// route entries that there are besides.
pub(super) fn plan<'s>(
    documents: &[(&'s Document, &'s Rules)],
    names: &Names<'s>,
    mut count: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Vec<Planned<'s>>, TooMany> {
    let mut planned = Vec::new();
    for (document, rules) in documents {
        let mut found = Concerned { names, document, ports: Vec::new(), diagnostics };
        match &rules.applies_to {
            Some(services) => services.iter().for_each(|one| found.named(&rules.syntax.applies_path(one), one)),
            None => found.every_service(),
        }
        let ports = found.ports;
        check_destinations(names, document, rules, &ports, diagnostics);
        count += ports.len() * rules.rules.iter().map(|rule| rule.matchers.len()).sum::<usize>();
        planned.push(Planned { document, rules, ports });
        if count > limits::ROUTE_ENTRIES {
            return Err(TooMany);
        }
    }
    Ok(planned)
}

/// Collects the ports that the rules of a document concern.
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

    /// A service that the document names.
    fn named(&mut self, path: &[Segment<'_>], applies: &AppliesTo) {
        let AppliesTo { service: name, port, port_name, .. } = applies;
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
        let is_meant = |known: &&ServicePort| {
            port.is_none_or(|port| port == known.port)
                && port_name.as_deref().is_none_or(|port_name| *port_name == *known.name)
        };
        let mut ports = service.tcp_ports().filter(is_meant).peekable();
        if ports.peek().is_none() {
            let reason = match port_name {
                Some(port_name) => format!("has no TCP port of the name `{port_name}` that is meant"),
                None => no_such_port(service.tcp_ports(), *port),
            };
            self.warn(path, format!("Service {name} {reason}"));
        }
        for known in ports {
            let name = ClusterName { service: name.clone(), port: known.port };
            if known.protocol.may_be_http() {
                if !self.ports.contains(&name) {
                    self.ports.push(name);
                }
            } else if port.is_some() || port_name.is_some() {
                // Of a service as a whole, ports for something else than HTTP are not meant.
                let reason = "does not carry HTTP, as its name or appProtocol says";
                self.warn(path, format!("port {} of Service {} {reason}", known.port, name.service));
            }
        }
    }

    /// Every service of the rule's namespace, because the rule names none.
    fn every_service(&mut self) {
        let mut is_none = true;
        let names = self.names;
        for (name, Found { service, .. }) in names.services_in(&self.document.name.namespace) {
            is_none = false;
            for port in service.tcp_ports().filter(|_| service.reached != Reached::ExternalName) {
                if port.protocol.may_be_http() {
                    self.ports.push(ClusterName { service: name.clone(), port: port.port });
                }
            }
        }
        if is_none {
            let message = format!("there is no Service in the namespace `{}`", self.document.name.namespace);
            self.warn(&[Segment::Key("spec")], message);
        }
    }
}
