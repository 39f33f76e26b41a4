//! `weir_policy_…`: what policies have kept out, and what they have told of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use weir_admin::KernelView;
use weir_core::authorization::RuleName;
use weir_core::snapshot::Snapshot;

/// `weir_policy_denied_total` and `weir_policy_audited_total`, by rule and by who decided: packets in the kernel, requests and
/// connections in the proxy. A rule without a policy stands for what no policy of the namespace allows.
pub(crate) struct PolicyMetrics {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) kernel: Arc<dyn KernelView>,
}

impl fmt::Debug for PolicyMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyMetrics")
    }
}

/// Denied and audited, by rule and by who decided.
type Counts = BTreeMap<(RuleName, &'static str), [u64; 2]>;

impl PolicyMetrics {
    fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        let snapshot = self.snapshot.load();
        for ruling in snapshot.guards().flat_map(|guard| guard.rulings()) {
            let (denied, audited) = ruling.tally.counts();
            if denied + audited > 0 {
                counts.insert((ruling.name.clone(), "proxy"), [denied, audited]);
            }
        }
        for count in self.kernel.rules() {
            let of_rule = counts.entry((count.rule, "kernel")).or_default();
            of_rule[usize::from(!count.is_denied)] += count.packets;
        }
        counts
    }
}

impl Collector for PolicyMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.counts();
        let both = [
            (
                "weir_policy_denied",
                "What a rule has kept out: packets in the kernel, requests and connections in the proxy",
            ),
            ("weir_policy_audited", "What a rule has told of, or would keep out if its namespace enforced it"),
        ];
        for (which, (name, help)) in both.into_iter().enumerate() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for ((rule, by), counts) in counts.iter().filter(|(_, counts)| counts[which] > 0) {
                let (policy, position) = rule.parts();
                let labels =
                    [("namespace", &**rule.namespace()), ("policy", policy), ("rule", position.as_str()), ("by", by)];
                ConstCounter::new(counts[which]).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
