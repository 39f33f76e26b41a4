//! Balancing: which endpoint of a cluster takes a request, and which endpoints take none for a while.

mod health;
mod latency;
mod maglev;
mod outlier;
mod weights;

use std::sync::Arc;
use std::time::Duration;

use crate::route::Request;
use crate::split::StickyKey;

pub use health::{Health, HealthCheck, Question};
pub use latency::PeakEwma;
pub use maglev::Maglev;
pub use outlier::{Outcome, Outlier, OutlierDetection};
pub use weights::{Weight, Weights};

/// How the endpoints of a cluster are treated.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficPolicy {
    /// How one of several is picked.
    pub algorithm: Algorithm,
    /// For how long a new endpoint takes less than its share, growing to it; `None`: it takes its share at once.
    pub slow_start: Option<Duration>,
    /// Which endpoints are preferred for where they are.
    pub locality: Locality,
    /// When endpoints that answer badly are left alone for a while.
    pub outliers: Option<OutlierDetection>,
    /// What endpoints are asked now and then; those that answer badly take no requests.
    pub health: Option<Arc<HealthCheck>>,
    /// How many of its requests may be under way on a node.
    pub max_requests: Option<u32>,
    /// How many of these may be retries.
    pub max_retries: Option<u32>,
    /// If fewer than so many of a hundred endpoints are well, all of them are used: a few that are not well would have
    /// to carry what all are there for, and fail as well. 0: never.
    pub panic_percent: u8,
}

impl Default for TrafficPolicy {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::LeastRequest,
            slow_start: None,
            locality: Locality::Anywhere,
            outliers: None,
            health: None,
            max_requests: None,
            max_retries: None,
            panic_percent: 50,
        }
    }
}

impl TrafficPolicy {
    /// The hash by which requests find the same endpoint again; `None` where they need not.
    pub fn key(&self, request: &Request<'_>) -> Option<u64> {
        match &self.algorithm {
            // Another seed than that of splits: whoever is in the canary's tenth must not all be at one endpoint of it.
            Algorithm::ConsistentHash(key) => key.hash(request, 1),
            _ => None,
        }
    }

    /// Whether it says something that only the proxy can do. What is near is known in the kernel as well.
    pub fn needs_proxy(&self) -> bool {
        *self != Self { locality: self.locality, ..Self::default() }
    }

    /// What it says, for people.
    pub fn describe(&self) -> String {
        let algorithm = match &self.algorithm {
            Algorithm::LeastRequest => "the less loaded of two",
            Algorithm::PeakEwma => "the one of two that is expected to answer sooner",
            Algorithm::RoundRobin => "one after the other",
            Algorithm::Random => "at random",
            Algorithm::ConsistentHash(StickyKey::Header(name)) => &format!("the same for the same header {name}"),
            Algorithm::ConsistentHash(StickyKey::Cookie(name)) => &format!("the same for the same cookie {name}"),
            Algorithm::ConsistentHash(StickyKey::SourceIp) => "the same for the same address",
            Algorithm::ConsistentHash(StickyKey::SourceIdentity) => "the same for the same identity",
        };
        let mut told = vec![algorithm.to_owned()];
        told.extend(self.slow_start.map(|window| format!("new ones slowly for {window:?}")));
        match self.locality {
            Locality::Anywhere => {}
            Locality::SameZone => told.push("those in the zone first".to_owned()),
            Locality::SameNode => told.push("those on the node first".to_owned()),
            Locality::OnlyNode => told.push("only those on the node".to_owned()),
        }
        told.extend(self.health.as_ref().map(|_| "those that fail their checks not".to_owned()));
        told.extend(self.outliers.as_ref().map(|_| "those that fail not for a while".to_owned()));
        told.join("; ")
    }

    /// Whether what becomes of requests matters for later ones.
    pub fn observes(&self) -> bool {
        self.outliers.is_some() || self.algorithm == Algorithm::PeakEwma
    }
}

/// How an endpoint is picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Of two taken at random, the one with fewer requests under way.
    LeastRequest,
    /// Of two taken at random, the one where a request is expected to be answered sooner.
    PeakEwma,
    /// One after the other.
    RoundRobin,
    /// At random.
    Random,
    /// The same for requests with the same key, on every node; at random for those without.
    ConsistentHash(StickyKey),
}

/// Which endpoints are preferred for where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locality {
    /// None.
    Anywhere,
    /// Those in the zone of the node, if any is well.
    SameZone,
    /// Those on the node, if any is well; else those in its zone.
    SameNode,
    /// Those on the node, or none.
    OnlyNode,
}

/// How near an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// On the node.
    Node,
    /// In the zone.
    Zone,
    /// Elsewhere, or nobody knows.
    Far,
}

impl Distance {
    /// The distance of an endpoint on this node and in this zone, as seen from another.
    pub fn between(own: (Option<&str>, Option<&str>), other: (Option<&str>, Option<&str>)) -> Self {
        let is_same = |own: Option<&str>, other: Option<&str>| own.is_some() && own == other;
        if is_same(own.0, other.0) {
            Self::Node
        } else if is_same(own.1, other.1) {
            Self::Zone
        } else {
            Self::Far
        }
    }
}

/// What is known of an endpoint when the eligible ones are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is neither ejected nor failing its health checks.
    pub is_well: bool,
    /// How near it is.
    pub distance: Distance,
}

impl TrafficPolicy {
    /// The positions of the endpoints that requests are shared between, of those with these standings.
    pub fn eligible(&self, standings: &[Standing]) -> Vec<usize> {
        let allowed = |one: &Standing| self.locality != Locality::OnlyNode || one.distance == Distance::Node;
        let all: Vec<usize> = (0..standings.len()).filter(|&at| allowed(&standings[at])).collect();
        let well: Vec<usize> = all.iter().copied().filter(|&at| standings[at].is_well).collect();
        if well.len() * 100 < all.len() * usize::from(self.panic_percent) || well.is_empty() && self.panic_percent > 0 {
            return all;
        }
        let farthest: &[Distance] = match self.locality {
            Locality::Anywhere | Locality::OnlyNode => &[],
            Locality::SameZone => &[Distance::Zone],
            Locality::SameNode => &[Distance::Node, Distance::Zone],
        };
        let within = |most: &Distance| {
            let near: Vec<usize> = well.iter().copied().filter(|&at| standings[at].distance <= *most).collect();
            Some(near).filter(|near| !near.is_empty())
        };
        farthest.iter().find_map(within).unwrap_or(well)
    }
}

/// What is behind the point of the golden ratio, in parts of 2^64.
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// Random numbers for one decision, made of one.
#[derive(Clone, Copy, Debug)]
pub struct Rolls(u64);

impl Rolls {
    /// As many as are needed from a number of the whole range of `u64`.
    pub fn new(roll: u64) -> Self {
        Self(roll)
    }

    /// The next one.
    fn next(&mut self) -> u64 {
        // SplitMix64 (G. Steele et al., OOPSLA 2014).
        self.0 = self.0.wrapping_add(GOLDEN_RATIO);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

/// The endpoints that one is picked of, by position.
pub trait Candidates {
    /// How many there are.
    fn count(&self) -> usize;
    /// Requests of this worker that are under way to one.
    fn load(&self, at: usize) -> u32;
    /// What one of its answers is expected to take, in any unit.
    fn latency(&self, at: usize) -> f64;
    /// The share that it takes of what it would, in thousandths; 1,000 except while it starts slowly.
    fn warmth(&self, at: usize) -> u32;
    /// What each weighs.
    fn weights(&self) -> &Weights;
}

/// How often an endpoint that starts slowly is passed over before it is taken after all.
const DRAWS: usize = 16;

/// Picks an endpoint; `turn` counts the picks before this one. `None` when there is none.
///
/// Sources: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12 (2001); Finagle's
/// peak EWMA (<https://twitter.github.io/finagle/guide/Clients.html>).
pub fn pick(algorithm: &Algorithm, turn: u64, mut rolls: Rolls, among: &impl Candidates) -> Option<usize> {
    let count = among.count();
    if count <= 1 {
        return (count == 1).then_some(0);
    }
    match algorithm {
        Algorithm::RoundRobin if among.weights().are_equal() => {
            Some(warm(among, &mut rolls, |tries, _| ((turn + tries as u64) % count as u64) as usize))
        }
        // Multiples of the golden ratio: however many of them there are, each part has as many as it should, and those of
        // one part are spread over all.
        Algorithm::RoundRobin => Some(warm(among, &mut rolls, |tries, _| {
            among.weights().at(count, turn.wrapping_add(tries as u64).wrapping_mul(GOLDEN_RATIO))
        })),
        Algorithm::Random | Algorithm::ConsistentHash(_) => {
            Some(warm(among, &mut rolls, |_, rolls| among.weights().at(count, rolls.next())))
        }
        // Of those without a request under way the first that is drawn is as good as any, so that each has its share.
        Algorithm::LeastRequest => Some(better(among, rolls, |at| load(among, at))),
        Algorithm::PeakEwma => Some(better(among, rolls, |at| among.latency(at) * (load(among, at) + 1.0))),
    }
}

/// The requests under way to one, for what it weighs.
fn load(among: &impl Candidates, at: usize) -> f64 {
    let load = f64::from(among.load(at));
    if among.weights().are_equal() { load } else { load / among.weights().relative(at) }
}

/// The better of two that are drawn at random and differ.
fn better(among: &impl Candidates, mut rolls: Rolls, cost: impl Fn(usize) -> f64) -> usize {
    let count = among.count();
    let draw = |rolls: &mut Rolls| among.weights().at(count, rolls.next());
    let first = warm(among, &mut rolls, |_, rolls| draw(rolls));
    // From the others.
    let other = |rolls: &mut Rolls| (first + 1 + rolls.below(count - 1)) % count;
    let second = warm(among, &mut rolls, |_, rolls| {
        if among.weights().are_equal() {
            return other(rolls);
        }
        let drawn = draw(rolls);
        if drawn == first { other(rolls) } else { drawn }
    });
    if cost(second) < cost(first) { second } else { first }
}

/// The first that is drawn and warm enough.
fn warm(among: &impl Candidates, rolls: &mut Rolls, mut draw: impl FnMut(usize, &mut Rolls) -> usize) -> usize {
    let mut at = draw(0, rolls);
    for tries in 1..DRAWS {
        let warmth = among.warmth(at);
        if warmth >= 1_000 || rolls.below(1_000) < warmth as usize {
            break;
        }
        at = draw(tries, rolls);
    }
    at
}

/// The share that an endpoint of this age takes, in thousandths: a tenth at first, growing evenly.
pub fn warmth(slow_start: Option<Duration>, age: Duration) -> u32 {
    let Some(window) = slow_start.filter(|window| age < *window) else { return 1_000 };
    let share = age.as_secs_f64() / window.as_secs_f64();
    (share.max(0.1) * 1_000.0) as u32
}

#[cfg(test)]
mod tests;
