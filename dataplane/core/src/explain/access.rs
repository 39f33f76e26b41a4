//! Whether a pod may reach another, and why.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Method;
use serde::{Deserialize, Serialize};

use super::described::{DescribeError, end, header_map};
use crate::authorization::{
    Action, Connection, Decision, Guard, Mode, Policy, Principal, Rule, RuleMatch, Said, Verdict,
};
use crate::cluster::Family;
use crate::route::{Request, Source};
use crate::snapshot::Snapshot;

/// A connection, or a request on it, that somebody wants explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// Who connects: a pod (`name` or `namespace/name`) or an address.
    pub from: String,
    /// To whom: the same.
    pub to: String,
    /// To which port.
    pub port: u16,
    /// The path of a request; absent: only the connection.
    #[serde(default)]
    pub path: Option<String>,
    /// Its method; `GET` when absent.
    #[serde(default)]
    pub method: Option<String>,
    /// Its headers, `Name: value` each.
    #[serde(default)]
    pub headers: Vec<String>,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Who connects, as policies know it: `TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`, or an address.
    pub source: String,
    /// `allowed`, `audited` (let in, and told of), `denied`, or `by request`.
    pub outcome: String,
    /// Why.
    pub reason: String,
    /// `kernel` or `proxy`.
    pub decided_by: String,
    /// The policies that are for the destination: those that deny, that allow, that audit.
    pub policies: Vec<PolicyAccess>,
}

/// What a policy says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyAccess {
    /// Namespace and name.
    pub policy: String,
    /// `DENY`, `ALLOW` or `AUDIT`.
    pub action: String,
    /// Of each rule whether it matches: `yes`, `no`, or `by request`.
    pub rules: Vec<String>,
}

impl Attempt {
    /// Explains the attempt under a snapshot.
    ///
    /// # Errors
    /// When it is malformed or names something that the snapshot does not have.
    pub fn explain(&self, snapshot: &Snapshot) -> Result<Access, DescribeError> {
        let (from, workload) = end(snapshot, &self.from)?;
        let (to, _) = end(snapshot, &self.to)?;
        let workload = workload.map(|workload| &**workload);
        let (from, to) = ends(&from, &to);
        let connection = Connection::new(from, workload, self.port);
        let source = connection.principal.map_or_else(|| from.to_string(), Principal::to_string);
        let Some(guard) = snapshot.guard(to) else {
            let reason =
                "nothing guards the destination: its namespace is not enrolled, and no policy is for it".to_owned();
            let (outcome, decided_by) = ("allowed".to_owned(), "kernel".to_owned());
            return Ok(Access { source, outcome, reason, decided_by, policies: Vec::new() });
        };
        let text = self.method.as_deref().unwrap_or("GET");
        let method = Method::from_bytes(text.as_bytes()).map_err(|_| DescribeError::BadMethod(text.to_owned()))?;
        let headers = header_map(&self.headers, None)?;
        let request = self.path.as_deref().map(|path| Request {
            method: &method,
            path: path.split('?').next().unwrap_or_default(),
            query: None,
            headers: &headers,
            source: Source { address: from, workload },
            attributes: &[],
        });
        let may_be_http = snapshot.guarded_for_requests().any(|at| at == SocketAddr::new(to, self.port));
        let said = match &request {
            Some(request) if may_be_http => Said::Request(request),
            _ if may_be_http => Said::Nothing,
            _ => Said::Opaque,
        };
        let by_proxy = may_be_http && guard.decide(&connection, Said::Nothing).verdict == Verdict::Ask;
        let (outcome, reason) = told(guard, guard.decide(&connection, said));
        Ok(Access {
            source,
            outcome: outcome.to_owned(),
            reason,
            decided_by: if by_proxy { "proxy" } else { "kernel" }.to_owned(),
            policies: guard.policies().iter().map(|policy| of_policy(policy, &connection, said)).collect(),
        })
    }
}

/// The addresses that a connection between two ends has: of one family, if they have one in common.
fn ends(from: &[IpAddr], to: &[IpAddr]) -> (IpAddr, IpAddr) {
    let suits = |one: &&IpAddr, others: &[IpAddr]| others.iter().any(|other| Family::of(*other) == Family::of(**one));
    let first = |of: &[IpAddr], others: &[IpAddr]| {
        let found = of.iter().find(|one| suits(one, others)).or(of.first());
        found.copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into())
    };
    let from = first(from, to);
    (from, first(to, &[from]))
}

/// What comes of it, and why.
fn told(guard: &Guard, decision: Decision<'_>) -> (&'static str, String) {
    let reason = match decision.ruling {
        Some(ruling) => ruling.name.to_string(),
        None => "no policy speaks of it, and the namespace is open".to_owned(),
    };
    match decision.verdict {
        Verdict::Allow => ("allowed", reason),
        Verdict::Audit if guard.mode() == Mode::Audit => {
            ("audited", reason + ", and would be denied if it were enforced")
        }
        Verdict::Audit => ("audited", reason),
        Verdict::Deny => ("denied", reason),
        Verdict::Ask => ("by request", reason),
    }
}

fn of_policy(policy: &Policy, connection: &Connection<'_>, said: Said<'_>) -> PolicyAccess {
    let matches = |rule: &Rule| match rule.matches(policy.action, connection, said) {
        RuleMatch::Yes => "yes".to_owned(),
        RuleMatch::No => "no".to_owned(),
        RuleMatch::Perhaps => "by request".to_owned(),
    };
    let action = match policy.action {
        Action::Deny => "DENY",
        Action::Allow => "ALLOW",
        Action::Audit => "AUDIT",
    };
    PolicyAccess {
        policy: format!("{}/{}", policy.name.namespace, policy.name.name),
        action: action.to_owned(),
        rules: policy.rules.iter().map(matches).collect(),
    }
}
