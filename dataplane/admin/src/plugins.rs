//! `GET /api/v1/plugins`: the plugins in force, what each may do, what it has done and what it costs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use serde_json::{Value, json};
use weir_core::plugin::{OnFailure, Plugin};
use weir_core::snapshot::Snapshot;
use weir_plugin_host::{Metric, MetricKind, TIME_BOUNDS, Totals};

use crate::Node;
use crate::answer::Json;

pub(crate) async fn plugins(State(node): State<Node>) -> Json<Value> {
    let snapshot = node.snapshot.load();
    Json(snapshot.plugins().iter().map(|plugin| one(&snapshot, plugin)).collect())
}

fn one(snapshot: &Snapshot, plugin: &Arc<Plugin>) -> Value {
    let Plugin { name, module, order, share, limits, on_failure, .. } = &**plugin;
    let sees = |frontend: &&Arc<weir_core::snapshot::Frontend>| {
        frontend.plugins.iter().any(|other| Arc::ptr_eq(other, plugin))
    };
    let services: Vec<String> = snapshot.frontends().filter(sees).map(|frontend| frontend.name.to_string()).collect();
    let host = plugin.loaded.get::<weir_plugin_host::Plugin>();
    let totals = host.as_ref().map(|host| host.totals()).unwrap_or_default();
    let metrics = host.as_ref().map(|host| host.metrics()).unwrap_or_default();
    json!({
        "name": format!("{}/{}", name.namespace, name.name),
        "module": module.file,
        "sha256": host.as_ref().map(|host| host.module().digest().to_string()),
        "abi": host.as_ref().map(|host| host.module().version().to_string()),
        "services": services,
        "order": order,
        "percentage": share.percent(),
        "on_failure": match on_failure {
            OnFailure::Closed => "closed",
            OnFailure::Open => "open",
        },
        "limits": {
            "callback_us": limits.callback.as_micros() as u64,
            "start_us": limits.start.as_micros() as u64,
            "memory_bytes": limits.memory,
            "body_bytes": limits.body,
        },
        "instances": totals.instances,
        "memory_bytes": totals.memory,
        "calls": totals.calls,
        "time_us": totals.time.as_micros() as u64,
        "p50_us": quantile(&totals, 0.5),
        "p99_us": quantile(&totals, 0.99),
        "traps": totals.traps,
        "timeouts": totals.timeouts,
        "no_instance": totals.unmade,
        "log_lines_dropped": totals.log_lines_dropped,
        "metrics": metrics.iter().map(metric).collect::<BTreeMap<_, _>>(),
    })
}

fn metric(metric: &Metric) -> (&str, Value) {
    let kind = match metric.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    let count = (metric.kind == MetricKind::Histogram).then(|| metric.buckets.iter().sum::<u64>());
    (&metric.name, json!({"kind": kind, "value": metric.value, "count": count}))
}

/// The upper bound of the bucket that this part of the callbacks ends in, in microseconds; `None` where there were none,
/// or they took longer than the largest bound.
fn quantile(totals: &Totals, part: f64) -> Option<f64> {
    let wanted = (totals.calls as f64 * part).ceil() as u64;
    let mut seen = 0;
    let bucket = totals.times.iter().position(|count| {
        seen += count;
        wanted > 0 && seen >= wanted
    })?;
    TIME_BOUNDS.get(bucket).map(|bound| *bound as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let mut totals = Totals { calls: 100, ..Totals::default() };
        (totals.times[0], totals.times[3], totals.times[TIME_BOUNDS.len()]) = (50, 49, 1);
        assert_eq!([0.5, 0.51, 0.99, 1.0].map(|part| quantile(&totals, part)), [Some(0.5), Some(5.0), Some(5.0), None]);
        assert_eq!(quantile(&Totals::default(), 0.5), None);
    }
}
