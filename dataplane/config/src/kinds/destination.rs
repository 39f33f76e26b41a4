//! Pieces of destinations, the same in every kind that has some.

use super::service::port_number;
use crate::check::Checker;
use crate::limits;

/// A port, if one is written.
pub(super) fn port<'a>(number: Option<i64>, checker: &mut Checker<'a>) -> Option<u16> {
    let port = port_number(number?);
    if port.is_none() {
        checker.error_at("port", "must be a port number, 1 to 65535");
    }
    port
}

/// A part of the whole; 1 where none is written.
pub(super) fn weight<'a>(weight: Option<i64>, checker: &mut Checker<'a>) -> u32 {
    let weight = weight.unwrap_or(1);
    if !(0..=limits::WEIGHT).contains(&weight) {
        checker.error_at("weight", format!("must be between 0 and {}, is {weight}", limits::WEIGHT));
    }
    weight.clamp(0, limits::WEIGHT) as u32
}
