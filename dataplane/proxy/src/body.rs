//! Bodies, streamed: nothing is gathered, and each piece is passed on as it comes.

mod request;
mod response;

pub(crate) use request::{BodyError, Meter, RequestBody};
pub(crate) use response::{ResponseBody, Streaming};
