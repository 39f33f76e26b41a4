//! Metrics of what is neither a request nor a connection: the kernel part and the version log.

use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use weir_admin::KernelView;
use weir_revisions::Reader;

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

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}
