//! Metrics of plugins: what each costs, how often it failed, and what it counts by itself.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use weir_core::snapshot::Snapshot;
use weir_plugin_host::{Metric, MetricKind, Plugin, TIME_BOUNDS, Totals};

/// `weir_plugin_…`, of the plugins in force.
#[derive(Debug)]
pub(crate) struct PluginMetrics(pub(crate) Arc<ArcSwap<Snapshot>>);

/// A plugin's name, and what it has come to.
type Row = (String, Arc<Plugin>, Totals);

impl Collector for PluginMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.0.load();
        let loaded = |plugin: &weir_core::plugin::Plugin| {
            [plugin.loaded.get::<Plugin>(), plugin.shadow.as_ref().and_then(|shadow| shadow.loaded.get::<Plugin>())]
        };
        let loaded = snapshot.plugins().iter().flat_map(|plugin| loaded(plugin)).flatten();
        let rows: Vec<Row> =
            loaded.map(|plugin| (plugin.name().to_owned(), Arc::clone(&plugin), plugin.totals())).collect();
        failures(&mut encoder, &rows)?;
        durations(&mut encoder, &rows)?;
        counter(
            &mut encoder,
            "weir_plugin_log_lines_dropped",
            "Lines of plugins that were too many",
            &rows,
            |totals| totals.log_lines_dropped,
        )?;
        counter(
            &mut encoder,
            "weir_plugin_body_bytes",
            "Bytes of bodies and connections that plugins were shown",
            &rows,
            |totals| totals.bytes,
        )?;
        let name = "weir_plugin_memory";
        gauge(&mut encoder, (name, Some(&Unit::Bytes)), "Linear memory of plugins' instances", &rows, |one| {
            one.memory
        })?;
        gauge(&mut encoder, ("weir_plugin_instances", None), "Instances of plugins", &rows, |one| one.instances)?;
        switched_off(&mut encoder, &rows)?;
        compared(&mut encoder, snapshot.plugins())?;
        own(&mut encoder, &rows)
    }
}

fn failures(encoder: &mut DescriptorEncoder<'_>, rows: &[Row]) -> Result<(), fmt::Error> {
    let help = "Callbacks of plugins that failed, and instances that could not be made";
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut family = encoder.encode_descriptor("weir_plugin_failures", help, None, kind)?;
    for (name, _, totals) in rows {
        for (what, count) in [("trap", totals.traps), ("timeout", totals.timeouts), ("no_instance", totals.unmade)] {
            ConstCounter::new(count).encode(family.encode_family(&[("plugin", name.as_str()), ("kind", what)])?)?;
        }
    }
    Ok(())
}

fn switched_off(encoder: &mut DescriptorEncoder<'_>, rows: &[Row]) -> Result<(), fmt::Error> {
    let help = "Plugins that are switched off because they keep failing";
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor("weir_plugin_switched_off", help, None, kind)?;
    for (name, plugin, _) in rows {
        let is_off = i64::from(plugin.health().off_until.is_some());
        ConstGauge::new(is_off).encode(family.encode_family(&[("plugin", name.as_str())])?)?;
    }
    Ok(())
}

/// What became of plugins that are tried out beside others.
fn compared(encoder: &mut DescriptorEncoder<'_>, plugins: &[Arc<weir_core::plugin::Plugin>]) -> Result<(), fmt::Error> {
    let help = "Requests in which a plugin that is tried out did the same as the one in force, or not";
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut family = encoder.encode_descriptor("weir_plugin_shadow_requests", help, None, kind)?;
    for plugin in plugins {
        let shadow = plugin.shadow.as_ref().and_then(|shadow| shadow.loaded.get::<Plugin>());
        let Some(shadow) = shadow else { continue };
        let compared = shadow.comparison().compared();
        for (result, count) in [("same", compared.same), ("different", compared.different)] {
            let labels = [("plugin", shadow.name()), ("result", result)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn durations(encoder: &mut DescriptorEncoder<'_>, rows: &[Row]) -> Result<(), fmt::Error> {
    let help = "How long callbacks of plugins took";
    let (name, unit) = ("weir_plugin_callback_duration", Unit::Seconds);
    let mut family = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
    for (name, _, totals) in rows {
        let bounds = TIME_BOUNDS.iter().map(|bound| *bound as f64 / 1e9).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(totals.times).collect();
        let labels = [("plugin", name.as_str())];
        let mut one = family.encode_family(&labels)?;
        one.encode_histogram::<NoLabelSet>(totals.time.as_secs_f64(), totals.calls, &buckets, None)?;
    }
    Ok(())
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[Row],
    value: impl Fn(&Totals) -> u64,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, ConstCounter::new(0_u64).metric_type())?;
    for (name, _, totals) in rows {
        ConstCounter::new(value(totals)).encode(family.encode_family(&[("plugin", name.as_str())])?)?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    (name, unit): (&str, Option<&Unit>),
    help: &str,
    rows: &[Row],
    value: impl Fn(&Totals) -> u64,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, unit, ConstGauge::new(0_i64).metric_type())?;
    for (name, _, totals) in rows {
        let value = i64::try_from(value(totals)).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(family.encode_family(&[("plugin", name.as_str())])?)?;
    }
    Ok(())
}

/// What plugins count by themselves. Their names are a label: they may be anything.
fn own(encoder: &mut DescriptorEncoder<'_>, rows: &[Row]) -> Result<(), fmt::Error> {
    let all: Vec<(&str, Metric)> = rows
        .iter()
        .flat_map(|(name, plugin, _)| plugin.metrics().into_iter().map(move |metric| (name.as_str(), metric)))
        .collect();
    let of = |kind| all.iter().filter(move |(_, metric)| metric.kind == kind);
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut family = encoder.encode_descriptor("weir_plugin_counter", "Counters that plugins define", None, kind)?;
    for (plugin, metric) in of(MetricKind::Counter) {
        let labels = [("plugin", *plugin), ("name", metric.name.as_str())];
        ConstCounter::new(metric.value.unsigned_abs()).encode(family.encode_family(&labels)?)?;
    }
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor("weir_plugin_gauge", "Gauges that plugins define", None, kind)?;
    for (plugin, metric) in of(MetricKind::Gauge) {
        let labels = [("plugin", *plugin), ("name", metric.name.as_str())];
        ConstGauge::new(metric.value).encode(family.encode_family(&labels)?)?;
    }
    let (name, help) = ("weir_plugin_histogram", "Histograms that plugins define");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (plugin, metric) in of(MetricKind::Histogram) {
        // Powers of two; the last takes the rest.
        let last = metric.buckets.len().saturating_sub(1);
        let bound = |place: usize| if place == last { f64::MAX } else { (1_u64 << place) as f64 };
        let buckets: Vec<(f64, u64)> =
            metric.buckets.iter().enumerate().map(|(place, count)| (bound(place), *count)).collect();
        let count = metric.buckets.iter().sum();
        let labels = [("plugin", *plugin), ("name", metric.name.as_str())];
        let mut one = family.encode_family(&labels)?;
        one.encode_histogram::<NoLabelSet>(metric.value as f64, count, &buckets, None)?;
    }
    Ok(())
}
