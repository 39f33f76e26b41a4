//! Descriptors of the kernel's streams in tokio's reactor.
#![expect(unsafe_code, reason = "tokio wants a promise that the descriptor stays the same")]

use std::{io, os::fd::AsRawFd};

use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use crate::events::Tracing;

/// Owns one descriptor for its whole life.
///
/// # Safety
/// `as_raw_fd` gives the same, open descriptor until the value is dropped.
pub(crate) unsafe trait Owner: AsRawFd {}

// SAFETY: owns its map, whose descriptor is never exchanged.
unsafe impl Owner for RingBuf<MapData> {}
// SAFETY: owns a ring buffer, as above.
unsafe impl Owner for EbpfLogger<Tracing> {}
// SAFETY: owns its socket, whose descriptor is never exchanged.
unsafe impl Owner for netlink_sys::Socket {}

/// Registers for reading. Must be called inside a tokio runtime.
pub(crate) fn readable<T: Owner>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `Owner` promises what is asked for, and callers only get at the value through the
    // registration.
    Ok(unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }?)
}
