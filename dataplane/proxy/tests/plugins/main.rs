//! Plugins on the wire.

mod answers;
mod calls;
mod connections;
mod exchanges;
mod failures;
mod guests;
mod languages;
mod places;
mod properties;
mod routing;
mod shadows;
#[path = "../support/mod.rs"]
mod support;
