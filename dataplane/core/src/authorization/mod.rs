//! Authorization: who may connect to a workload, and with which requests.
//!
//! The words are those of Istio's `AuthorizationPolicy`. What is decided before anything was said is decided in the kernel, from
//! a [`table`] that says what this module says; what takes a request to decide is decided by the proxy.

mod path;
mod pattern;
mod principal;
mod rule;
pub mod table;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::name::ObjectName;
use crate::route::Request;
use crate::workload::{Enrolment, Workload};
pub use pattern::{Block, Blocks, Texts};
pub use principal::{Principal, is_trust_domain};
pub use rule::{Condition, Operation, Peer, Ports, Rule, RuleMatch};

/// What a policy does with what its rules match.
// The order of the variants is that in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Denies it, whatever other policies allow.
    Deny,
    /// Allows it. What none of a workload's policies with this action allows is denied.
    Allow,
    /// Tells of it, and changes nothing.
    Audit,
}

/// What happens to what is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It is kept out.
    Enforce,
    /// It is told of, and let in.
    Audit,
}

/// What happens to what no policy speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stance {
    /// What no policy speaks of is denied.
    Deny,
    /// It is allowed, unless an allow policy applies.
    Allow,
}

/// Everything that decides who may reach a workload. Workloads with the same share one.
#[derive(Debug)]
pub struct Guard {
    mode: Mode,
    stance: Stance,
    /// Those with rules that deny first, then those that allow, then those that audit.
    policies: Vec<Arc<Policy>>,
    /// What counts what nothing allows.
    unallowed: Arc<Ruling>,
    key: Arc<str>,
}

/// A policy.
#[derive(Debug)]
pub struct Policy {
    /// Its document.
    pub name: ObjectName,
    /// What it does.
    pub action: Action,
    /// One that matches is enough.
    pub rules: Vec<Rule>,
}

/// What decided.
#[derive(Debug)]
pub struct Ruling {
    /// Its name.
    pub name: RuleName,
    /// How often the proxy came to it.
    pub tally: Tally,
}

/// What can decide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleName {
    /// A rule of a policy, counted from 0.
    Rule(ObjectName, usize),
    /// That no policy allows it; of the workloads of this namespace.
    Unallowed(Arc<str>),
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(policy, rule) => write!(f, "{policy} rule {rule}"),
            Self::Unallowed(namespace) => write!(f, "no policy of namespace {namespace} allows it"),
        }
    }
}

impl RuleName {
    /// The namespace of the policy, or of the workloads that none is for.
    pub fn namespace(&self) -> &Arc<str> {
        match self {
            Self::Rule(policy, _) => &policy.namespace,
            Self::Unallowed(namespace) => namespace,
        }
    }

    /// Name of the policy and position of the rule; both empty where no policy says so.
    pub fn parts(&self) -> (&str, String) {
        match self {
            Self::Rule(policy, position) => (&policy.name, position.to_string()),
            Self::Unallowed(_) => ("", String::new()),
        }
    }
}

/// How often something was decided. Decisions that keep nothing out are not counted.
#[derive(Debug, Default)]
pub struct Tally {
    denied: AtomicU64,
    audited: AtomicU64,
}

impl Tally {
    /// Counts something that was kept out.
    pub fn denied(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts something that was only told of.
    pub fn audited(&self) {
        self.audited.fetch_add(1, Ordering::Relaxed);
    }

    /// What was kept out, and what was only told of.
    pub fn counts(&self) -> (u64, u64) {
        (self.denied.load(Ordering::Relaxed), self.audited.load(Ordering::Relaxed))
    }
}

/// Who connects and to which port: what is known before anything was said.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Of a workload of the mesh.
    pub principal: Option<&'a Principal>,
    /// Where it comes from.
    pub whence: Whence<'a>,
    /// The workload's port; `None` for one that no rule names.
    pub port: Option<u16>,
}

impl<'a> Connection<'a> {
    /// A connection from an address, which is a workload's or not.
    pub fn new(address: IpAddr, workload: Option<&'a Workload>, port: u16) -> Self {
        // Of a workload outside the mesh nobody checks which address it sends from.
        let enrolled = workload.filter(|workload| workload.enrolment == Enrolment::Enrolled);
        Self {
            principal: enrolled.map(|workload| &workload.principal),
            whence: Whence::Address(address.to_canonical()),
            port: Some(port),
        }
    }

    /// A connection of whom a certificate says who it is.
    pub fn proven(address: IpAddr, principal: &'a Principal, port: u16) -> Self {
        Self { principal: Some(principal), whence: Whence::Address(address.to_canonical()), port: Some(port) }
    }
}

/// An address as far as rules ask for it.
#[derive(Clone, Copy, Debug)]
pub enum Whence<'a> {
    /// This one.
    Address(IpAddr),
    /// Any that is within all of these blocks, and within no other that rules name.
    Within(&'a BTreeSet<Block>),
}

/// What was said on a connection.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// Nothing yet; it may become requests.
    Nothing,
    /// Something that is no HTTP. What a rule says of requests keeps it from allowing this, and does not keep it from denying it.
    Opaque,
    /// A request.
    Request(&'a Request<'a>),
}

/// What a guard says.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'g> {
    /// What happens.
    pub verdict: Verdict,
    /// Who says so; none where nothing speaks of it.
    pub ruling: Option<&'g Arc<Ruling>>,
}

/// What happens to a connection or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is let in.
    Allow,
    /// It is let in and told of.
    Audit,
    /// It takes a request to decide.
    Ask,
    /// It is kept out.
    Deny,
}

/// Of the rules of an action one that matches, and one of which only a request can tell.
type Found<'g> = (Option<&'g Arc<Ruling>>, Option<&'g Arc<Ruling>>);

impl Guard {
    /// A guard of these policies. `key` is the same only for guards that decide the same, and never another's.
    pub fn new(
        mode: Mode,
        stance: Stance,
        mut policies: Vec<Arc<Policy>>,
        unallowed: Arc<Ruling>,
        key: Arc<str>,
    ) -> Self {
        policies.sort_by(|a, b| (a.action, &a.name).cmp(&(b.action, &b.name)));
        Self { mode, stance, policies, unallowed, key }
    }

    /// What happens to what is denied.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Its policies: those that deny, that allow, that audit.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// What it is the same guard by.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Everything that may come out as the reason of a decision.
    pub fn rulings(&self) -> impl Iterator<Item = &Arc<Ruling>> {
        let of_rules = self.policies.iter().flat_map(|policy| &policy.rules).map(|rule| &rule.ruling);
        of_rules.chain([&self.unallowed])
    }

    /// Whether any rule asks for more than who connects and to which port.
    pub fn asks_for_requests(&self) -> bool {
        self.policies.iter().flat_map(|policy| &policy.rules).any(Rule::asks_for_requests)
    }

    /// Decides about a connection, or a request on it.
    pub fn decide(&self, connection: &Connection<'_>, said: Said<'_>) -> Decision<'_> {
        self.decide_by(|index| self.policies[index].rules.iter(), connection, said)
    }

    /// The same, with those rules of each policy that can match at all.
    fn decide_by<'g, R: Iterator<Item = &'g Rule>>(
        &'g self,
        rules: impl Fn(usize) -> R,
        connection: &Connection<'_>,
        said: Said<'_>,
    ) -> Decision<'g> {
        let mut found: [Found<'_>; 3] = Default::default();
        let mut is_selective = false;
        for (index, policy) in self.policies.iter().enumerate() {
            is_selective |= policy.action == Action::Allow;
            let (yes, perhaps) = &mut found[policy.action as usize];
            for rule in rules(index) {
                match rule.matches(policy.action, connection, said) {
                    RuleMatch::Yes => *yes = yes.or(Some(&rule.ruling)),
                    RuleMatch::Perhaps => *perhaps = perhaps.or(Some(&rule.ruling)),
                    RuleMatch::No => continue,
                }
                if yes.is_some() {
                    break;
                }
            }
        }
        let [deny, allow, audit] = found;
        let is_allowed = allow.0.is_some() || (!is_selective && self.stance == Stance::Allow);
        let (verdict, ruling) = match (deny, allow, audit) {
            ((Some(ruling), _), ..) => (self.denial(), Some(ruling)),
            ((_, Some(ruling)), ..) => (Verdict::Ask, Some(ruling)),
            (_, (_, Some(ruling)), _) if !is_allowed => (Verdict::Ask, Some(ruling)),
            _ if !is_allowed => (self.denial(), Some(&self.unallowed)),
            (_, _, (Some(ruling), _)) => (Verdict::Audit, Some(ruling)),
            (_, _, (_, Some(ruling))) => (Verdict::Ask, Some(ruling)),
            (_, (ruling, _), _) => (Verdict::Allow, ruling),
        };
        Decision { verdict, ruling }
    }

    /// What comes of what is denied.
    fn denial(&self) -> Verdict {
        match self.mode {
            Mode::Enforce => Verdict::Deny,
            Mode::Audit => Verdict::Audit,
        }
    }
}

#[cfg(test)]
mod tests;
