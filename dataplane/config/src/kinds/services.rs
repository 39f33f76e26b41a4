//! Services that a document of Weir's own is for, as people write them.

use serde::{Deserialize, Serialize};

use super::destination::port;
use super::host;
use super::rules::AppliesTo;
use crate::check::Checker;
use crate::limits;
use crate::shape::{OrText, Shape};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with name and port")]
pub(crate) struct ServiceSpec {
    pub(crate) name: Option<String>,
    pub(crate) port: Option<i64>,
}

impl Shape for ServiceSpec {
    const ONE: &'static str = "text (the name of a service) or an object with name and port";
    const SEVERAL: &'static str = "a list of names of services";
}

impl From<String> for ServiceSpec {
    fn from(name: String) -> Self {
        Self { name: Some(name), port: None }
    }
}

/// Services as valid. `what` says what is for them: "a rule".
pub(super) fn services<'a>(
    what: &str,
    written: &'a [OrText<ServiceSpec>],
    namespace: &str,
    checker: &mut Checker<'a>,
) -> Vec<AppliesTo> {
    if written.is_empty() {
        checker.error("an empty list names no service; leave it out for every service of the namespace");
    }
    if written.len() > limits::SERVICES {
        checker.error(format!("at most {} services, here are {}", limits::SERVICES, written.len()));
    }
    let mut valid: Vec<AppliesTo> = Vec::new();
    for (position, service) in written.iter().enumerate().take(limits::SERVICES) {
        checker.element(position, |checker| {
            let applies = service.0.check(what, position, namespace, checker);
            if applies.as_ref().is_some_and(|applies| valid.iter().any(|other| other.is_same(applies))) {
                checker.error("this service is named twice");
            }
            valid.extend(applies);
        });
    }
    // There are many rules, and each names few services.
    valid.shrink_to_fit();
    valid
}

impl ServiceSpec {
    fn check<'a>(
        &'a self,
        what: &str,
        position: usize,
        namespace: &str,
        checker: &mut Checker<'a>,
    ) -> Option<AppliesTo> {
        let port = port(self.port, checker);
        let Some(name) = &self.name else {
            checker.missing("name", "must name a service");
            return None;
        };
        match host::parse(name, namespace) {
            Some(service) if *service.namespace == *namespace => {
                Some(AppliesTo { service, port, port_name: None, position })
            }
            Some(service) => {
                let other = service.namespace;
                let message =
                    format!("{what} applies to services of its own namespace `{namespace}`, `{name}` is in `{other}`");
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
