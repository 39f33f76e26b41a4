//! Lines for the log, and the time.

use std::time::{SystemTime, UNIX_EPOCH};

use super::memory::{Guest, put, put_word, slice, split};
use crate::abi::{Answer, LogLevel};

/// `proxy_log`.
pub(super) fn log(guest: &mut Guest<'_>, level: u32, at: u32, size: u32) -> Answer {
    let level = LogLevel::parse(level)?;
    let (memory, state) = split(guest)?;
    state.log(level, slice(memory, at, size)?);
    Ok(())
}

/// `proxy_get_log_level`: what is below it is not written anywhere.
pub(super) fn level(guest: &mut Guest<'_>, to: u32) -> Answer {
    let level = if tracing::enabled!(tracing::Level::TRACE) {
        LogLevel::Trace
    } else if tracing::enabled!(tracing::Level::DEBUG) {
        LogLevel::Debug
    } else if tracing::enabled!(tracing::Level::INFO) {
        LogLevel::Info
    } else {
        LogLevel::Warn
    };
    put_word(guest, to, level as u32)
}

/// `proxy_get_current_time_nanoseconds`.
pub(super) fn now(guest: &mut Guest<'_>, to: u32) -> Answer {
    put(guest, to, nanoseconds().to_le_bytes())
}

/// Since 1970.
pub(super) fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
