//! Host names of listeners and routes.

use std::net::IpAddr;

use weir_core::gateway::Hostname;

use crate::check::Checker;
use crate::kinds::metadata::is_subdomain;
use crate::limits;

/// A host name as the API has it: labels with dots between them, the first of which may be `*`.
pub(super) fn hostname<'a>(text: &str, checker: &mut Checker<'a>) -> Option<Hostname> {
    let labels = text.strip_prefix("*.").unwrap_or(text);
    if !is_subdomain(labels) {
        let message =
            format!("\"{text}\" is not a host name: lower-case letters, digits, \"-\" and \".\", perhaps after \"*.\"");
        checker.error(message);
        return None;
    }
    if labels.parse::<IpAddr>().is_ok() {
        checker.error("a host name is no address");
        return None;
    }
    Some(Hostname::new(text))
}

/// The host names of a route; none for those of its listeners.
pub(super) fn hostnames<'a>(texts: &'a [String], checker: &mut Checker<'a>) -> Vec<Hostname> {
    if texts.len() > limits::HOSTNAMES {
        checker.error(format!("at most {} host names, here are {}", limits::HOSTNAMES, texts.len()));
    }
    let mut valid = Vec::new();
    for (position, text) in texts.iter().enumerate().take(limits::HOSTNAMES) {
        valid.extend(checker.element(position, |checker| hostname(text, checker)));
    }
    valid
}
