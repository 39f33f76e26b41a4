//! The embedded programs, loaded.

use std::path::Path;

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{CgroupSockAddr, ProgramError, ProgramFd, SchedClassifier, SkLookup},
};
use weir_ebpf_common::programs;

use crate::{KernelError, LogLevel};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-ebpf.o"));

/// Descriptors of the loaded programs; they stay loaded as long as this lives or a link runs them.
pub(crate) struct Programs {
    pub(crate) from_pod: ProgramFd,
    pub(crate) to_pod: ProgramFd,
    pub(crate) from_net: ProgramFd,
    pub(crate) pick: ProgramFd,
    pub(crate) connect4: ProgramFd,
    pub(crate) connect6: ProgramFd,
}

/// Loads maps and programs; maps that are pinned in `maps` already are taken over with their
/// contents.
pub(crate) fn load(maps: &Path, level: LogLevel) -> Result<(Ebpf, Programs), KernelError> {
    let number = level.number();
    let mut object = EbpfLoader::new()
        .default_map_pin_directory(maps)
        .override_global(aya_log::LEVEL, &number, true)
        .verifier_log_level(verifier_log())
        .load(OBJECT)?;
    let programs = Programs {
        from_pod: classifier(&mut object, programs::FROM_POD)?,
        to_pod: classifier(&mut object, programs::TO_POD)?,
        from_net: classifier(&mut object, programs::FROM_NET)?,
        pick: sk_lookup(&mut object, programs::PICK)?,
        connect4: sock_addr(&mut object, programs::CONNECT4)?,
        connect6: sock_addr(&mut object, programs::CONNECT6)?,
    };
    Ok((object, programs))
}

/// The verifier's reasoning is written only on request: it is long, and writing it takes seconds.
fn verifier_log() -> VerifierLogLevel {
    match std::env::var_os("WEIR_VERIFIER_LOG") {
        Some(_) => VerifierLogLevel::DEBUG | VerifierLogLevel::STATS,
        None => VerifierLogLevel::STATS,
    }
}

macro_rules! loader {
    ($function:ident, $type:ty) => {
        fn $function(object: &mut Ebpf, name: &'static str) -> Result<ProgramFd, KernelError> {
            let failed = |source: ProgramError| KernelError::Program { name, source };
            let program = object.program_mut(name).ok_or(KernelError::Missing(name))?;
            let program: &mut $type = program.try_into().map_err(failed)?;
            program.load().map_err(failed)?;
            program.fd().map_err(failed)?.try_clone().map_err(|error| failed(error.into()))
        }
    };
}

loader!(classifier, SchedClassifier);
loader!(sk_lookup, SkLookup);
loader!(sock_addr, CgroupSockAddr);
