//! The config watcher: where documents come from. Yields sets of documents, nothing else.
//!
//! A source delivers whole sets, never parts: what it delivers was there at one moment. It does not look into the
//! documents; whether they are right is decided by whoever takes them. When a source cannot be read it says so and
//! delivers nothing, so that the last set stays in force.

mod folder;

pub use folder::{Change, Events, Folder, Limits, ReadError, Settings, State, Status, read};
