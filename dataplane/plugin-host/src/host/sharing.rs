//! Data and queues that instances share.

use super::memory::{Guest, check_words, give, put_word, slice, split};
use crate::abi::{Answer, Status};
use crate::state::Listening;

/// `proxy_set_shared_data`.
pub(super) fn set(guest: &mut Guest<'_>, at: u32, size: u32, value_at: u32, value_size: u32, change: u32) -> Answer {
    let (memory, state) = split(guest)?;
    let (key, value) = (slice(memory, at, size)?, slice(memory, value_at, value_size)?);
    Ok(state.plugin.shared.set(key, value, change, state.plugin.options.limits.shared_data)?)
}

/// `proxy_get_shared_data`.
pub(super) fn value(guest: &mut Guest<'_>, at: u32, size: u32, to: u32, to_size: u32, to_change: u32) -> Answer {
    check_words(guest, &[to_change])?;
    let (memory, state) = split(guest)?;
    let (value, change) = state.plugin.shared.value(slice(memory, at, size)?)?;
    give(guest, &value, to, to_size)?;
    put_word(guest, to_change, change)
}

/// `proxy_register_shared_queue`.
pub(super) fn register(guest: &mut Guest<'_>, at: u32, size: u32, to: u32) -> Answer {
    check_words(guest, &[to])?;
    let (memory, state) = split(guest)?;
    let name = slice(memory, at, size)?;
    let notices = &state.notices.get_or_insert_with(Listening::default).0;
    let queue = state.plugin.shared.register(name, state.plugin.options.limits.queues, notices)?;
    put_word(guest, to, queue)
}

/// `proxy_resolve_shared_queue`: of the plugin's own `vm_id` only.
pub(super) fn resolve(guest: &mut Guest<'_>, vm: u32, vm_size: u32, at: u32, size: u32, to: u32) -> Answer {
    let (memory, state) = split(guest)?;
    let vm_id = slice(memory, vm, vm_size)?;
    if !vm_id.is_empty() && *vm_id != *state.plugin.options.vm_id.as_bytes() {
        return Err(Status::NotFound.into());
    }
    let queue = state.plugin.shared.resolve(slice(memory, at, size)?)?;
    put_word(guest, to, queue)
}

/// `proxy_enqueue_shared_queue`.
pub(super) fn enqueue(guest: &mut Guest<'_>, queue: u32, at: u32, size: u32) -> Answer {
    let (memory, state) = split(guest)?;
    let item = slice(memory, at, size)?;
    Ok(state.plugin.shared.enqueue(queue, item, state.plugin.options.limits.queue)?)
}

/// `proxy_dequeue_shared_queue`.
pub(super) fn dequeue(guest: &mut Guest<'_>, queue: u32, to: u32, to_size: u32) -> Answer {
    check_words(guest, &[to, to_size])?;
    let item = guest.data().plugin.shared.dequeue(queue)?;
    give(guest, &item, to, to_size)
}
