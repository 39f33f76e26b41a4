//! What can go wrong, named for the fact.

use std::{io, path::PathBuf};

use crate::plan::PlanError;

/// Why the kernel side could not be set up or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A setting that cannot work.
    #[error("setting {name}: {problem}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The desired state contradicts itself or does not fit.
    #[error("the desired state is not valid: {}", list(.0))]
    Invalid(Vec<PlanError>),
    /// A file, mount or command.
    #[error("{what} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The BPF object was refused.
    #[error("the eBPF object did not load; check that this is Linux 6.6 or later and that the process is root: {0}")]
    Object(#[from] aya::EbpfError),
    /// The verifier or the kernel refused a program.
    #[error("program {name} did not load: {source}")]
    Program {
        /// Its name.
        name: &'static str,
        /// The verifier's answer.
        source: aya::programs::ProgramError,
    },
    /// The object lacks a program or map, or has it with another type.
    #[error("the eBPF object has no fitting {0}: programs and loader are of different builds")]
    Missing(&'static str),
    /// A map operation.
    #[error("map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// The kernel's answer.
        source: aya::maps::MapError,
    },
    /// A link operation.
    #[error("attaching {name}: {call}: {source}")]
    Link {
        /// Name of the pinned link.
        name: String,
        /// The operation.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A question or order to the kernel's network configuration.
    #[error("{what}: {source}")]
    Netlink {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A link that must exist does not.
    #[error("no link {0} in this network namespace")]
    NoLink(String),
    /// A rule for connection tracking could not be set.
    #[error("nft refused the notrack table: {0}")]
    Nft(String),
}

impl KernelError {
    /// Whether file descriptors or memory had run out: it says nothing about what was to be done, and may be over soon.
    pub(crate) fn is_exhaustion(&self) -> bool {
        const EXHAUSTED: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        let (Self::File { source, .. } | Self::Netlink { source, .. }) = self else { return false };
        source.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code))
    }
}

fn list(errors: &[PlanError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> KernelError {
    let path = path.into();
    move |source| KernelError::File { what, path, source }
}
