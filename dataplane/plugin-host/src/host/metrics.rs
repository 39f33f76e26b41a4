//! Metrics of the plugin's own.

use super::memory::{Guest, check_words, put, put_word, slice, split};
use crate::abi::Answer;
use crate::metrics::MetricKind;

/// `proxy_define_metric`.
pub(super) fn define(guest: &mut Guest<'_>, kind: u32, at: u32, size: u32, to: u32) -> Answer {
    let kind = MetricKind::parse(kind)?;
    check_words(guest, &[to])?;
    let (memory, state) = split(guest)?;
    let limit = state.plugin.options.limits.metrics;
    let metric = state.plugin.metrics.define(kind, slice(memory, at, size)?, limit)?;
    put_word(guest, to, metric)
}

/// `proxy_increment_metric`.
pub(super) fn increment(guest: &mut Guest<'_>, metric: u32, by: i64) -> Answer {
    Ok(guest.data().plugin.metrics.increment(metric, by)?)
}

/// `proxy_record_metric`.
pub(super) fn record(guest: &mut Guest<'_>, metric: u32, value: i64) -> Answer {
    Ok(guest.data().plugin.metrics.record(metric, value)?)
}

/// `proxy_get_metric`.
pub(super) fn value(guest: &mut Guest<'_>, metric: u32, to: u32) -> Answer {
    let value = guest.data().plugin.metrics.value(metric)?;
    put(guest, to, value.to_le_bytes())
}
