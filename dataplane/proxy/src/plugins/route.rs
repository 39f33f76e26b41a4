//! What plugins decided about where a request goes, instead of what its rule says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weir_core::cluster::{Cluster, Family};
use weir_core::methods::Methods;
use weir_core::mirror::Mirror;
use weir_core::retry::{Backoff, Failures, Retry, RetryTo};
use weir_core::route::{Decision, Outcome};
use weir_core::share::Share;
use weir_core::snapshot::{Frontend, Snapshot};
use weir_core::split::{ChosenBy, Destination, Split, Target};
use weir_plugin_host::Routing;

use super::parse_service;

/// What cannot be done: for whoever asked.
pub(crate) type Mistake = Box<str>;

/// The decision about a request, as plugins have it. What its rule answers by itself stays answered.
pub(crate) fn decide<'s>(
    routing: &Routing,
    snapshot: &'s Snapshot,
    decision: Decision<'s>,
    roll: u64,
) -> Result<Decision<'s>, Mistake> {
    if let Some(mistake) = &routing.mistake {
        return Err(mistake.clone());
    }
    if !matches!(decision.outcome, Outcome::Destination(..) | Outcome::NotFound | Outcome::NoDestination) {
        return Ok(decision);
    }
    let decision = match drawn(&routing.destinations, roll) {
        None => decision,
        Some((wanted, by)) => {
            let frontend = frontend(snapshot, wanted)
                .ok_or_else(|| format!("a plugin sends the request to {wanted}, which does not exist"))?;
            Decision { outcome: Outcome::Destination(&frontend.service, by), ..decision }
        }
    };
    let (Some(version), Outcome::Destination(first, _)) = (&routing.version, decision.outcome) else {
        return Ok(decision);
    };
    let others = decision.rule().filter(|_| routing.destinations.is_empty());
    let others = others.map_or(&[][..], |rule| &rule.split.destinations);
    let found = [first].into_iter().chain(others).find(|destination| has_version(destination, version));
    match found {
        Some(destination) => Ok(Decision { outcome: Outcome::Destination(destination, ChosenBy::Only), ..decision }),
        None => {
            let name = &first.name;
            Err(format!("a plugin wants version {version}, which no endpoint of {name} or of its rule has").into())
        }
    }
}

fn frontend<'s>(snapshot: &'s Snapshot, wanted: &str) -> Option<&'s Arc<Frontend>> {
    snapshot.frontend(&parse_service(wanted)?)
}

/// One of them, by their weights.
fn drawn(all: &[(Box<str>, u32)], roll: u64) -> Option<(&str, ChosenBy)> {
    let sum: u64 = all.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut left = ((u128::from(roll) * u128::from(sum)) >> 64) as u64;
    let by = if all.len() > 1 { ChosenBy::Draw } else { ChosenBy::Only };
    let found = all.iter().find(|(_, weight)| {
        let is_it = left < u64::from(*weight);
        left = left.saturating_sub(u64::from(*weight));
        is_it
    });
    found.map(|(name, _)| (&**name, by))
}

fn has_version(destination: &Destination, version: &str) -> bool {
    let Target::Cluster(cluster) = &destination.target else { return false };
    cluster.endpoints().iter().any(|endpoint| endpoint.version.as_deref() == Some(version))
}

/// The endpoints of a cluster that are none of a request which is to go to this version.
pub(crate) fn excluded(cluster: &Cluster, version: Option<&str>, client: IpAddr) -> Vec<SocketAddr> {
    let Some(version) = version else { return Vec::new() };
    let family = Family::of(client);
    let others = cluster.endpoints().iter().filter(|endpoint| endpoint.version.as_deref() != Some(version));
    others.map(|endpoint| endpoint.address(family)).collect()
}

/// The mirrors that plugins want instead of the rule's. Only what changes nothing is copied, since nobody who wrote a rule
/// has said otherwise. Copies are counted with the service whose requests they are.
pub(crate) fn mirrors(routing: &Routing, snapshot: &Snapshot, of: &Frontend) -> Result<Option<Vec<Mirror>>, Mistake> {
    let Some(wanted) = &routing.mirrors else { return Ok(None) };
    let mirror = |(name, percent): &(Box<str>, f64)| {
        let found = frontend(snapshot, name);
        let frontend = found.ok_or_else(|| format!("a plugin has requests copied to {name}, which does not exist"))?;
        Ok(Mirror {
            destination: frontend.name.clone(),
            target: frontend.service.target.clone(),
            share: Share::from_percent(*percent).unwrap_or(Share::ALL),
            methods: Methods::Safe,
            stats: of.mirrored,
        })
    };
    wanted.iter().map(mirror).collect::<Result<_, _>>().map(Some)
}

/// How a request is tried again that a plugin has a word about: as its rule says, but for how often; without a rule,
/// after failures in which no endpoint has answered, at the same destination.
pub(crate) fn retry(rule: Option<&Retry>, attempts: u32) -> Retry {
    let usual = || Retry {
        attempts,
        on: Failures::unanswered(),
        methods: Methods::Idempotent,
        backoff: Backoff::default(),
        hedge_after: None,
        to: RetryTo::Same,
    };
    rule.map_or_else(usual, |rule| Retry { attempts, ..rule.clone() })
}

/// A split of one destination.
pub(crate) fn only(destination: &Destination) -> Split {
    Split { sticky: None, session: None, destinations: vec![destination.clone()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_parts_of_the_whole() {
        let all: Vec<(Box<str>, u32)> =
            [("a:1", 1), ("b:1", 0), ("c:1", 3)].map(|(name, one)| (name.into(), one)).into();
        for (roll, expected) in [(0, "a:1"), (u64::MAX / 4, "a:1"), (u64::MAX / 4 + 1, "c:1"), (u64::MAX, "c:1")] {
            assert_eq!(drawn(&all, roll).map(|(name, _)| name), Some(expected), "{roll}");
        }
        assert!(drawn(&[], 7).is_none());
        assert!(matches!(drawn(&all[..1], u64::MAX), Some(("a:1", ChosenBy::Only))));
    }
}
