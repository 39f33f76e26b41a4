//! A laboratory node: a Linux node with pods, made of network namespaces, cgroups and
//! veth pairs laid out as K3s's default CNI does it. `weir lab` shows it to people, the
//! end-to-end tests and the benchmarks run their stories in it.
//!
//! The crate builds the place and plays the applications in it (servers, clients). It must
//! not know Weir: nothing here loads eBPF, reads rules or starts the proxy. Everything it
//! makes is named `weir-<id>...`, belongs to a record under `/run/weir-lab`, and is gone
//! when the [`Lab`] is dropped, also when a test panics, or ended by a signal after
//! [`remove_on_signals`]; what a killed process left behind is found and removed by [`sweep`].
//!
//! It needs root, `ip` (iproute2), a mounted cgroup v2 hierarchy and, for the imitation of
//! kube-proxy, `nft` with the `br_netfilter` module. What is missing is an error that says
//! so; nothing is skipped.

mod assemble;
mod cgroup;
pub mod client;
pub mod content;
mod error;
mod inside;
mod kube_proxy;
mod lab;
mod launch;
mod layout;
mod manifests;
mod plan;
mod registry;
mod serve;
pub mod server;
mod signal;
mod spec;
mod sysctl;
mod teardown;
mod tool;

pub use error::LabError;
pub use lab::Lab;
pub use layout::{Layout, Namespace, Place, Pod};
pub use manifests::{ServicePort, ServiceSpec, manifests};
pub use registry::{RunningLab, is_known, pick_free_id, sweep};
pub use serve::{Server, ServerProgram, ServerSpec};
pub use signal::remove_on_signals;
pub use spec::{DnatRule, Link, PodSpec, Protocol, Spec, Tuning};
pub use tool::{require, run};
