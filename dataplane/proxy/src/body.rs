//! Bodies, streamed: nothing is gathered, and each piece is passed on as it comes.

mod incoming;
mod pump;
mod request;
mod response;

pub(crate) use incoming::Incoming;
pub(crate) use pump::{Pump, Unsent};
pub(crate) use request::{BodyError, Meter, RequestBody};
pub(crate) use response::{ResponseBody, Streaming};
