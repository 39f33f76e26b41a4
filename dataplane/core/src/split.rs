//! Splits: how the requests that a rule matched are shared between its destinations.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cluster::Cluster;
use crate::filter::Filters;
use crate::name::ClusterName;
use crate::route::Request;
use crate::session::{self, Session, Token};
use crate::stats::StatsId;

/// What the name of a destination resolves to.
#[derive(Clone, Debug)]
pub enum Target {
    /// Endpoints that exist (though perhaps none is ready).
    Cluster(Arc<Cluster>),
    /// Nothing: requests for it are answered with 500, never sent elsewhere.
    Unresolved(Unresolved),
}

/// Why a destination leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// There is no `Service` document of that name.
    NoSuchService,
    /// The service has no such port.
    NoSuchPort,
    /// What is named is something else than a `Service`.
    NotAService,
    /// It is of another namespace, which does not let the routes of a gateway lead there.
    NotGranted,
}

impl std::fmt::Display for Unresolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSuchService => "no such service",
            Self::NoSuchPort => "the service has no such port",
            Self::NotAService => "it is not a Service",
            Self::NotGranted => "no ReferenceGrant of its namespace allows it",
        })
    }
}

/// One destination of a split.
#[derive(Clone, Debug)]
pub struct Destination {
    /// What the rule names.
    pub name: ClusterName,
    /// What that resolves to.
    pub target: Target,
    /// Its part of the whole; 0 takes no requests.
    pub weight: u32,
    /// What is changed on the way to it and back, beyond what the rule changes.
    pub filters: Option<Arc<Filters>>,
    /// Where requests are counted.
    pub stats: StatsId,
}

impl Destination {
    /// A destination that changes nothing.
    pub fn new(name: ClusterName, target: Target, weight: u32, stats: StatsId) -> Self {
        Self { name, target, weight, filters: None, stats }
    }
}

/// Which property of a request decides that two requests are of the same user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickyKey {
    /// The value of a request header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(Arc<str>),
    /// Namespace and service account of the calling workload.
    SourceIdentity,
    /// The caller's address.
    SourceIp,
}

impl StickyKey {
    /// Hash of the key's value in this request, `None` when the request does not have it.
    pub fn hash(&self, request: &Request<'_>, seed: u64) -> Option<u64> {
        let hash = |bytes: &[u8]| Some(xxh3_64_with_seed(bytes, seed));
        match self {
            Self::Header(name) => request.headers.get(name).and_then(|value| hash(value.as_bytes())),
            Self::Cookie(name) => {
                request.cookies().find(|(n, _)| *n == &**name).and_then(|(_, value)| hash(value.as_bytes()))
            }
            Self::SourceIdentity => {
                request.source.workload.and_then(|workload| hash(workload.identity().to_string().as_bytes()))
            }
            Self::SourceIp => match request.source.address {
                IpAddr::V4(address) => hash(&address.octets()),
                IpAddr::V6(address) => hash(&address.octets()),
            },
        }
    }
}

/// The destinations of a rule with their weights.
#[derive(Clone, Debug)]
pub struct Split {
    /// Makes the choice the same for the same user; without it every request is a new draw.
    pub sticky: Option<StickyKey>,
    /// Keeps clients at the endpoints that they had, whatever the rest would choose.
    pub session: Option<Arc<Session>>,
    /// At least one.
    pub destinations: Vec<Destination>,
}

/// How a destination was chosen; for explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// There was only one with a weight.
    Only,
    /// By the sticky key.
    Key,
    /// By a draw, because the split is not sticky.
    Draw,
    /// By a draw, because the request lacks the sticky key.
    DrawWithoutKey,
}

impl Split {
    /// A split that is a draw for every request.
    pub fn to(destinations: Vec<Destination>) -> Self {
        Self { sticky: None, session: None, destinations }
    }

    /// The destination of a session. One that gets no new requests (a weight of 0) keeps those that it has.
    pub fn of_session(&self, token: &Token) -> Option<&Destination> {
        self.destinations.iter().find(|destination| session::destination_id(&destination.name) == token.destination)
    }

    /// Chooses the destination of a request. `roll` is a random number from the whole range of `u64`; it decides only
    /// where no key does. `None` when every weight is 0.
    pub fn choose(&self, request: &Request<'_>, roll: u64) -> Option<(&Destination, ChosenBy)> {
        let mut weighted = self.destinations.iter().filter(|destination| destination.weight > 0);
        let first = weighted.next()?;
        if weighted.next().is_none() {
            return Some((first, ChosenBy::Only));
        }
        match &self.sticky {
            None => Some((self.draw(roll), ChosenBy::Draw)),
            // The seed is fixed: every node and every revision makes the same choice.
            Some(key) => Some(match key.hash(request, 0) {
                Some(hash) => (self.rendezvous(hash), ChosenBy::Key),
                None => (self.draw(roll), ChosenBy::DrawWithoutKey),
            }),
        }
    }

    fn draw(&self, roll: u64) -> &Destination {
        let total: u64 = self.destinations.iter().map(|destination| u64::from(destination.weight)).sum();
        // Multiply instead of modulo: unbiased to 2^-32 and without a division.
        let mut point = ((u128::from(roll) * u128::from(total)) >> 64) as u64;
        for destination in &self.destinations {
            let weight = u64::from(destination.weight);
            if point < weight {
                return destination;
            }
            point -= weight;
        }
        &self.destinations[0]
    }

    /// Weighted rendezvous hashing: every destination scores the key, the highest score wins. Raising a weight raises
    /// only that destination's scores, so users only move to it; lowering moves only its own users away.
    ///
    /// Source: D. Thaler and C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM ToN 6 (1998);
    /// the logarithmic weighting as in draft-ietf-bess-weighted-hrw.
    fn rendezvous(&self, key: u64) -> &Destination {
        let score = |destination: &Destination| {
            let mut salt = xxh3_64_with_seed(destination.name.service.namespace.as_bytes(), key);
            salt = xxh3_64_with_seed(destination.name.service.name.as_bytes(), salt);
            salt = xxh3_64_with_seed(&destination.name.port.to_be_bytes(), salt);
            // 53 bits fit a double exactly; plus a half keeps the point inside (0, 1), where the logarithm is finite.
            let point = ((salt >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -f64::from(destination.weight) / point.ln()
        };
        let mut best = (&self.destinations[0], f64::MIN);
        for destination in self.destinations.iter().filter(|destination| destination.weight > 0) {
            let score = score(destination);
            if score > best.1 {
                best = (destination, score);
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests;
