//! The stage of the end-to-end stories: a laboratory node with pods, a folder of documents, and the real `weir node`
//! process in the node's namespace. The stories are in `tests/stories`.
//!
//! A story waits for what must come about, with a deadline, and never for time to pass. It never skips: what is missing
//! on the machine makes it fail with the command that provides it. What it makes is gone when it ends, also when it
//! fails; it then prints the node's log and how to look inside.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a step of a test that fails ends the test")]
#![expect(clippy::missing_panics_doc, reason = "every step of a story panics when it fails")]

mod admin;
mod binaries;
mod capture;
mod curl;
mod far;
mod grpc;
mod kernel;
mod load;
mod node;
mod settings;
mod story;
mod terrain;
mod wait;
mod wire;

pub use admin::Admin;
pub use binaries::{plugin as built_plugin, server_program, weir};
pub use capture::{Capture, capture};
pub use curl::Answer;
pub use far::{Authorities, Far, TRUST_DOMAIN, node_names};
pub use grpc::{GrpcClient, GrpcServer};
pub use kernel::{Footprint, network_state};
pub use load::{Load, LoadReport};
pub use story::{Story, brief};
pub use terrain::{CANARY, PLAIN, RECOGNITION, SHADOW, Terrain, plugin, rule, service};
pub use wait::{PATIENCE, until, until_within};
pub use wire::{Wire, Wired, wire};
