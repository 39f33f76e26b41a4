//! `GET /api/v1/plugins`: the plugins in force, what each may do, what it has done and what it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use serde_json::{Value, json};
use weir_core::plugin::{Layer, ModuleSource, Plugin};
use weir_core::route::RouteTable;
use weir_core::snapshot::{Frontend, Snapshot};
use weir_plugin_host::{Metric, MetricKind, TIME_BOUNDS, Totals};

use crate::Node;
use crate::answer::Json;

pub(crate) async fn plugins(State(node): State<Node>) -> Json<Value> {
    let snapshot = node.snapshot.load();
    Json(snapshot.plugins().iter().map(|plugin| one(&snapshot, plugin)).collect())
}

fn one(snapshot: &Snapshot, plugin: &Arc<Plugin>) -> Value {
    let Plugin { name, module, protocol, order, share, limits, on_failure, .. } = &**plugin;
    let is_it = |other: &Arc<Plugin>| Arc::ptr_eq(other, plugin);
    let sees = |frontend: &&Arc<Frontend>| frontend.plugins.iter().chain(&*frontend.tcp_plugins).any(is_it);
    let services = snapshot.frontends().filter(sees).map(|frontend| frontend.name.to_string());
    let listeners = || snapshot.gateway_ports().flat_map(|port| port.listeners.values());
    let of_gateways =
        listeners().filter(|listener| listener.frontends.values().any(|one| one.plugins.iter().any(is_it)));
    let gateways: BTreeSet<String> = of_gateways.map(|listener| listener.gateway.to_string()).collect();
    let at_gateways = listeners().flat_map(|listener| listener.frontends.values());
    let entries = snapshot.frontends().chain(at_gateways).flat_map(|frontend| {
        let consumers = frontend.consumers.values();
        consumers.chain([&frontend.routes]).filter(|table| table.has_plugins()).flat_map(RouteTable::entries)
    });
    let rules = entries.filter(|entry| entry.rule.plugins.iter().any(is_it)).map(|entry| entry.rule.title());
    let rules: BTreeSet<String> = rules.collect();
    let host = plugin.loaded.get::<weir_plugin_host::Plugin>();
    let shadow = plugin.shadow.as_ref().map(|shadow| {
        let host = shadow.loaded.get::<weir_plugin_host::Plugin>();
        let mut shown = running(host.as_deref(), &shadow.module);
        shown["comparison"] = comparison(host.as_deref());
        shown
    });
    let mut shown = running(host.as_deref(), module);
    let placed = json!({
        "name": format!("{}/{}", name.namespace, name.name),
        "protocol": match protocol {
            Layer::Http => "http",
            Layer::Tcp => "tcp",
        },
        "services": services.collect::<Vec<_>>(),
        "gateways": gateways,
        "rules": rules,
        "order": order,
        "percentage": share.percent(),
        "on_failure": on_failure.name(),
        "limits": {
            "callback_us": limits.callback.as_micros() as u64,
            "start_us": limits.start.as_micros() as u64,
            "memory_bytes": limits.memory,
            "body_bytes": limits.body,
        },
        "shadow": shadow,
    });
    if let (Value::Object(shown), Value::Object(placed)) = (&mut shown, placed) {
        shown.extend(placed);
    }
    shown
}

/// What runs, and what it has come to.
fn running(host: Option<&weir_plugin_host::Plugin>, source: &ModuleSource) -> Value {
    let totals = host.map(|host| host.totals()).unwrap_or_default();
    let metrics = host.map(|host| host.metrics()).unwrap_or_default();
    let health = host.map(|host| host.health()).unwrap_or_default();
    let origin = host.map(|host| host.module().origin());
    json!({
        "module": source.from.to_string(),
        "sha256": host.map(|host| host.module().digest().to_string()),
        "abi": host.map(|host| host.module().version().to_string()),
        "from_cache": origin.map(|origin| origin.is_cached),
        "compiled_ms": origin.map(|origin| origin.took.as_secs_f64() * 1_000.0),
        "state": match (host, health.off_until) {
            (None, _) => "not loaded".to_owned(),
            (Some(_), Some(until)) => format!("switched off until {}", time(until)),
            (Some(_), None) => "runs".to_owned(),
        },
        "last_failure": health.last_failure.map(|(at, reason)| format!("{}: {reason}", time(at))),
        "instances": totals.instances,
        "memory_bytes": totals.memory,
        "calls": totals.calls,
        "time_us": totals.time.as_micros() as u64,
        "p50_us": quantile(&totals, 0.5),
        "p99_us": quantile(&totals, 0.99),
        "traps": totals.traps,
        "timeouts": totals.timeouts,
        "no_instance": totals.unmade,
        "body_bytes": totals.bytes,
        "log_lines_dropped": totals.log_lines_dropped,
        "metrics": metrics.iter().map(metric).collect::<BTreeMap<_, _>>(),
    })
}

fn comparison(host: Option<&weir_plugin_host::Plugin>) -> Value {
    let compared = host.map(|host| host.comparison().compared()).unwrap_or_default();
    let last = compared.last.iter();
    json!({
        "same": compared.same,
        "different": compared.different,
        "last": last.map(|one| json!({"at": time(one.at), "request": one.request, "what": one.what})).collect::<Vec<_>>(),
    })
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
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
