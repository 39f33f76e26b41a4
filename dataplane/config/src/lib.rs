//! What people write: one module per kind, errors with file, line and field, compiled to the model of weir-core.

mod canonical;
mod check;
mod compile;
mod decode;
mod diagnostic;
mod document;
mod index;
mod kinds;
pub mod limits;
mod parse;
mod place;
mod shape;
mod text;
mod wording;

pub use compile::{Compiled, compile};
pub use diagnostic::{Diagnostic, Severity};
pub use document::{Document, DocumentSet, Origin};
pub use parse::{ParseCache, Parsed, SourceFile, from_canonical, parse};
