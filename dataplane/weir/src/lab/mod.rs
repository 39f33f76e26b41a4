//! `weir lab`: a laboratory node on this machine, for people. The namespaces are `weir-lab`'s; here are the services in
//! them, the real node process, and the story that is told.

mod running;
mod story;
mod terrain;

pub(crate) use running::Running;
pub(crate) use story::{invitation, tell};
