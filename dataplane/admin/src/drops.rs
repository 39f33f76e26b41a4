//! `/api/v1/drops`: what was kept from its destination, as it happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::{Query, State};
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::Notify;
use weir_core::authorization::RuleName;

use crate::Node;
use crate::answer::Json;

/// How many are kept for who asks later.
const KEPT: usize = 1_024;
/// How many pairs of ends are kept for suggestions.
const WANTED: usize = 4_096;
/// How many pairs of ends are kept that talk in the clear.
const PLAIN: usize = 256;
/// How long an answer waits for the next at most: less than a client waits for it.
const WAIT: Duration = Duration::from_secs(5);

/// Something that was kept from its destination, or would have been where policies are only tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Why: the name of a reason of the kernel's side, or `denied` and `audited` of the proxy's.
    pub reason: &'static str,
    /// `kernel` or `proxy`.
    pub by: &'static str,
    /// Where it came from; zero where that cannot be told.
    pub source: SocketAddr,
    /// The pod there, `namespace/name`, as far as documents tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_pod: Option<String>,
    /// Where it was to go.
    pub destination: SocketAddr,
    /// The pod there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_pod: Option<String>,
    /// Whose link it was dropped at. Of a forged source it tells who forged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_pod: Option<String>,
    /// What of policies says so.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub rule: Option<RuleName>,
    /// Method and path of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// How many like it were not told of since the last one that was.
    pub suppressed: u32,
}

fn shown<S: Serializer>(rule: &Option<RuleName>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&rule.as_ref().map(ToString::to_string).unwrap_or_default())
}

/// One of them with its place in their order.
#[derive(Clone, Debug, Serialize)]
struct Numbered {
    sequence: u64,
    /// When (RFC 3339).
    at: String,
    #[serde(flatten)]
    drop: Arc<Dropped>,
}

/// The last of them. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct Drops(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<Kept>,
    told: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    drops: VecDeque<Numbered>,
    /// Who wanted to reach what no policy allows; the first that there were.
    wanted: BTreeSet<Wanted>,
    /// How many more there were.
    unkept: u64,
    /// Who sends in the clear from elsewhere, and to whom.
    plain: BTreeMap<(String, String), Plain>,
}

/// What was told of connections in the clear.
#[derive(Clone, Copy, Debug)]
struct Plain {
    told: u64,
    is_let_in: bool,
    last: SystemTime,
}

/// Who sends in the clear from elsewhere to a workload of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Plaintext {
    /// The pod, `namespace/name`, or the address.
    source: String,
    /// The same of the workload.
    destination: String,
    /// How many connections were told of; where there are many, those are some of them.
    told: u64,
    /// Whether the last one was let in.
    let_in: bool,
    /// When that was (RFC 3339).
    last: String,
}

/// A connection that no policy allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) port: u16,
}

impl Drops {
    /// Tells of one more. The oldest is forgotten for it.
    pub fn tell(&self, drop: Dropped) {
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut kept = self.kept();
        // What a rule denies is not to be allowed, and what a rule tells of is.
        if matches!(drop.rule, Some(RuleName::Unallowed(_))) && drop.destination.port() > 0 {
            let (source, destination) = (drop.source.ip().to_canonical(), drop.destination.ip().to_canonical());
            let wanted = Wanted { source, destination, port: drop.destination.port() };
            if kept.wanted.len() < WANTED || kept.wanted.contains(&wanted) {
                kept.wanted.insert(wanted);
            } else {
                kept.unkept += 1;
            }
        }
        if matches!(drop.reason, PASSED_PLAINTEXT | DROPPED_PLAINTEXT) {
            kept.on_plaintext(&drop);
        }
        kept.last += 1;
        let numbered = Numbered { sequence: kept.last, at, drop: Arc::new(drop) };
        kept.drops.push_back(numbered);
        if kept.drops.len() > KEPT {
            kept.drops.pop_front();
        }
        std::mem::drop(kept);
        self.0.told.notify_waiters();
    }

    /// Who sends in the clear from elsewhere.
    pub(crate) fn plaintext(&self) -> Vec<Plaintext> {
        let one = |((source, destination), plain): (&(String, String), &Plain)| Plaintext {
            source: source.clone(),
            destination: destination.clone(),
            told: plain.told,
            let_in: plain.is_let_in,
            last: humantime::format_rfc3339_seconds(plain.last).to_string(),
        };
        self.kept().plain.iter().map(one).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who wanted to reach what no policy allows, and how many more there were.
    pub(crate) fn wanted(&self) -> (Vec<Wanted>, u64) {
        let kept = self.kept();
        (kept.wanted.iter().cloned().collect(), kept.unkept)
    }

    fn after(&self, sequence: u64) -> Page {
        let kept = self.kept();
        // Of an earlier process: its numbers mean nothing here.
        let sequence = if sequence > kept.last { 0 } else { sequence };
        let drops: Vec<_> = kept.drops.iter().filter(|one| one.sequence > sequence).cloned().collect();
        let missed = kept.last - sequence - drops.len() as u64;
        Page { drops, missed, last: kept.last }
    }

    /// What came after a number; waits for a while where there is nothing yet.
    async fn wait_after(&self, sequence: u64) -> Page {
        let wait = async {
            loop {
                let told = self.0.told.notified();
                let page = self.after(sequence);
                if !page.drops.is_empty() {
                    return page;
                }
                told.await;
            }
        };
        tokio::time::timeout(WAIT, wait).await.unwrap_or_else(|_| self.after(sequence))
    }
}

/// The reasons of the kernel's side that tell of what comes in the clear.
const PASSED_PLAINTEXT: &str = "passed_plaintext";
const DROPPED_PLAINTEXT: &str = "dropped_plaintext";

impl Kept {
    fn on_plaintext(&mut self, drop: &Dropped) {
        let of = |pod: &Option<String>, address: SocketAddr| pod.clone().unwrap_or_else(|| address.ip().to_string());
        let key = (of(&drop.source_pod, drop.source), of(&drop.destination_pod, drop.destination));
        if self.plain.len() >= PLAIN && !self.plain.contains_key(&key) {
            let oldest = self.plain.iter().min_by_key(|(_, plain)| plain.last).map(|(key, _)| key.clone());
            oldest.map(|key| self.plain.remove(&key));
        }
        let (is_let_in, last) = (drop.reason == PASSED_PLAINTEXT, SystemTime::now());
        let plain = self.plain.entry(key).or_insert(Plain { told: 0, is_let_in, last });
        *plain = Plain { told: plain.told + 1 + u64::from(drop.suppressed), is_let_in, last };
    }
}

/// What came after a number.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    drops: Vec<Numbered>,
    /// How many there were besides, that are forgotten.
    missed: u64,
    /// What to ask for next: what comes after this.
    last: u64,
}

/// Whether to wait for what comes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    /// Answers as soon as there is one after this sequence number.
    after: Option<u64>,
}

pub(crate) async fn drops(State(node): State<Node>, Query(wait): Query<Wait>) -> Json<Page> {
    Json(match wait.after {
        Some(after) => node.drops.wait_after(after).await,
        None => node.drops.after(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop(port: u16) -> Dropped {
        Dropped {
            reason: "denied_policy",
            by: "kernel",
            source: ([10, 0, 0, 1], port).into(),
            source_pod: None,
            destination: ([10, 0, 0, 2], 80).into(),
            destination_pod: None,
            link_pod: None,
            rule: None,
            request: None,
            suppressed: 0,
        }
    }

    #[test]
    fn the_last_are_kept_and_what_is_missed_is_told() {
        let drops = Drops::default();
        (0..KEPT as u16 + 10).for_each(|port| drops.tell(drop(port)));
        let all = drops.after(0);
        assert_eq!((all.drops.len(), all.missed, all.last), (KEPT, 10, KEPT as u64 + 10));
        let some = drops.after(all.last - 2);
        let ports: Vec<u16> = some.drops.iter().map(|one| one.drop.source.port()).collect();
        assert_eq!((ports, some.missed), (vec![KEPT as u16 + 8, KEPT as u16 + 9], 0));
        assert_eq!(drops.after(all.last).drops.len(), 0);
        // Who knows numbers of an earlier process begins anew.
        assert_eq!(drops.after(1 << 40).drops.len(), KEPT);
    }

    #[test]
    fn only_what_no_policy_allows_is_suggested() {
        let drops = Drops::default();
        let policy = weir_core::name::ObjectName::new("AuthorizationPolicy", "a", "p");
        let rules = [None, Some(RuleName::Rule(policy, 0)), Some(RuleName::Unallowed("a".into()))];
        for (rule, port) in rules.into_iter().zip(80..) {
            let destination = ([10, 0, 0, 2], port).into();
            drops.tell(Dropped { rule, destination, ..drop(7) });
        }
        let (wanted, unkept) = drops.wanted();
        assert_eq!((wanted.iter().map(|one| one.port).collect::<Vec<_>>(), unkept), (vec![82], 0));
    }

    #[test]
    fn who_sends_in_the_clear_is_known() {
        let drops = Drops::default();
        let plain = |reason, pod: &str| Dropped { reason, source_pod: Some(pod.to_owned()), ..drop(7) };
        drops.tell(plain("dropped_plaintext", "a/one"));
        drops.tell(Dropped { suppressed: 3, ..plain("passed_plaintext", "a/one") });
        drops.tell(plain("denied_policy", "a/two"));
        drops.tell(Dropped { source_pod: None, ..plain("passed_plaintext", "") });
        let found = drops.plaintext();
        let found: Vec<_> = found.iter().map(|one| (&*one.source, &*one.destination, one.told, one.let_in)).collect();
        assert_eq!(found, [("10.0.0.1", "10.0.0.2", 1, true), ("a/one", "10.0.0.2", 5, true)]);
        (0..2 * PLAIN).for_each(|n| drops.tell(plain("passed_plaintext", &format!("a/{n}"))));
        assert_eq!(drops.plaintext().len(), PLAIN);
    }

    #[test]
    fn who_waits_is_told() {
        let drops = Drops::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (page, ()) = runtime.block_on(async { tokio::join!(drops.wait_after(0), async { drops.tell(drop(7)) }) });
        assert_eq!((page.drops.len(), page.last), (1, 1));
    }
}
