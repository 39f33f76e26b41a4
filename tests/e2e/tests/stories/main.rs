//! The stories. One file for each part of what a node promises.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a step of a test that fails ends the test")]

mod access_log;
mod endpoints;
mod failure;
mod fairness;
mod gateways;
mod grpc;
mod http_routes;
mod interception;
mod lab;
mod memory;
mod mirror;
mod plugins;
mod policy;
mod refusals;
mod reload;
mod retries;
mod routing;
mod sessions;
mod splits;
mod take_over;
mod tunnels;
mod versions;
mod visible;
