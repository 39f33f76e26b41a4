//! What decides: the model, route matching, splitting, balancing, revisions and their differences.
//!
//! Everything here is a function of values. There is no async, no I/O, no clock and no randomness in this crate:
//! times and random numbers come in as arguments, so that every decision can be tested with tables and explained
//! after the fact.

pub mod authorization;
pub mod balance;
pub mod cluster;
pub mod diff;
pub mod explain;
pub mod fairness;
pub mod filter;
pub mod gateway;
pub mod hbone;
pub mod methods;
pub mod mirror;
pub mod name;
pub mod plugin;
pub mod retry;
pub mod revision;
pub mod route;
pub mod session;
pub mod share;
pub mod snapshot;
pub mod sorted;
pub mod split;
pub mod stats;
pub mod workload;
