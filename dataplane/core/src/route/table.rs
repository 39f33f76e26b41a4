//! The route table of a service, and the decision about a request.

use std::sync::Arc;
use std::time::Duration;

use super::matcher::Matcher;
use super::precedence::Precedence;
use super::request::Request;
use crate::mirror::Mirror;
use crate::name::ObjectName;
use crate::split::{ChosenBy, Destination, Split};

/// Bounds on how long a request may take. `None`: no bound of the rule's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request's head to the end of the response.
    pub request: Option<Duration>,
    /// From sending the request to an endpoint to the head of its response, for each try.
    pub per_try: Option<Duration>,
}

/// A rule as valid: what is done with the requests that it matches.
#[derive(Debug)]
pub struct Rule {
    /// The document it comes from.
    pub name: ObjectName,
    /// Higher comes first among rules.
    pub priority: i32,
    /// Where requests go.
    pub split: Split,
    /// Where copies go.
    pub mirrors: Vec<Mirror>,
    /// How long it may take.
    pub timeouts: Timeouts,
}

/// One way to match a rule.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The conditions, shared by the entries of all the ports that a rule concerns.
    pub matcher: Arc<Matcher>,
    /// Its place in the order.
    pub precedence: Precedence,
    /// What is done.
    pub rule: Arc<Rule>,
}

impl Entry {
    /// The entry of a rule's match at `position`.
    pub fn new(rule: Arc<Rule>, position: usize, matcher: impl Into<Arc<Matcher>>) -> Self {
        let matcher = matcher.into();
        let (headers, query) = matcher.counts();
        let precedence = Precedence {
            priority: rule.priority,
            path: matcher.path_specificity(),
            has_method: !matcher.methods.is_empty(),
            headers,
            query,
            rule: rule.name.clone(),
            position,
        };
        Self { matcher, precedence, rule }
    }
}

/// The entries of all rules of a service, in order of precedence.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    entries: Vec<Entry>,
}

impl RouteTable {
    /// A table of these entries, put in order.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.precedence.cmp(&b.precedence));
        Self { entries }
    }

    /// The entries, the one that wins first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry that wins for a request.
    pub fn find(&self, request: &Request<'_>) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.matcher.mismatch(request).is_none())
    }

    /// Decides about a request. `fallback` takes what no entry matches; `roll` is a random number from the whole
    /// range of `u64`.
    pub fn decide<'s>(&'s self, request: &Request<'_>, fallback: &'s Destination, roll: u64) -> Decision<'s> {
        let Some(entry) = self.find(request) else {
            return Decision { rule: None, destination: Some((fallback, ChosenBy::Only)) };
        };
        Decision { rule: Some(&entry.rule), destination: entry.rule.split.choose(request, roll) }
    }
}

/// What is done with a request.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'s> {
    /// The rule that won; `None` when none matched and the request goes to the service it was sent to.
    pub rule: Option<&'s Arc<Rule>>,
    /// Where it goes; `None` when every destination of the rule has weight 0.
    pub destination: Option<(&'s Destination, ChosenBy)>,
}

impl<'s> Decision<'s> {
    /// The mirrors of the rule.
    pub fn mirrors(&self) -> &'s [Mirror] {
        self.rule.map_or(&[], |rule| &rule.mirrors)
    }

    /// The timeouts of the rule.
    pub fn timeouts(&self) -> Timeouts {
        self.rule.map(|rule| rule.timeouts).unwrap_or_default()
    }
}
