//! Metrics of what is neither a request nor a connection: the kernel part, sources, gateways and the version log.

mod identities;
mod plugins;
mod policies;

use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use weir_admin::{KernelView, SourceView, Sources};
use weir_proxy::GatewayStatus;
use weir_revisions::Reader;

pub(crate) use identities::IdentityMetrics;
pub(crate) use plugins::PluginMetrics;
pub(crate) use policies::PolicyMetrics;

/// `weir_kernel_packets_total` and `weir_kernel_bytes_total`, by reason.
pub(crate) struct KernelMetrics(pub(crate) Arc<dyn KernelView>);

impl fmt::Debug for KernelMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KernelMetrics")
    }
}

impl Collector for KernelMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.0.counts();
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut packets = encoder.encode_descriptor(
            "weir_kernel_packets",
            "Packets, by what the eBPF programs did with them",
            None,
            kind,
        )?;
        for count in &counts {
            let family = [("reason", count.reason)];
            ConstCounter::new(count.packets).encode(packets.encode_family(&family)?)?;
        }
        let mut bytes = encoder.encode_descriptor("weir_kernel", "Bytes of these packets", Some(&Unit::Bytes), kind)?;
        for count in &counts {
            let family = [("reason", count.reason)];
            ConstCounter::new(count.bytes).encode(bytes.encode_family(&family)?)?;
        }
        let pods = self.0.pods();
        let enrolled = pods.iter().filter(|pod| pod.enrolled).count();
        gauge(&mut encoder, "weir_kernel_pods", "Enrolled pods on this node", enrolled as i64)
    }
}

/// `weir_source_…`: whether the sources can be read.
#[derive(Debug)]
pub(crate) struct SourceMetrics(pub(crate) Sources);

impl Collector for SourceMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sources = self.0.all();
        type Value = fn(&SourceView) -> i64;
        let gauges: [(&str, &str, Value); 2] = [
            ("weir_source_error", "1 when the source cannot be read: what is in force may be old", |source| {
                i64::from(source.is_broken())
            }),
            ("weir_source_warnings", "What will not work as expected although the source can be read", |source| {
                source.warnings.len() as i64
            }),
        ];
        for (name, help, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, ConstGauge::new(0_i64).metric_type())?;
            for source in &sources {
                ConstGauge::new(value(source)).encode(family.encode_family(&[("source", source.name.as_str())])?)?;
            }
        }
        let help = "Problems that kept the source from being read";
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut errors = encoder.encode_descriptor("weir_source_errors", help, None, kind)?;
        for source in &sources {
            let family = [("source", source.name.as_str())];
            ConstCounter::new(source.errors_total).encode(errors.encode_family(&family)?)?;
        }
        Ok(())
    }
}

/// `weir_gateway_…`: whether gateways listen, and until when what they show is valid.
#[derive(Debug)]
pub(crate) struct GatewayMetrics(pub(crate) GatewayStatus);

impl Collector for GatewayMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let kind = ConstGauge::new(0_i64).metric_type();
        let help = "Whether somebody listens at an address that gateways want";
        let mut listening = encoder.encode_descriptor("weir_gateway_listening", help, None, kind)?;
        for at in self.0.addresses().iter() {
            let address = at.address.to_string();
            let is_open = i64::from(at.failure.is_none());
            ConstGauge::new(is_open).encode(listening.encode_family(&[("address", address.as_str())])?)?;
        }
        let certificates = self.0.certificates();
        let name = "weir_gateway_certificate_not_after_timestamp_seconds";
        let help = "Until when the certificate that gateways show is valid";
        let mut until = encoder.encode_descriptor(name, help, None, kind)?;
        for one in certificates.iter() {
            let Some(not_after) = one.not_after.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) else { continue };
            let seconds = ConstGauge::new(not_after.as_secs() as i64);
            seconds.encode(until.encode_family(&[("certificate", one.name.to_string().as_str())])?)?;
        }
        let help = "1 when the certificate cannot be read as it is now: an older one is shown, or none";
        let mut errors = encoder.encode_descriptor("weir_gateway_certificate_error", help, None, kind)?;
        for one in certificates.iter() {
            let error = ConstGauge::new(i64::from(one.failure.is_some()));
            error.encode(errors.encode_family(&[("certificate", one.name.to_string().as_str())])?)?;
        }
        Ok(())
    }
}

/// `weir_build_info`: which version of Weir this is.
#[derive(Debug)]
pub(crate) struct BuildInfo;

impl Collector for BuildInfo {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut info = encoder.encode_descriptor("weir_build_info", "The version of Weir", None, kind)?;
        ConstGauge::new(1_i64).encode(info.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?)
    }
}

/// `weir_revision_…`: which configuration is in force, and whether a newer one was rejected.
#[derive(Debug)]
pub(crate) struct RevisionMetrics(pub(crate) Reader);

impl Collector for RevisionMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let current = self.0.current();
        let sequence = current.as_ref().map_or(0, |current| current.record.sequence.0);
        gauge(
            &mut encoder,
            "weir_revision_sequence",
            "Place of the revision in force in the version log",
            sequence as i64,
        )?;
        let applied = current.as_ref().and_then(|current| current.record.applied_at.duration_since(UNIX_EPOCH).ok());
        let applied = applied.map_or(0, |since| since.as_secs() as i64);
        gauge(&mut encoder, "weir_revision_applied_timestamp_seconds", "When it came into force", applied)?;
        let recorded = current.as_ref().is_none_or(|current| current.is_recorded);
        gauge(&mut encoder, "weir_revision_recorded", "Whether it is in the version log on disk", i64::from(recorded))?;
        let rejected = self.0.rejections().len();
        gauge(
            &mut encoder,
            "weir_revision_rejected_sources",
            "Sources whose content is not in force",
            rejected as i64,
        )?;
        let warnings = current.as_ref().map_or(0, |current| current.warnings.len());
        gauge(&mut encoder, "weir_revision_warnings", "Warnings about the revision in force", warnings as i64)?;
        cycles(&mut encoder, &self.0)?;
        if let Some(current) = current {
            let id = current.record.version_id.to_string();
            let kind = ConstGauge::new(0_i64).metric_type();
            let mut info = encoder.encode_descriptor(
                "weir_revision_info",
                "The version id of the revision in force",
                None,
                kind,
            )?;
            ConstGauge::new(1_i64).encode(info.encode_family(&[("version_id", id.as_str())])?)?;
        }
        Ok(())
    }
}

/// How update cycles ended, and how long changes took.
fn cycles(encoder: &mut DescriptorEncoder<'_>, reader: &Reader) -> Result<(), fmt::Error> {
    let help = "Update cycles, by how they ended";
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut ended = encoder.encode_descriptor("weir_revision_cycles", help, None, kind)?;
    for (outcome, count) in reader.outcomes() {
        ConstCounter::new(count).encode(ended.encode_family(&[("outcome", outcome)])?)?;
    }
    let (help, unit) = ("From the first sign of a source's change until new requests saw it", Unit::Seconds);
    let name = "weir_revision_reload_duration";
    let mut durations = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
    let reloads = reader.reloads();
    let (sum, count) = (reloads.sum_seconds(), reloads.count());
    durations.encode_histogram::<NoLabelSet>(sum, count, &reloads.exported(), None)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}
