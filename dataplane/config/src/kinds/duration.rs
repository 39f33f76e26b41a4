//! Durations as the Gateway API writes them (GEP-2257).

use std::time::Duration;

use weir_core::route::Timeouts;

use crate::check::Checker;
use crate::shape::{Shape, Text};

/// Marks a text as a duration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OfDuration;

pub(super) type DurationText = Text<OfDuration>;

impl Shape for OfDuration {
    const ONE: &'static str = "a duration with its unit, like 5s or 1m30s";
    const SEVERAL: &'static str = Self::ONE;
}

/// A duration as valid.
pub(super) fn duration<'a>(
    key: &'a str,
    text: Option<&'a DurationText>,
    checker: &mut Checker<'a>,
) -> Option<Duration> {
    let text = &text?.0;
    let duration = parse(text);
    if duration.is_none() {
        let form = "numbers of at most five digits, each with its unit h, m, s or ms, like 1m30s";
        checker.error_at(key, format!("\"{text}\" is not a duration: {form}"));
    }
    duration
}

/// A bound on time; `0s` is none, as is no text.
fn timeout<'a>(key: &'a str, text: Option<&'a DurationText>, checker: &mut Checker<'a>) -> Option<Duration> {
    duration(key, text, checker).filter(|duration| !duration.is_zero())
}

/// The bounds of a whole request and, under `key`, of each try.
pub(super) fn timeouts<'a>(
    request: Option<&'a DurationText>,
    (key, per_try): (&'a str, Option<&'a DurationText>),
    checker: &mut Checker<'a>,
) -> Timeouts {
    let request = timeout("request", request, checker);
    let per_try = timeout(key, per_try, checker);
    if let (Some(request), Some(per_try)) = (request, per_try)
        && per_try > request
    {
        checker.error_at(key, "must not be longer than request, which bounds all tries together");
    }
    Timeouts { request, per_try }
}

/// One to four numbers of at most five digits, each with its unit `h`, `m`, `s` or `ms`: `1h30m`, `500ms`. The form
/// is that of GEP-2257, so that a duration means the same in every kind.
fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        parts += 1;
        if !(1..=5).contains(&digits) || parts > 4 {
            return None;
        }
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        // `ms` before `m`, which it begins with.
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let (unit, millis) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total += Duration::from_millis(number * millis);
    }
    (parts > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_gep_2257() {
        let cases = [
            ("5s", Some(5_000)),
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1h1m1s1ms", Some(3_661_001)),
            ("99999h", Some(359_996_400_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("100000s", None),
            ("1s1s1s1s1s", None),
            ("5 s", None),
            ("5S", None),
            ("1us", None),
            ("٣s", None),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text}");
        }
    }
}
