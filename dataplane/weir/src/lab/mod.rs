//! `weir lab`: a laboratory node on this machine, for people. The namespaces are `weir-lab`'s; here are the services in
//! them, the real node process, and the story that is told.

mod running;
mod sample;
mod story;
mod survey;
mod terrain;

pub(crate) use running::Running;
pub(crate) use story::{Story, invitation, tell};
pub(crate) use survey::survey;
