//! Contexts: the plugin's own, and one for each exchange.

use std::task::Waker;
use std::time::Duration;

use super::memory::Guest;
use crate::abi::{Answer, Status};
use crate::state::{Parting, ROOT};

/// The shortest time between two calls of `proxy_on_tick`.
const SHORTEST_TICK: Duration = Duration::from_millis(10);

/// `proxy_set_tick_period_milliseconds`.
pub(super) fn set_tick_period(guest: &mut Guest<'_>, milliseconds: u32) -> Answer {
    let period = Duration::from_millis(u64::from(milliseconds));
    guest.data_mut().tick_period = if milliseconds == 0 { period } else { period.max(SHORTEST_TICK) };
    Ok(())
}

/// `proxy_set_effective_context`.
pub(super) fn set_effective(guest: &mut Guest<'_>, context: u32) -> Answer {
    let state = guest.data_mut();
    if context != ROOT && !state.streams.contains_key(&context) {
        return Err(Status::BadArgument.into());
    }
    state.context = context;
    Ok(())
}

/// `proxy_done`: the plugin has nothing more to do, of which it has said before that it has.
pub(super) fn done(guest: &mut Guest<'_>) -> Answer {
    let parting = &mut guest.data_mut().parting;
    let Parting::Waits(waker) = parting else { return Err(Status::NotFound.into()) };
    waker.take().into_iter().for_each(Waker::wake);
    *parting = Parting::Done;
    Ok(())
}
