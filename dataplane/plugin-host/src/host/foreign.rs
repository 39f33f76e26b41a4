//! Functions that are Weir's own, and those of other hosts that plugins expect.

use bytes::Bytes;

use super::memory::{Guest, give, slice, split};
use super::properties;
use crate::abi::{Answer, Status};
use crate::routing::{ROUTE, Routing};
use crate::state::State;

/// The number under which a plugin is told of revisions.
const REVISIONS: u32 = 1;

/// `proxy_call_foreign_function`.
pub(super) fn call(
    guest: &mut Guest<'_>,
    at: u32,
    size: u32,
    given_at: u32,
    given_size: u32,
    to: u32,
    to_size: u32,
) -> Answer {
    let (memory, state) = split(guest)?;
    let (name, given) = (slice(memory, at, size)?, slice(memory, given_at, given_size)?);
    let result = match name {
        b"weir.route" => route(state, given)?,
        b"weir.watch_revisions" => {
            state.revisions = Some(REVISIONS);
            Bytes::copy_from_slice(&REVISIONS.to_le_bytes())
        }
        // Of Envoy: nothing is chosen before plugins have seen a request, and properties need no declaration.
        b"clear_route_cache" | b"declare_property" => Bytes::new(),
        _ => return Err(Status::NotFound.into()),
    };
    // Plugins that want no result say so with pointers to nothing.
    if to == 0 && to_size == 0 { Ok(()) } else { give(guest, &result, to, to_size) }
}

/// Decides about where the request goes, as the properties `weir.route.*` do, and looks at once whether it can: lines of
/// `name=value`.
fn route(state: &mut State, given: &[u8]) -> Result<Bytes, Status> {
    let lines = str::from_utf8(given).map_err(|_| Status::BadArgument)?.lines();
    let lines: Vec<(&str, &str)> =
        lines.map(|line| line.split_once('=').ok_or(Status::BadArgument)).collect::<Result<_, _>>()?;
    let mut routing = Routing::default();
    for (name, value) in &lines {
        routing.decide(name.as_bytes(), value).map_err(|_| Status::BadArgument)?;
    }
    if routing.services().any(|service| !state.environment.is_known(service)) {
        return Err(Status::NotFound);
    }
    for (name, value) in lines {
        properties::put(state, &[ROUTE, name.as_bytes()].concat(), value.as_bytes())?;
    }
    Ok(Bytes::new())
}
