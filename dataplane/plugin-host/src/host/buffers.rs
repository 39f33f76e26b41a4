//! Bodies and configurations.

use bytes::Bytes;

use super::memory::{Guest, check_words, give, put_size, put_word, slice, split};
use crate::abi::{Answer, BufferKind, Status, StreamKind};
use crate::state::State;
use crate::stream::Buffer;

/// What there is of a body, or of the data of a connection that is none of HTTP.
fn body(state: &mut State, kind: StreamKind) -> Result<&mut Option<Buffer>, Status> {
    let stream = state.stream().map_err(|_| Status::NotFound)?;
    if stream.facts.version.is_some() != kind.is_http {
        return Err(Status::NotFound);
    }
    Ok(&mut stream.way(kind.direction).body)
}

/// The bytes that are meant, shared with where they are.
fn buffer(state: &mut State, kind: BufferKind) -> Result<Bytes, Status> {
    let found = match kind {
        BufferKind::Stream(kind) => body(state, kind)?.as_ref().map(Buffer::bytes).cloned(),
        BufferKind::VmConfiguration => Some(state.plugin.options.vm_configuration.clone()),
        BufferKind::PluginConfiguration => Some(state.plugin.options.configuration.clone()),
        BufferKind::CallResponseBody => state.call_response.as_ref().map(|call| call.body.clone()),
        BufferKind::GrpcMessage => state.grpc.message.clone(),
        BufferKind::ForeignArguments => state.foreign_arguments.clone(),
    };
    found.ok_or(Status::NotFound)
}

/// `proxy_get_buffer_bytes`.
pub(super) fn read(guest: &mut Guest<'_>, kind: u32, start: u32, size: u32, to: u32, to_size: u32) -> Answer {
    let bytes = buffer(guest.data_mut(), BufferKind::parse(kind)?)?;
    // Its end is the buffer's; one that no buffer can have is a mistake.
    let end = start.checked_add(size).ok_or(Status::BadArgument)? as usize;
    let end = end.min(bytes.len());
    let part = &bytes[(start as usize).min(end)..end];
    give(guest, part, to, to_size)
}

/// `proxy_get_buffer_status`.
pub(super) fn status(guest: &mut Guest<'_>, kind: u32, to_size: u32, to_flags: u32) -> Answer {
    let size = buffer(guest.data_mut(), BufferKind::parse(kind)?)?.len();
    check_words(guest, &[to_size, to_flags])?;
    put_size(guest, to_size, size)?;
    put_word(guest, to_flags, 0)
}

/// `proxy_set_buffer_bytes`.
pub(super) fn write(guest: &mut Guest<'_>, kind: u32, start: u32, size: u32, at: u32, length: u32) -> Answer {
    let BufferKind::Stream(kind) = BufferKind::parse(kind)? else { return Err(Status::BadArgument.into()) };
    let (memory, state) = split(guest)?;
    let new = slice(memory, at, length)?;
    let limit = state.plugin.options.limits.body;
    let body = body(state, kind)?.as_mut().ok_or(Status::NotFound)?;
    if body.len() + new.len() > limit.saturating_mul(2) {
        return Err(Status::InternalFailure.into());
    }
    body.splice(start as usize, size as usize, new);
    Ok(())
}

/// `proxy_get_configuration`, of version 0.1.0.
pub(super) fn configuration(guest: &mut Guest<'_>, to: u32, to_size: u32) -> Answer {
    let bytes = guest.data().plugin.options.configuration.clone();
    give(guest, &bytes, to, to_size)
}
