//! Plugins on the way of a request: each worker has an instance of every plugin that its requests meet, and each request
//! with plugins has a chain of their contexts, from its head to the end of its response.
//!
//! On the way there the plugins see a request in their order, before a rule is chosen; on the way back they see the
//! response in the opposite order, after everything else has changed it.

mod body;
mod breaker;
mod chain;
mod connection;
mod facts;
mod instances;
mod link;
mod outside;
pub(crate) mod route;
mod shadow;

pub(crate) use self::body::{Interrupted, Passage};
pub(crate) use self::chain::{Chain, Stopped};
pub(crate) use self::connection::{Closed, Connection};
pub(crate) use self::instances::Instances;
pub(crate) use self::outside::parse_service;

/// How long a plugin may let the head of a request, or a new connection, wait.
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);
