//! What reaches beyond the exchange: calls to other services, and functions that are Weir's own.

use super::memory::Guest;
use crate::abi::{Answer, Status};

/// `proxy_call_foreign_function`.
pub(super) fn call(guest: &mut Guest<'_>, at: u32, size: u32, _: u32, _: u32, _: u32, _: u32) -> Answer {
    let (memory, _) = super::memory::split(guest)?;
    super::memory::slice(memory, at, size)?;
    Err(Status::NotFound.into())
}

/// `proxy_get_status`: of the last call.
pub(super) fn call_status(_: &mut Guest<'_>, _: u32, _: u32, _: u32) -> Answer {
    Err(Status::BadArgument.into())
}

/// `proxy_http_call`.
#[expect(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn http_call(
    _: &mut Guest<'_>,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
) -> Answer {
    Err(Status::Unimplemented.into())
}

/// `proxy_grpc_call`.
#[expect(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn grpc_call(
    _: &mut Guest<'_>,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
) -> Answer {
    Err(Status::Unimplemented.into())
}

/// `proxy_grpc_stream`.
#[expect(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn grpc_stream(
    _: &mut Guest<'_>,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
) -> Answer {
    Err(Status::Unimplemented.into())
}

/// `proxy_grpc_send`.
pub(super) fn grpc_send(_: &mut Guest<'_>, _: u32, _: u32, _: u32, _: u32) -> Answer {
    Err(Status::NotFound.into())
}

/// `proxy_grpc_cancel` and `proxy_grpc_close`.
pub(super) fn grpc_end(_: &mut Guest<'_>, _: u32) -> Answer {
    Err(Status::NotFound.into())
}
