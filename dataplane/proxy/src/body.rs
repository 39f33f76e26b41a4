//! Bodies, streamed: each piece is passed on as it comes, and none waits for another.

mod incoming;
mod memory;
mod pump;
mod replay;
mod request;
mod response;

pub(crate) use incoming::Incoming;
pub(crate) use memory::{Block, Budget, Charge, Held};
pub(crate) use pump::{Pump, Unsent};
pub(crate) use replay::Replay;
pub(crate) use request::{BodyError, Meter, RequestBody, Streamed};
pub(crate) use response::{ResponseBody, Streaming};
