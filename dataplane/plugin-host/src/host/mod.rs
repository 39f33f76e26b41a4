//! The host functions: what plugins can ask for, one module per subject. Each answers with a status; what a plugin hands
//! over wrongly is its own error and nobody else's.

mod buffers;
mod calls;
mod contexts;
mod foreign;
mod grpc;
mod headers;
mod logging;
mod memory;
mod metrics;
mod properties;
mod replies;
mod sharing;
mod wasi;

use wasmtime::{Caller, Linker};

use crate::abi::{Answer, Refused, Status};
use crate::state::{Stage, State};
pub(crate) use wasi::Exit;

/// Where plugins look for the host's functions.
const MODULE: &str = "env";

/// What may be called while the host asks for memory.
const WHILE_ALLOCATING: [&str; 3] = ["proxy_log", "proxy_get_current_time_nanoseconds", "proxy_get_log_level"];

/// The host functions that a plugin may not call: a bit for each, by its place in [`FUNCTIONS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied(u64);

/// What may not be called where only these may; nothing, where all may. `Err` is a name of nothing.
pub(crate) fn denied<'n>(allowed: Option<&'n [Box<str>]>) -> Result<Denied, &'n str> {
    let Some(allowed) = allowed else { return Ok(Denied::default()) };
    let place = |name: &'n str| FUNCTIONS.iter().position(|known| *known == name).ok_or(name);
    let mut bits = allowed.iter().map(|name| place(name).map(|place| 1_u64 << place));
    bits.try_fold(0, |all, bit| bit.map(|bit| all | bit)).map(|bits| Denied(!bits))
}

/// The place of a function in the list.
const fn place(name: &str) -> usize {
    let mut place = 0;
    while !is_same(FUNCTIONS[place], name) {
        place += 1;
    }
    place
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// Runs a host function and makes a status of what it comes to.
fn answer(
    guest: &mut Caller<'_, State>,
    (name, place): (&str, usize),
    run: impl FnOnce(&mut Caller<'_, State>) -> Answer,
) -> wasmtime::Result<u32> {
    let state = guest.data();
    let is_denied = state.denied.0 & (1 << place) != 0;
    let is_refused = is_denied || state.stage == Stage::Allocating && !WHILE_ALLOCATING.contains(&name);
    let answer = if is_refused { Err(Status::InternalFailure.into()) } else { run(guest) };
    match answer {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Refused::With(status)) => Ok(status as u32),
        Err(Refused::Trap(error)) => Err(error),
    }
}

/// Makes [`FUNCTIONS`] and [`link`] of a list of host functions.
macro_rules! host_functions {
    ($($name:literal => $function:path, ($($argument:ident: $type:ty),*);)*) => {
        /// The names of all host functions of proxy-wasm.
        const FUNCTIONS: &[&str] = &[$($name),*];
        // One bit each.
        const _: () = assert!(FUNCTIONS.len() <= 64);

        fn link_functions(linker: &mut Linker<State>) -> wasmtime::Result<()> {
            $(linker.func_wrap(MODULE, $name, |mut guest: Caller<'_, State>, $($argument: $type),*| {
                answer(&mut guest, ($name, const { place($name) }), |guest| $function(guest, $($argument),*))
            })?;)*
            Ok(())
        }
    };
}

host_functions! {
    "proxy_log" => logging::log, (level: u32, at: u32, size: u32);
    "proxy_get_log_level" => logging::level, (to: u32);
    "proxy_get_current_time_nanoseconds" => logging::now, (to: u32);
    "proxy_set_tick_period_milliseconds" => contexts::set_tick_period, (milliseconds: u32);
    "proxy_set_effective_context" => contexts::set_effective, (context: u32);
    "proxy_done" => contexts::done, ();
    "proxy_get_buffer_bytes" => buffers::read, (kind: u32, start: u32, size: u32, to: u32, to_size: u32);
    "proxy_get_buffer_status" => buffers::status, (kind: u32, to_size: u32, to_flags: u32);
    "proxy_set_buffer_bytes" => buffers::write, (kind: u32, start: u32, size: u32, at: u32, length: u32);
    "proxy_get_header_map_size" => headers::size, (kind: u32, to: u32);
    "proxy_get_header_map_pairs" => headers::pairs, (kind: u32, to: u32, to_size: u32);
    "proxy_set_header_map_pairs" => headers::set_pairs, (kind: u32, at: u32, size: u32);
    "proxy_get_header_map_value" => headers::value, (kind: u32, at: u32, size: u32, to: u32, to_size: u32);
    "proxy_add_header_map_value" => headers::add, (kind: u32, at: u32, size: u32, value_at: u32, value_size: u32);
    "proxy_replace_header_map_value" => headers::replace, (kind: u32, at: u32, size: u32, value_at: u32, value_size: u32);
    "proxy_remove_header_map_value" => headers::remove, (kind: u32, at: u32, size: u32);
    "proxy_continue_stream" => replies::continue_stream, (kind: u32);
    "proxy_close_stream" => replies::close_stream, (kind: u32);
    "proxy_continue_request" => replies::continue_request, ();
    "proxy_continue_response" => replies::continue_response, ();
    "proxy_clear_route_cache" => replies::clear_route_cache, ();
    "proxy_get_configuration" => buffers::configuration, (to: u32, to_size: u32);
    "proxy_send_local_response" => replies::send, (
        status: u32, details: u32, details_size: u32, body: u32, body_size: u32, headers: u32, headers_size: u32, grpc: u32
    );
    "proxy_set_shared_data" => sharing::set, (at: u32, size: u32, value_at: u32, value_size: u32, change: u32);
    "proxy_get_shared_data" => sharing::value, (at: u32, size: u32, to: u32, to_size: u32, to_change: u32);
    "proxy_register_shared_queue" => sharing::register, (at: u32, size: u32, to: u32);
    "proxy_resolve_shared_queue" => sharing::resolve, (vm: u32, vm_size: u32, at: u32, size: u32, to: u32);
    "proxy_enqueue_shared_queue" => sharing::enqueue, (queue: u32, at: u32, size: u32);
    "proxy_dequeue_shared_queue" => sharing::dequeue, (queue: u32, to: u32, to_size: u32);
    "proxy_define_metric" => metrics::define, (kind: u32, at: u32, size: u32, to: u32);
    "proxy_increment_metric" => metrics::increment, (metric: u32, by: i64);
    "proxy_record_metric" => metrics::record, (metric: u32, value: i64);
    "proxy_get_metric" => metrics::value, (metric: u32, to: u32);
    "proxy_get_property" => properties::property, (at: u32, size: u32, to: u32, to_size: u32);
    "proxy_set_property" => properties::set, (at: u32, size: u32, value_at: u32, value_size: u32);
    "proxy_call_foreign_function" => foreign::call, (at: u32, size: u32, given: u32, given_size: u32, to: u32, to_size: u32);
    "proxy_get_status" => grpc::status, (to_code: u32, to: u32, to_size: u32);
    "proxy_http_call" => calls::http_call, (
        upstream: u32, upstream_size: u32, headers: u32, headers_size: u32, body: u32, body_size: u32, trailers: u32,
        trailers_size: u32, timeout: u32, to: u32
    );
    "proxy_grpc_call" => grpc::call, (
        upstream: u32, upstream_size: u32, service: u32, service_size: u32, method: u32, method_size: u32, metadata: u32,
        metadata_size: u32, message: u32, message_size: u32, timeout: u32, to: u32
    );
    "proxy_grpc_stream" => grpc::stream, (
        upstream: u32, upstream_size: u32, service: u32, service_size: u32, method: u32, method_size: u32, metadata: u32,
        metadata_size: u32, to: u32
    );
    "proxy_grpc_send" => grpc::send, (call: u32, at: u32, size: u32, is_end: u32);
    "proxy_grpc_cancel" => grpc::cancel, (call: u32);
    "proxy_grpc_close" => grpc::close, (call: u32);
}

/// Offers everything.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    link_functions(linker)?;
    wasi::link(linker)
}

/// The modules and names of everything that is offered.
pub(crate) fn offered() -> impl Iterator<Item = (&'static str, &'static str)> {
    FUNCTIONS.iter().map(|name| (MODULE, *name)).chain(wasi::offered())
}
