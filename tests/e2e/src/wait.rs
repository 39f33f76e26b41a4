//! Waiting for a condition, never for time.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// How long a story waits for something to come about, on a slow and busy machine.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Polls until `found` gives a value.
///
/// # Panics
/// With what it last said, when that takes longer than [`PATIENCE`].
#[track_caller]
pub fn until<T, E: Display>(what: &str, found: impl FnMut() -> Result<T, E>) -> T {
    until_within(PATIENCE, what, found)
}

/// As [`until`], with another limit.
#[track_caller]
pub fn until_within<T, E: Display>(limit: Duration, what: &str, mut found: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(500);
    loop {
        match found() {
            Ok(value) => return value,
            Err(why) if Instant::now() >= deadline => panic!("{what}: not within {limit:?}; it is: {why}"),
            Err(_) => thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
