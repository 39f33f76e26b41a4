//! Runs proxy-wasm plugins: the only crate that knows wasmtime.
//!
//! A [`Module`] is compiled once, a [`Plugin`] is a module with a configuration, a [`Vm`] is an instance of it in one
//! worker, and an [`HttpContext`] is one exchange as that instance sees it. Everything is synchronous: a callback returns
//! before anything else happens, and a plugin that wants to wait says so and is asked again.
//!
//! Plugins are not trusted. What they may use is in [`weir_core::plugin::Limits`]; a callback that fails ends its instance and nothing else.
//! What to do then is not decided here.

mod abi;
mod cache;
mod comparison;
mod engine;
mod environment;
mod exports;
mod grpc;
mod host;
mod inspection;
mod loader;
mod metrics;
mod module;
mod plugin;
mod property;
mod routing;
mod shared;
mod state;
mod stats;
mod stream;
mod ticker;
mod vm;

pub use abi::{AbiVersion, Direction};
pub use comparison::{Compared, Comparison, Difference};
pub use engine::{Engine, EngineError};
pub use environment::{CallResponse, Environment, HttpCall, Nowhere};
pub use exports::Callback;
pub use grpc::{GrpcCall, GrpcEvent, Messages, PREFIX as GRPC_PREFIX};
pub use host::Denied;
pub use inspection::Inspection;
pub use loader::{LoadError, Loader, Part};
pub use metrics::{Metric, MetricKind};
pub use module::{Digest, Module, ModuleError, Origin};
pub use plugin::{Health, Options, Plugin};
pub use routing::Routing;
pub use shared::{Notices, Scopes};
pub use stats::{TIME_BOUNDS, Totals};
pub use stream::{Decided, Facts, LocalReply, Reached};
pub use vm::{Closer, HttpContext, StartError, Step, TcpContext, Vm};
