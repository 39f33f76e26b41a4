//! Whether a pod may reach another, and why.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Method;
use serde::{Deserialize, Serialize};

use super::described::{DescribeError, end, header_map};
use crate::authorization::{Action, Connection, Mode, RuleMatch, Said, Verdict};
use crate::cluster::Family;
use crate::route::{Request, Source};
use crate::snapshot::Snapshot;
use crate::workload::Enrolment;

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
        let suits = |from: &&IpAddr| to.iter().any(|to| Family::of(*to) == Family::of(**from));
        let address = from.iter().find(suits).or(from.first()).copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let destination = to.iter().find(|to| Family::of(**to) == Family::of(address)).or(to.first()).copied();
        let destination = destination.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let enrolled = workload.filter(|workload| workload.enrolment == Enrolment::Enrolled);
        let source = enrolled.map_or_else(|| address.to_string(), |workload| workload.principal.to_string());
        let Some(guard) = snapshot.guard(destination) else {
            return Ok(Access {
                source,
                outcome: "allowed".to_owned(),
                reason: "nothing guards the destination: its namespace is not enrolled, and no policy is for it"
                    .to_owned(),
                decided_by: "kernel".to_owned(),
                policies: Vec::new(),
            });
        };
        let text = self.method.as_deref().unwrap_or("GET");
        let method = Method::from_bytes(text.as_bytes()).map_err(|_| DescribeError::BadMethod(text.to_owned()))?;
        let headers = header_map(&self.headers, None)?;
        let request = self.path.as_deref().map(|path| Request {
            method: &method,
            path: path.split('?').next().unwrap_or_default(),
            query: None,
            headers: &headers,
            source: Source { address, workload: workload.map(|workload| &**workload) },
            attributes: &[],
        });
        let may_be_http = snapshot.guarded_for_requests().any(|at| at == SocketAddr::new(destination, self.port));
        let connection = Connection::new(address, workload.map(|workload| &**workload), self.port);
        let said = match &request {
            Some(request) if may_be_http => Said::Request(request),
            _ if may_be_http => Said::Nothing,
            _ => Said::Opaque,
        };
        let decision = guard.decide(&connection, said);
        let by_proxy = may_be_http && guard.decide(&connection, Said::Nothing).verdict == Verdict::Ask;
        let reason = match (decision.verdict, decision.ruling) {
            (_, Some(ruling)) => ruling.name.to_string(),
            (_, None) => "no policy speaks of it, and the namespace is open".to_owned(),
        };
        let outcome = match decision.verdict {
            Verdict::Allow => "allowed",
            Verdict::Audit => "audited",
            Verdict::Deny => "denied",
            Verdict::Ask => "by request",
        };
        let suffix = if guard.mode() == Mode::Audit && outcome == "audited" { ", which would deny it" } else { "" };
        let policies = guard.policies().iter().map(|policy| PolicyAccess {
            policy: format!("{}/{}", policy.name.namespace, policy.name.name),
            action: match policy.action {
                Action::Deny => "DENY",
                Action::Allow => "ALLOW",
                Action::Audit => "AUDIT",
            }
            .to_owned(),
            rules: policy
                .rules
                .iter()
                .map(|rule| match rule.matches(policy.action, &connection, said) {
                    RuleMatch::Yes => "yes".to_owned(),
                    RuleMatch::No => "no".to_owned(),
                    RuleMatch::Perhaps => "by request".to_owned(),
                })
                .collect(),
        });
        Ok(Access {
            source,
            outcome: outcome.to_owned(),
            reason: format!("{reason}{suffix}"),
            decided_by: if by_proxy { "proxy" } else { "kernel" }.to_owned(),
            policies: policies.collect(),
        })
    }
}
