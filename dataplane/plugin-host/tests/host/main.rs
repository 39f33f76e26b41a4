//! The host, run with plugins: those of `plugins/`, and small ones in the text form of WebAssembly.

mod beginnings;
mod cache;
mod functions;
mod misbehaviour;
mod pointers;
mod reference;
mod support;
