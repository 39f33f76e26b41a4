//! Explanations: for a described request, which rule of which revision matches, why the others lost, where it goes
//! and what is mirrored. Made by the same functions that decide, so that an explanation cannot disagree.

mod access;
mod described;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::balance::TrafficPolicy;
use crate::cluster::{Endpoint, Family};
use crate::filter::Filters;
use crate::methods::Methods;
use crate::mirror::Mirror;
use crate::plugin::Plugin;
use crate::revision::{RevisionId, Sequence};
use crate::route::{Decision, Entry, Outcome, Request};
use crate::snapshot::{Frontend, Protocol, Snapshot};
use crate::split::{ChosenBy, Destination, Target};

pub use access::{Access, Attempt, PolicyAccess};
pub use described::{DescribeError, Described};

/// Everything that can be said about a request without sending it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The version that decides.
    pub version_id: RevisionId,
    /// Its place in the version log; 0 when explained from files.
    pub sequence: Sequence,
    /// The service and port that the request addresses.
    pub service: String,
    /// Why the proxy sees this service's connections, or why not.
    pub interception: String,
    /// The plugins that see it, in their order. What they make of it is not known here: they may change what rules look
    /// at, answer it, or send it elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<String>,
    /// Every entry of the service's route table, in order of precedence.
    pub entries: Vec<EntryOutcome>,
    /// The rule that wins; `None` when none matches.
    pub rule: Option<String>,
    /// What Weir answers itself, without an endpoint: the status, and why.
    pub answer: Option<String>,
    /// What the rule changes about requests and responses, a sentence each.
    pub filters: Vec<String>,
    /// Where the request can go.
    pub destinations: Vec<DestinationOutcome>,
    /// How one of them is chosen.
    pub chosen_by: String,
    /// What is copied.
    pub mirrors: Vec<MirrorOutcome>,
    /// How clients come back to the endpoint that they had.
    pub session: Option<String>,
    /// Bound on the whole request, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Bound on each try, in milliseconds.
    pub per_try_timeout_ms: Option<u64>,
    /// Whether it is tried again when it fails: when, how often, and where.
    pub retry: Option<String>,
}

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntryOutcome {
    /// The rule.
    pub rule: String,
    /// Which of the rule's matches, from 0.
    pub position: usize,
    /// Its conditions.
    pub conditions: String,
    /// Whether the request meets them.
    pub matches: bool,
    /// Whether it decides.
    pub wins: bool,
    /// Why.
    pub reason: String,
}

/// One destination of the rule that wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DestinationOutcome {
    /// Service and port.
    pub destination: String,
    /// The share of requests it takes, in percent.
    pub share_percent: f64,
    /// Whether this request goes there for certain.
    pub chosen: bool,
    /// The ready endpoints that one is picked from, `address (pod, version)`. Where the family of the client is not
    /// known, an endpoint with addresses of both is `address or address (pod, version)`.
    pub endpoints: Vec<String>,
    /// How one of them is picked.
    pub picked: Option<String>,
    /// The status that Weir answers with itself when the request goes there, and why.
    pub answers: Option<String>,
    /// What is changed for this destination alone, a sentence each.
    pub filters: Vec<String>,
}

/// One mirror of the rule that wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorOutcome {
    /// Where copies go.
    pub destination: String,
    /// The share of requests that is copied, in percent; 0 when this request is not copied.
    pub share_percent: f64,
    /// Why.
    pub reason: String,
}

/// Explains what would be done with a request to a frontend. `family` is that of the client's connection, where known.
pub fn explain(snapshot: &Snapshot, frontend: &Frontend, request: &Request<'_>, family: Option<Family>) -> Explanation {
    let table = frontend.table(&request.source);
    let decision = frontend.decide(request, 0);
    let timeouts = decision.timeouts();
    let millis = |timeout: Option<std::time::Duration>| timeout.map(|timeout| timeout.as_millis() as u64);
    let candidates: &[Destination] = match (decision.outcome, decision.rule()) {
        (Outcome::NotFound | Outcome::Preflight(_) | Outcome::Direct(_), _) => &[],
        (Outcome::Redirect(_), Some(rule))
            if rule.filters.as_ref().is_some_and(|filters| filters.redirect.is_some()) =>
        {
            &[]
        }
        (_, Some(rule)) => &rule.split.destinations,
        (_, None) => std::slice::from_ref(&frontend.service),
    };
    let split = decision.rule().map(|rule| &rule.split);
    let session = split.and_then(|split| split.session.as_ref());
    let token = session.and_then(|session| session.any_token(request));
    let kept = token.zip(split).and_then(|(token, split)| split.of_session(&token));
    let certain = match decision.outcome {
        Outcome::Destination(..) if kept.is_some() => kept,
        Outcome::Destination(destination, ChosenBy::Only | ChosenBy::Key) => Some(destination),
        _ => None,
    };
    let total: u64 = candidates.iter().map(|destination| u64::from(destination.weight)).sum();
    Explanation {
        version_id: snapshot.revision,
        sequence: snapshot.sequence,
        service: frontend.name.to_string(),
        interception: interception(frontend),
        plugins: plugins(frontend, &decision),
        entries: table.entries().iter().map(|entry| entry_outcome(entry, decision.entry, request)).collect(),
        rule: decision.rule().map(|rule| rule.title()),
        answer: answer(&decision),
        filters: described(decision.rule().and_then(|rule| rule.filters.as_deref())),
        destinations: candidates
            .iter()
            .map(|destination| destination_outcome(destination, certain, total, family))
            .collect(),
        chosen_by: match kept {
            Some(_) => "the session that the request brings along, unless it has expired".to_owned(),
            None => chosen_by(&decision).to_owned(),
        },
        session: session.map(|session| session.to_string()),
        mirrors: decision.mirrors().iter().map(|mirror| mirror_outcome(mirror, request)).collect(),
        timeout_ms: millis(timeouts.request),
        per_try_timeout_ms: millis(timeouts.per_try),
        retry: decision.rule().and_then(|rule| rule.retry.as_ref()).map(|retry| retry.describe()),
    }
}

fn described(filters: Option<&Filters>) -> Vec<String> {
    filters.map(Filters::describe).unwrap_or_default()
}

fn answer(decision: &Decision<'_>) -> Option<String> {
    match decision.outcome {
        Outcome::Destination(..) => None,
        Outcome::Redirect(redirect) => Some(format!("{}: a redirect", redirect.status.as_u16())),
        Outcome::Direct(direct) => Some(format!("{}: the rule's own answer", direct.status.as_u16())),
        Outcome::Preflight(_) => Some("204: a CORS preflight, which the rule answers".to_owned()),
        Outcome::NoDestination => Some("500: the rule has no destination with a weight".to_owned()),
        Outcome::NotFound => Some("404: the service has routes, and none of them matches".to_owned()),
    }
}

fn plugins(frontend: &Frontend, decision: &Decision<'_>) -> Vec<String> {
    let name = |plugin: &Arc<Plugin>| format!("{}/{}", plugin.name.namespace, plugin.name.name);
    let of_rule = decision.rule().map_or(&[][..], |rule| &rule.plugins);
    frontend
        .plugins
        .iter()
        .map(name)
        .chain(of_rule.iter().map(|plugin| format!("{}, of the rule", name(plugin))))
        .collect()
}

fn interception(frontend: &Frontend) -> String {
    let tables = frontend.consumers.values().chain([&frontend.routes]);
    let plugins = frontend.plugins.len() + frontend.tcp_plugins.len();
    if !frontend.plugins.is_empty() && frontend.protocol.may_be_http() || !frontend.tcp_plugins.is_empty() {
        let count: usize = tables.map(|table| table.entries().len()).sum();
        return format!("intercepted: {plugins} plugins and {count} route entries concern this service");
    }
    match (frontend.protocol, tables.map(|table| table.entries().len()).sum()) {
        (Protocol::Udp, _) => "not intercepted: a UDP port".to_owned(),
        (Protocol::Opaque, _) => "not intercepted: the port's name or appProtocol says that it is not HTTP".to_owned(),
        (_, 0) if frontend.has_policy() => "intercepted: a policy says how its endpoints are treated".to_owned(),
        (_, 0) => "not intercepted: no rule concerns this service, its traffic stays in the kernel".to_owned(),
        (Protocol::Http | Protocol::Http2, count) => format!("intercepted: {count} route entries concern this service"),
        (Protocol::Detect, count) => {
            format!("intercepted: {count} route entries concern this service; what is not HTTP is passed on unchanged")
        }
    }
}

fn entry_outcome(entry: &Entry, winner: Option<&Entry>, request: &Request<'_>) -> EntryOutcome {
    let wins = winner.is_some_and(|winner| std::ptr::eq(winner, entry));
    let mismatch = entry.matcher.mismatch(request);
    let reason = match (&mismatch, winner) {
        (Some(mismatch), _) => mismatch.describe(request),
        (None, Some(winner)) if !wins => {
            format!("{} comes first: {}", winner.rule.title(), winner.precedence.why_before(&entry.precedence))
        }
        _ => "every condition is met, and nothing that matches comes before it".to_owned(),
    };
    EntryOutcome {
        rule: entry.rule.title(),
        position: entry.precedence.position,
        conditions: entry.matcher.to_string(),
        matches: mismatch.is_none(),
        wins,
        reason,
    }
}

fn destination_outcome(
    destination: &Destination,
    certain: Option<&Destination>,
    total: u64,
    family: Option<Family>,
) -> DestinationOutcome {
    let (endpoints, picked, answers) = match &destination.target {
        Target::Unresolved(reason) => (Vec::new(), None, Some(format!("500: {reason}"))),
        Target::Cluster(cluster) => {
            let taken = family.map_or(cluster.endpoints(), |family| cluster.endpoints_for(family));
            let none = taken.is_empty().then(|| "503: no endpoint of the service is ready".to_owned());
            let is_usual = *cluster.policy == TrafficPolicy::default();
            let picked = (!is_usual && !taken.is_empty()).then(|| cluster.policy.describe());
            (taken.iter().map(|taken| endpoint(taken, family)).collect(), picked, none)
        }
    };
    DestinationOutcome {
        destination: destination.name.to_string(),
        share_percent: if total == 0 { 0.0 } else { f64::from(destination.weight) * 100.0 / total as f64 },
        chosen: certain.is_some_and(|certain| std::ptr::eq(certain, destination)),
        endpoints,
        picked,
        answers,
        filters: described(destination.filters.as_deref()),
    }
}

fn endpoint(endpoint: &Endpoint, family: Option<Family>) -> String {
    let addresses: Vec<String> = match family {
        Some(family) => vec![endpoint.address(family).to_string()],
        None => endpoint.addresses.iter().map(|address| address.to_string()).collect(),
    };
    let addresses = addresses.join(" or ");
    let known = [endpoint.workload.as_deref(), endpoint.version.as_deref()];
    let known: Vec<&str> = known.into_iter().flatten().collect();
    if known.is_empty() { addresses } else { format!("{addresses} ({})", known.join(", ")) }
}

fn chosen_by(decision: &Decision<'_>) -> &'static str {
    match decision.outcome {
        Outcome::Destination(_, ChosenBy::Only) => "there is one destination",
        Outcome::Destination(_, ChosenBy::Key) => "the sticky key of this request: always the same destination",
        Outcome::Destination(_, ChosenBy::Draw) => "a draw for each request",
        Outcome::Destination(_, ChosenBy::DrawWithoutKey) => {
            "a draw for each request, because this one lacks the sticky key"
        }
        Outcome::NoDestination => "no destination has a weight: the answer is 500",
        Outcome::Redirect(_) | Outcome::Direct(_) | Outcome::Preflight(_) | Outcome::NotFound => {
            "it goes to no destination"
        }
    }
}

fn mirror_outcome(mirror: &Mirror, request: &Request<'_>) -> MirrorOutcome {
    let copied = mirror.methods.contains(request.method);
    let why_not = match (&mirror.methods, &mirror.target) {
        (_, Target::Unresolved(reason)) => Some(format!("not copied: {reason}")),
        (Methods::Safe, _) if !copied => {
            Some(format!("not copied: {} is not a safe method, and the mirror names no methods", request.method))
        }
        _ if !copied => Some(format!("not copied: {} is not among the mirror's methods", request.method)),
        _ => None,
    };
    MirrorOutcome {
        destination: mirror.destination.to_string(),
        share_percent: if why_not.is_some() { 0.0 } else { mirror.share.percent() },
        reason: why_not.unwrap_or_else(|| format!("{} % of requests like this are copied", mirror.share.percent())),
    }
}

#[cfg(test)]
mod tests;
