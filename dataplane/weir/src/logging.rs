//! Where log lines go: the standard error stream, as text or JSON.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::settings::{Log, LogFormat};

/// Starts logging for this process.
///
/// # Errors
/// When the filter is malformed.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let filter = std::env::var("WEIR_LOG").unwrap_or_else(|_| log.filter.clone());
    let filter: EnvFilter =
        filter.parse().with_context(|| format!("log.filter: \"{filter}\" is not a list of target=level"))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging was started twice: {error}"))
}
