//! `weir_identity_…`: certificates of this node's workloads.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use weir_admin::IdentityView;

/// Until when certificates are valid, and how many cannot be renewed.
pub(crate) struct IdentityMetrics(pub(crate) Arc<dyn IdentityView>);

impl fmt::Debug for IdentityMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityMetrics")
    }
}

impl Collector for IdentityMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let states = self.0.states();
        let help = "Until when the certificate of a service account is valid, in seconds since 1970";
        let name = "weir_identity_certificate_expiry_timestamp_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (state, not_after) in states.iter().filter_map(|state| Some((state, state.not_after?))) {
            let labels =
                [("namespace", &**state.principal.namespace()), ("service_account", state.principal.service_account())];
            ConstGauge::new(seconds(not_after)).encode(family.encode_family(&labels)?)?;
        }
        let failing = states.iter().filter(|state| state.failure.is_some()).count() as i64;
        let failing = failing + i64::from(self.0.failure().is_some());
        let help = "Certificates that cannot be brought or renewed, and one more where the authority or the bundle cannot be read";
        let family = encoder.encode_descriptor("weir_identity_failing", help, None, MetricType::Gauge)?;
        ConstGauge::new(failing).encode(family)?;
        if let Some(ends) = self.0.authority_ends() {
            let help = "Until when the authority of this node is valid, in seconds since 1970";
            let name = "weir_identity_authority_expiry_timestamp_seconds";
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(seconds(ends)).encode(family)?;
        }
        Ok(())
    }
}
