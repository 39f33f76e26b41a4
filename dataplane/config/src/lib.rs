//! What people write: one module per kind, errors with file, line and field, compiled to the model of weir-core.

mod compile;
mod diagnostic;
mod document;
mod parse;

pub use compile::{Compiled, compile};
pub use diagnostic::{Diagnostic, Severity};
pub use document::{Document, DocumentSet, Origin};
pub use parse::{ParseCache, Parsed, SourceFile, from_canonical, parse};
