//! The user side of the eBPF programs: load, pin, attach, plan, apply, events. The only crate
//! with aya.
//!
//! A caller describes what it wants ([`Desired`]); [`Kernel::apply`] compares that with what the
//! kernel's maps hold and changes the difference. The programs and maps outlive the process: they
//! are pinned in a directory of the node's name and the ABI version, and the next
//! [`Kernel::load`] takes them over without a gap.
//!
//! Everything works relative to the network namespace of the calling thread. This crate must not
//! know what a route, a rule or a snapshot is, and must not decide about flows: that is
//! `weir-ebpf-common`, which the programs share.

mod alias;
mod apply;
mod bpffs;
mod desired;
mod error;
mod events;
mod host;
mod kernel;
mod links;
mod maps;
mod netlink;
mod notrack;
mod object;
mod plan;
pub mod pods;
mod raw;
mod settings;
mod sys;
mod wait;

pub use apply::Applied;
pub use desired::{Answer, Desired, Ends, IfIndex, PodEntry, Policy, Prefix, Protocol, ServiceAction, ServiceAddr};
pub use error::KernelError;
pub use events::{DropRecord, Events};
pub use kernel::Kernel;
pub use plan::PlanError;
pub use settings::{FailMode, KernelSettings, LogLevel, Notrack, Slot};
pub use weir_ebpf_common::{ABI_VERSION, Count, MARK_MASK, MARK_PROXY, MARK_STEER, Reason, Verdict};
