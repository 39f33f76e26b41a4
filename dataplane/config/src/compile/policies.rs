//! Which policy is for which port of a service.

use std::collections::HashMap;
use std::sync::Arc;

use weir_core::balance::{Locality, TrafficPolicy};
use weir_core::name::{ObjectName, ServiceName};

use super::names::{Found, Names};
use crate::diagnostic::Diagnostic;
use crate::kinds::service::{Service, ServicePort};
use crate::place::Segment;

/// The policies of services, and of single ports.
pub(super) struct Policies<'s> {
    by_target: HashMap<(&'s ServiceName, Option<&'s str>), (&'s ObjectName, &'s TrafficPolicy)>,
}

impl<'s> Policies<'s> {
    /// Finds them and reports what is wrong with what they are for.
    pub(super) fn new(names: &Names<'s>, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut by_target: HashMap<_, (&ObjectName, &TrafficPolicy)> = HashMap::new();
        for (document, policy) in &names.policies {
            for target in &policy.targets {
                let port_name = target.port_name.as_deref();
                let path = target.path();
                let field = |key| [path.as_slice(), &[Segment::Key(key)]].concat();
                match names.service(&target.service) {
                    None => {
                        let message = format!("there is no Service {}; the policy has no effect on it", target.service);
                        diagnostics.push(document.scope().warning(&field("name"), message));
                    }
                    Some(Found { service, .. }) => {
                        if let Some(name) = port_name.filter(|name| !service.ports.iter().any(|one| one.name == **name))
                        {
                            let message = format!("Service {} has no port of the name `{name}`", target.service);
                            diagnostics.push(document.scope().warning(&field("sectionName"), message));
                        }
                    }
                }
                let key = (&target.service, port_name);
                if let Some((other, _)) = by_target.get(&key) {
                    let message = format!("{other} is for this as well: a service, and a port, has one policy");
                    diagnostics.push(document.scope().error(&path, message));
                } else {
                    by_target.insert(key, (&document.name, &policy.policy));
                }
            }
        }
        Self { by_target }
    }

    /// The policy for a port: its own, else that of its service, with what the service itself says. `None` for the
    /// usual one.
    pub(super) fn find(&self, name: &ServiceName, service: &Service, port: &ServicePort) -> Option<Arc<TrafficPolicy>> {
        let own = self.by_target.get(&(name, Some(port.name.as_str())));
        let policy = own.or_else(|| self.by_target.get(&(name, None))).map(|(_, policy)| *policy);
        if policy.is_none() && service.locality == Locality::Anywhere {
            return None;
        }
        Some(Arc::new(TrafficPolicy { locality: service.locality, ..policy.cloned().unwrap_or_default() }))
    }
}
