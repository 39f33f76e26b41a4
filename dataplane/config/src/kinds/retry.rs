//! What the kinds of rules have in common about retries.

use weir_core::retry::Backoff;

use super::duration::{DurationText, duration};
use crate::check::Checker;
use crate::limits;

/// Tries after the first, where nothing is written.
pub(super) const ATTEMPTS: u32 = 2;

/// Tries after the first.
pub(super) fn attempts(written: Option<i64>, checker: &mut Checker<'_>) -> Option<u32> {
    let Some(written) = written else { return Some(ATTEMPTS) };
    let attempts = u32::try_from(written).ok().filter(|attempts| (1..=limits::RETRIES).contains(attempts));
    if attempts.is_none() {
        checker.error_at("attempts", format!("must be from 1 to {}, is {written}", limits::RETRIES));
    }
    attempts
}

/// How long a retry waits at least.
pub(super) fn backoff<'a>(written: Option<&'a DurationText>, checker: &mut Checker<'a>) -> Option<Backoff> {
    duration("backoff", written, checker).map(Backoff::from_base)
}

/// Whether a status can be that of a failure.
pub(super) fn is_status(status: u16) -> bool {
    (400..600).contains(&status)
}
