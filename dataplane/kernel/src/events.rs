//! What the programs report: drop records as values, log lines through `tracing`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;
use weir_ebpf_common::{Event, Reason};

use crate::{raw, wait};

/// Something that was kept from its destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DropRecord {
    /// Why.
    pub reason: Reason,
    /// Source; zero where the packet could not be read.
    pub source: SocketAddr,
    /// Destination.
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Number of what says so, where that is a policy; else zero.
    pub rule: u32,
    /// Link it came from or went to.
    pub ifindex: u32,
    /// Nanoseconds of the monotonic clock.
    pub time_ns: u64,
    /// Records of this reason that this processor did not report since its last one.
    pub suppressed: u32,
}

impl DropRecord {
    fn new(event: &Event) -> Option<Self> {
        let socket = |address, port| SocketAddr::new(IpAddr::from(address), u16::from_be(port));
        Some(Self {
            reason: Reason::from_number(event.reason)?,
            source: socket(event.src, event.src_port),
            destination: socket(event.dst, event.dst_port),
            protocol: event.protocol,
            rule: event.rule,
            ifindex: event.ifindex,
            time_ns: event.time_ns,
            suppressed: event.suppressed,
        })
    }
}

/// Drop records as they come. While [`Events::next`] is awaited, the programs' log lines are
/// handed to `tracing` under the target `weir::ebpf`.
pub struct Events {
    records: AsyncFd<RingBuf<MapData>>,
    lines: AsyncFd<EbpfLogger<Tracing>>,
}

impl Events {
    /// Needs a tokio runtime with its I/O driver.
    pub(crate) fn new(records: RingBuf<MapData>, lines: EbpfLogger<Tracing>) -> io::Result<Self> {
        Ok(Self { records: wait::readable(records)?, lines: wait::readable(lines)? })
    }

    /// The next drop record. Cancelling loses none.
    ///
    /// # Errors
    /// When the runtime's I/O driver is gone.
    pub async fn next(&mut self) -> io::Result<DropRecord> {
        loop {
            if let Some(record) = self.read() {
                return Ok(record);
            }
            tokio::select! {
                guard = self.records.readable_mut() => {
                    let mut guard = guard?;
                    // Clear first and read after, so that nothing written meanwhile is overlooked.
                    guard.clear_ready();
                }
                guard = self.lines.readable_mut() => {
                    let mut guard = guard?;
                    guard.clear_ready();
                    guard.get_inner_mut().flush();
                }
            }
        }
    }

    fn read(&mut self) -> Option<DropRecord> {
        let ring = self.records.get_mut();
        while let Some(item) = ring.next() {
            // A reason of a newer program is skipped: its counter still tells it.
            if let Some(record) = raw::read::<Event>(&item).and_then(|event| DropRecord::new(&event)) {
                return Some(record);
            }
        }
        None
    }
}

/// Hands lines of aya-log to `tracing`.
pub(crate) struct Tracing;

impl log::Log for Tracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        const TARGET: &str = "weir::ebpf";
        let program = record.target();
        let line = record.args();
        match record.level() {
            log::Level::Error => tracing::error!(target: TARGET, program, "{line}"),
            log::Level::Warn => tracing::warn!(target: TARGET, program, "{line}"),
            log::Level::Info => tracing::info!(target: TARGET, program, "{line}"),
            log::Level::Debug => tracing::debug!(target: TARGET, program, "{line}"),
            log::Level::Trace => tracing::trace!(target: TARGET, program, "{line}"),
        }
    }

    fn flush(&self) {}
}
