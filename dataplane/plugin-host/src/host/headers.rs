//! Headers and trailers.

use super::memory::{Guest, give, put_size, slice, split};
use crate::abi::fields::Fields;
use crate::abi::{Answer, Direction, MapKind, Status};
use crate::state::State;

/// Bytes of all headers that a plugin may make a head of.
const HEAD_BYTES: usize = 1 << 20;

/// Fields that there may be in a head after a plugin changed it.
const HEAD_FIELDS: usize = 1024;

fn fields(state: &mut State, kind: MapKind) -> Result<Fields<'_>, Status> {
    match kind {
        MapKind::RequestHeaders => state.stream()?.headers(Direction::Request),
        MapKind::RequestTrailers => state.stream()?.trailers(Direction::Request),
        MapKind::ResponseHeaders => state.stream()?.headers(Direction::Response),
        MapKind::ResponseTrailers => state.stream()?.trailers(Direction::Response),
        MapKind::CallResponseHeaders => {
            state.call_response.as_mut().map(|call| Fields::Response(&mut call.head)).ok_or(Status::BadArgument)
        }
        MapKind::CallResponseTrailers => {
            state.call_response.as_mut().map(|call| Fields::Plain(&mut call.trailers)).ok_or(Status::BadArgument)
        }
        MapKind::GrpcInitialMetadata => state.grpc.initial.as_mut().map(Fields::Plain).ok_or(Status::BadArgument),
        MapKind::GrpcTrailingMetadata => state.grpc.trailing.as_mut().map(Fields::Plain).ok_or(Status::BadArgument),
    }
}

/// Fields that a plugin may change at this moment.
fn changeable(state: &mut State, kind: MapKind) -> Result<Fields<'_>, Status> {
    match kind {
        MapKind::RequestHeaders => state.stream()?.headers_to_change(Direction::Request),
        MapKind::ResponseHeaders => state.stream()?.headers_to_change(Direction::Response),
        MapKind::CallResponseHeaders
        | MapKind::CallResponseTrailers
        | MapKind::GrpcInitialMetadata
        | MapKind::GrpcTrailingMetadata => Err(Status::BadArgument),
        MapKind::RequestTrailers | MapKind::ResponseTrailers => fields(state, kind),
    }
}

/// `proxy_get_header_map_size`.
pub(super) fn size(guest: &mut Guest<'_>, kind: u32, to: u32) -> Answer {
    let size = fields(guest.data_mut(), MapKind::parse(kind)?)?.encode().len();
    put_size(guest, to, size)
}

/// `proxy_get_header_map_pairs`.
pub(super) fn pairs(guest: &mut Guest<'_>, kind: u32, to: u32, to_size: u32) -> Answer {
    let list = fields(guest.data_mut(), MapKind::parse(kind)?)?.encode();
    give(guest, &list, to, to_size)
}

/// `proxy_set_header_map_pairs`.
pub(super) fn set_pairs(guest: &mut Guest<'_>, kind: u32, at: u32, size: u32) -> Answer {
    let kind = MapKind::parse(kind)?;
    let (memory, state) = split(guest)?;
    let list = slice(memory, at, size)?;
    Ok(changeable(state, kind)?.replace_all(list)?)
}

/// `proxy_get_header_map_value`.
pub(super) fn value(guest: &mut Guest<'_>, kind: u32, at: u32, size: u32, to: u32, to_size: u32) -> Answer {
    let kind = MapKind::parse(kind)?;
    let (memory, state) = split(guest)?;
    let name = slice(memory, at, size)?;
    let found = fields(state, kind)?.first(name)?;
    match found {
        Some(found) => give(guest, &found, to, to_size),
        // Before 0.2.0 there was no word for what there is not.
        None if guest.data().plugin.module.version() == crate::abi::AbiVersion::V0_1_0 => give(guest, &[], to, to_size),
        None => Err(Status::NotFound.into()),
    }
}

/// `proxy_add_header_map_value`.
pub(super) fn add(guest: &mut Guest<'_>, kind: u32, at: u32, size: u32, value_at: u32, value_size: u32) -> Answer {
    change(guest, kind, (at, size), (value_at, value_size), |fields, name, value| fields.add(name, value))
}

/// `proxy_replace_header_map_value`.
pub(super) fn replace(guest: &mut Guest<'_>, kind: u32, at: u32, size: u32, value_at: u32, value_size: u32) -> Answer {
    change(guest, kind, (at, size), (value_at, value_size), |fields, name, value| fields.replace(name, value))
}

fn change(
    guest: &mut Guest<'_>,
    kind: u32,
    (at, size): (u32, u32),
    (value_at, value_size): (u32, u32),
    change: impl FnOnce(&mut Fields<'_>, &[u8], &[u8]) -> Result<(), Status>,
) -> Answer {
    let kind = MapKind::parse(kind)?;
    let (memory, state) = split(guest)?;
    let (name, value) = (slice(memory, at, size)?, slice(memory, value_at, value_size)?);
    let mut fields = changeable(state, kind)?;
    if fields.bytes() + name.len() + value.len() > HEAD_BYTES || fields.len() >= HEAD_FIELDS {
        return Err(Status::BadArgument.into());
    }
    Ok(change(&mut fields, name, value)?)
}

/// `proxy_remove_header_map_value`.
pub(super) fn remove(guest: &mut Guest<'_>, kind: u32, at: u32, size: u32) -> Answer {
    let kind = MapKind::parse(kind)?;
    let (memory, state) = split(guest)?;
    let name = slice(memory, at, size)?;
    Ok(changeable(state, kind)?.remove(name)?)
}
