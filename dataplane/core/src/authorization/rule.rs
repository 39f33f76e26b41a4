//! Rules of policies, and whether they match.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::HeaderName;
use http::header::HOST;

use super::{Action, Block, Blocks, Connection, Principal, Ruling, Said, Texts, path};
use crate::route::Request;

/// A rule of a policy: matches what comes from one of the peers, is one of the operations, and meets all conditions.
#[derive(Debug)]
pub struct Rule {
    /// Empty: from anybody.
    pub peers: Vec<Peer>,
    /// Empty: anything.
    pub operations: Vec<Operation>,
    /// All must be met.
    pub conditions: Vec<Condition>,
    /// Its name, and how often it decided.
    pub ruling: Arc<Ruling>,
}

/// Who connects. What is not said does not matter.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// `TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
    pub principals: Texts,
    /// Namespaces.
    pub namespaces: Texts,
    /// Addresses.
    pub blocks: Blocks,
}

/// What is asked for. What is not said does not matter.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// Ports of the workload.
    pub ports: Ports,
    /// Hosts of requests, compared without regard to case, with and without the port.
    pub hosts: Texts,
    /// Methods of requests.
    pub methods: Texts,
    /// Paths of requests, without the query.
    pub paths: Texts,
}

/// Port numbers that there must or must not be.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    /// One of these; empty: any.
    pub is: BTreeSet<u16>,
    /// None of these.
    pub is_not: BTreeSet<u16>,
}

impl Ports {
    fn is_met_by(&self, port: Option<u16>) -> bool {
        let within = |ports: &BTreeSet<u16>| port.is_some_and(|port| ports.contains(&port));
        (self.is.is_empty() || within(&self.is)) && !within(&self.is_not)
    }

    fn named(&self) -> impl Iterator<Item = u16> {
        self.is.iter().chain(&self.is_not).copied()
    }
}

/// A condition that a rule has besides.
#[derive(Clone, Debug)]
pub enum Condition {
    /// On who connects.
    Peer(Peer),
    /// On the port.
    Ports(Ports),
    /// On a header of the request: of several values one that is wanted is enough, and one that is not wanted too much.
    Header(HeaderName, Texts),
}

/// Whether a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleMatch {
    /// It does not.
    No,
    /// It takes a request to tell.
    Perhaps,
    /// It does.
    Yes,
}

impl From<bool> for RuleMatch {
    fn from(is_met: bool) -> Self {
        if is_met { Self::Yes } else { Self::No }
    }
}

impl Rule {
    pub(super) fn asks_for_requests(&self) -> bool {
        self.operations.iter().any(Operation::asks_for_requests)
            || self.conditions.iter().any(|condition| matches!(condition, Condition::Header(..)))
    }

    /// Whether it can match connections of this peer, whatever is asked for.
    pub(super) fn may_concern(&self, connection: &Connection<'_>) -> bool {
        let is_from = self.peers.is_empty() || self.peers.iter().any(|peer| peer.is_met_by(connection));
        is_from
            && self.conditions.iter().all(|condition| match condition {
                Condition::Peer(peer) => peer.is_met_by(connection),
                Condition::Ports(_) | Condition::Header(..) => true,
            })
    }

    /// Whether it matches, as a rule of a policy with this action.
    pub fn matches(&self, action: Action, connection: &Connection<'_>, said: Said<'_>) -> RuleMatch {
        if !self.may_concern(connection) {
            return RuleMatch::No;
        }
        let operation = match self.operations.as_slice() {
            [] => RuleMatch::Yes,
            several => {
                several.iter().map(|one| one.meets(action, connection.port, said)).max().unwrap_or(RuleMatch::No)
            }
        };
        let of_condition = |condition: &Condition| match condition {
            Condition::Peer(_) => RuleMatch::Yes,
            Condition::Ports(ports) => ports.is_met_by(connection.port).into(),
            Condition::Header(name, texts) => match said {
                Said::Request(request) => has_header(request, name, texts).into(),
                Said::Nothing => RuleMatch::Perhaps,
                Said::Opaque => unknowable(action),
            },
        };
        self.conditions.iter().map(of_condition).fold(operation, RuleMatch::min)
    }

    /// The only ports at which it can match; `None` where it can at ports that it does not name.
    pub(super) fn only_ports(&self) -> Option<BTreeSet<u16>> {
        let of_conditions = self.conditions.iter().find_map(|condition| match condition {
            Condition::Ports(ports) if !ports.is.is_empty() => Some(ports.is.clone()),
            _ => None,
        });
        let is_bound = |operation: &Operation| !operation.ports.is.is_empty();
        let of_operations = !self.operations.is_empty() && self.operations.iter().all(is_bound);
        let all = || self.operations.iter().flat_map(|operation| &operation.ports.is).copied().collect();
        of_conditions.or_else(|| of_operations.then(all))
    }

    /// The ports that it names.
    pub(super) fn ports(&self) -> impl Iterator<Item = u16> {
        let of_conditions = self.conditions.iter().filter_map(|condition| match condition {
            Condition::Ports(ports) => Some(ports),
            Condition::Peer(_) | Condition::Header(..) => None,
        });
        self.operations.iter().map(|operation| &operation.ports).chain(of_conditions).flat_map(Ports::named)
    }

    /// The blocks of addresses that it names.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        let of_conditions = self.conditions.iter().filter_map(|condition| match condition {
            Condition::Peer(peer) => Some(peer),
            Condition::Ports(_) | Condition::Header(..) => None,
        });
        self.peers.iter().chain(of_conditions).flat_map(|peer| peer.blocks.named())
    }
}

/// What a rule about requests comes to where there are none.
fn unknowable(action: Action) -> RuleMatch {
    (action == Action::Deny).into()
}

fn has_header(request: &Request<'_>, name: &HeaderName, texts: &Texts) -> bool {
    let values = request.headers.get_all(name).into_iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    texts.are_met_by_any(values)
}

impl Peer {
    fn is_met_by(&self, connection: &Connection<'_>) -> bool {
        let principal = connection.principal;
        self.principals.are_met_by(principal.map(Principal::as_str))
            && self.namespaces.are_met_by(principal.map(|principal| &**principal.namespace()))
            && self.blocks.are_met_by(connection.whence)
    }
}

impl Operation {
    fn asks_for_requests(&self) -> bool {
        [&self.hosts, &self.methods, &self.paths].iter().any(|texts| !texts.is_empty())
    }

    fn meets(&self, action: Action, port: Option<u16>, said: Said<'_>) -> RuleMatch {
        if !self.ports.is_met_by(port) {
            return RuleMatch::No;
        }
        match said {
            _ if !self.asks_for_requests() => RuleMatch::Yes,
            Said::Nothing => RuleMatch::Perhaps,
            Said::Opaque => unknowable(action),
            Said::Request(request) => {
                let is_met = self.methods.are_met_by(Some(request.method.as_str()))
                    && self.has_host(request)
                    && self.has_path(action, request.path);
                is_met.into()
            }
        }
    }

    fn has_host(&self, request: &Request<'_>) -> bool {
        if self.hosts.is_empty() {
            return true;
        }
        let host = request.headers.get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).to_ascii_lowercase());
        let host = host.unwrap_or_default();
        let without_port = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &host,
        };
        self.hosts.are_met_by_any([&*host, without_port].into_iter())
    }

    /// Nobody knows how a workload reads a path that can be read in several ways. What is to be denied must not get by in another
    /// spelling, and what is to be allowed must be that in every reading.
    fn has_path(&self, action: Action, path: &str) -> bool {
        if self.paths.is_empty() {
            return true;
        }
        let mut readings = path::readings(path);
        match action {
            Action::Allow => readings.all(|reading| self.paths.are_met_by(Some(&reading))),
            Action::Deny | Action::Audit => readings.any(|reading| self.paths.are_met_by(Some(&reading))),
        }
    }
}
