//! The route table of a service, and the decision about a request.

use std::sync::Arc;
use std::time::Duration;

use super::index::Index;
use super::matcher::{Matcher, PathMatch};
use super::precedence::{Created, Precedence};
use super::request::Request;
use crate::filter::{DirectResponse, Filters, Preflight, Redirect};
use crate::gateway::Hostname;
use crate::mirror::Mirror;
use crate::name::ObjectName;
use crate::plugin::Plugin;
use crate::retry::Retry;
use crate::sorted;
use crate::split::{ChosenBy, Destination, Split};
use crate::stats::StatsId;

/// Bounds on how long a request may take. `None`: no bound of the rule's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request's head to the end of the response.
    pub request: Option<Duration>,
    /// From sending the request to an endpoint to the head of its response, for each try.
    pub per_try: Option<Duration>,
}

/// Which rule of a document with several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// From 0.
    pub index: usize,
    /// Its name, if it has one.
    pub name: Option<Arc<str>>,
}

/// A rule as valid: what is done with the requests that it matches.
#[derive(Debug)]
pub struct Rule {
    /// The document it comes from.
    pub name: ObjectName,
    /// Which rule of it; `None` for a kind of document that is one rule.
    pub section: Option<Section>,
    /// When the document was created, if it says so.
    pub created: Option<Created>,
    /// Higher comes first among rules.
    pub priority: i32,
    /// What is changed, and what is answered without an endpoint.
    pub filters: Option<Arc<Filters>>,
    /// Where requests go.
    pub split: Split,
    /// Where copies go.
    pub mirrors: Vec<Mirror>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Whether requests that fail are tried again. Most rules have none, and shall not have room for it.
    pub retry: Option<Box<Retry>>,
    /// What sees the requests that match, in their order, after those of the service.
    pub plugins: Arc<[Arc<Plugin>]>,
    /// What becomes of requests that meet no entry of a table in which this rule is.
    pub unmatched: Unmatched,
    /// Where requests are counted that go to none of its destinations.
    pub stats: StatsId,
}

impl Rule {
    /// A rule that does nothing but send requests to destinations.
    pub fn new(name: ObjectName, split: Split, stats: StatsId) -> Self {
        Self {
            name,
            section: None,
            created: None,
            priority: 0,
            filters: None,
            split,
            mirrors: Vec::new(),
            timeouts: Timeouts::default(),
            retry: None,
            plugins: Arc::default(),
            unmatched: Unmatched::ToService,
            stats,
        }
    }

    /// What people call it: its document, and which rule of that.
    pub fn title(&self) -> String {
        match &self.section {
            None => self.name.to_string(),
            Some(Section { name: Some(name), .. }) => format!("{} rule {name}", self.name),
            Some(Section { index, name: None }) => format!("{} rules[{index}]", self.name),
        }
    }
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
        let section = rule.section.as_ref().map_or(0, |section| section.index);
        let precedence = Precedence {
            priority: rule.priority,
            created: rule.created.clone(),
            section,
            position,
            ..Precedence::of(&matcher, &rule.name)
        };
        Self { matcher, precedence, rule }
    }

    /// The same, in a route for hosts of this name.
    #[must_use]
    pub fn for_host(mut self, hostname: &Hostname) -> Self {
        self.precedence.hostname = hostname.specificity();
        self
    }
}

/// What is done with requests that no entry matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// They go to the service that they were sent to.
    #[default]
    ToService,
    /// They are answered with 404, as the Gateway API wants it of a service that has routes.
    NotFound,
}

/// The entries of all rules of a service, in order of precedence. Tables of one revision and the next share what they
/// have in common.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    entries: Vec<Arc<Entry>>,
    /// `None` where there are too few for it.
    index: Option<Arc<Index>>,
    unmatched: Unmatched,
    /// Whether a rule has any.
    has_plugins: bool,
}

impl RouteTable {
    /// A table of these entries, put in order. What no entry matches is not found where one of the rules says so.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self::default().updated(&[], entries.into_iter().map(Arc::new).collect())
    }

    /// This table without the entries of these places in the order (those that it has none of are passed over), and with
    /// others. It costs a fraction of a new table where that is few of many.
    #[must_use]
    pub fn updated(&self, gone: &[Precedence], mut added: Vec<Arc<Entry>>) -> Self {
        let place = |gone: &Precedence| self.entries.binary_search_by(|entry| entry.precedence.cmp(gone)).ok();
        let mut gone: Vec<usize> = gone.iter().filter_map(place).collect();
        gone.sort_unstable();
        gone.dedup();
        added.sort_by(|a, b| a.precedence.cmp(&b.precedence));
        let was = self.unmatched == Unmatched::NotFound;
        let is_said = self.any_after(&gone, &added, was, |entry| entry.rule.unmatched == Unmatched::NotFound);
        let unmatched = if is_said { Unmatched::NotFound } else { Unmatched::ToService };
        let has_plugins = self.any_after(&gone, &added, self.has_plugins, |entry| !entry.rule.plugins.is_empty());
        let place = |new: &Arc<Entry>| self.entries.partition_point(|entry| entry.precedence < new.precedence);
        let added = added.into_iter().map(|new| (place(&new), new)).collect();
        let entries = sorted::edited(&self.entries, &gone, added);
        let index = match &self.index {
            Some(index) if Index::is_same(&self.entries, &entries) => Some(Arc::clone(index)),
            _ => (entries.len() >= Index::WORTHWHILE).then(|| Arc::new(Index::new(&entries))),
        };
        Self { unmatched, has_plugins, entries, index }
    }

    /// Whether an entry is so, without those at some places and with others. `was` says whether one of this table is.
    fn any_after(
        &self,
        gone: &[usize],
        added: &[Arc<Entry>],
        was: bool,
        is_so: impl Fn(&Arc<Entry>) -> bool + Copy,
    ) -> bool {
        added.iter().any(is_so)
            || was && {
                // All are looked at only where one that is so goes.
                let is_gone = gone.iter().any(|place| is_so(&self.entries[*place]));
                let mut others =
                    self.entries.iter().enumerate().filter(|(place, _)| gone.binary_search(place).is_err());
                !is_gone || others.any(|(_, entry)| is_so(entry))
            }
    }

    /// Whether any of the rules has plugins.
    pub fn has_plugins(&self) -> bool {
        self.has_plugins
    }

    /// What becomes of requests that no entry matches.
    pub fn unmatched(&self) -> Unmatched {
        self.unmatched
    }

    /// The entries, the one that wins first.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The entry that wins for a request.
    pub fn find(&self, request: &Request<'_>) -> Option<&Arc<Entry>> {
        match &self.index {
            Some(index) => index.find(&self.entries, request),
            None => self.entries.iter().find(|entry| entry.matcher.mismatch(request).is_none()),
        }
    }

    /// Decides about a request. `fallback` takes what no entry matches, if that goes anywhere; `roll` is a random number
    /// from the whole range of `u64`.
    pub fn decide<'s>(&'s self, request: &Request<'_>, fallback: &'s Destination, roll: u64) -> Decision<'s> {
        match self.find(request) {
            Some(entry) => entry.decide(request, roll),
            None => Decision {
                entry: None,
                outcome: match self.unmatched {
                    Unmatched::ToService => Outcome::Destination(fallback, ChosenBy::Only),
                    Unmatched::NotFound => Outcome::NotFound,
                },
            },
        }
    }
}

impl Entry {
    /// The decision about a request that this entry won.
    pub fn decide(&self, request: &Request<'_>, roll: u64) -> Decision<'_> {
        Decision { entry: Some(self), outcome: self.rule.decide(request, roll) }
    }
}

impl Rule {
    fn decide(&self, request: &Request<'_>, roll: u64) -> Outcome<'_> {
        if let Some(Filters { cors, redirect, direct, .. }) = self.filters.as_deref() {
            // Before a redirect: browsers follow none in answer to a preflight.
            let preflight = cors.as_ref().and_then(|cors| cors.preflight(request.method, request.headers));
            if let Some(preflight) = preflight {
                return Outcome::Preflight(preflight);
            }
            if let Some(redirect) = redirect {
                return Outcome::Redirect(redirect);
            }
            if let Some(direct) = direct {
                return Outcome::Direct(direct);
            }
        }
        let Some((destination, by)) = self.split.choose(request, roll) else { return Outcome::NoDestination };
        match destination.filters.as_ref().and_then(|filters| filters.redirect.as_ref()) {
            Some(redirect) => Outcome::Redirect(redirect),
            None => Outcome::Destination(destination, by),
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'s> {
    /// It goes to a destination.
    Destination(&'s Destination, ChosenBy),
    /// The client is sent elsewhere.
    Redirect(&'s Redirect),
    /// The rule answers it.
    Direct(&'s DirectResponse),
    /// It is a browser's question, and answered.
    Preflight(Preflight<'s>),
    /// The rule has no destination with a weight: 500.
    NoDestination,
    /// No rule matches, and the service's own endpoints are not for that: 404.
    NotFound,
}

/// What is done with a request, and why.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'s> {
    /// The entry that won; `None` when none matched.
    pub entry: Option<&'s Entry>,
    /// What becomes of the request.
    pub outcome: Outcome<'s>,
}

impl<'s> Decision<'s> {
    /// The rule that won.
    pub fn rule(&self) -> Option<&'s Arc<Rule>> {
        self.entry.map(|entry| &entry.rule)
    }

    /// Where the request goes, if it goes anywhere.
    pub fn destination(&self) -> Option<&'s Destination> {
        match self.outcome {
            Outcome::Destination(destination, _) => Some(destination),
            _ => None,
        }
    }

    /// What the rule changes, and what it answers without an endpoint.
    pub fn filters(&self) -> Option<&'s Filters> {
        self.rule().and_then(|rule| rule.filters.as_deref())
    }

    /// The condition that the path met.
    pub fn path_match(&self) -> Option<&'s PathMatch> {
        self.entry.and_then(|entry| entry.matcher.path.as_ref())
    }

    /// The mirrors of the rule.
    pub fn mirrors(&self) -> &'s [Mirror] {
        self.rule().map_or(&[], |rule| &rule.mirrors)
    }

    /// The timeouts of the rule.
    pub fn timeouts(&self) -> Timeouts {
        self.rule().map(|rule| rule.timeouts).unwrap_or_default()
    }
}
