//! The pinned links: attached programs that outlive this process. A directory of the BPF file
//! system is the whole state; nothing is remembered beside it.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use crate::{
    error::{KernelError, file},
    sys::{self, AttachType, LinkInfo},
};

/// What a program is attached to.
pub(crate) enum Target {
    /// A link of this namespace.
    Interface(u32, AttachType),
    /// A network namespace.
    Namespace(File),
    /// A cgroup.
    Cgroup(File, AttachType),
}

impl Target {
    fn attach(&self, program: BorrowedFd<'_>) -> io::Result<std::os::fd::OwnedFd> {
        match self {
            // Before other programs: a translation must not come first.
            Self::Interface(index, kind) => sys::link_create(program, *index, *kind, sys::BEFORE),
            Self::Namespace(file) => sys::link_create(program, file.as_raw_fd() as u32, AttachType::SkLookup, 0),
            Self::Cgroup(file, kind) => sys::link_create(program, file.as_raw_fd() as u32, *kind, 0),
        }
    }

    /// Whether a link is attached here. A link whose target is gone says zero.
    fn is_at(&self, info: &LinkInfo) -> io::Result<bool> {
        Ok(match self {
            Self::Interface(index, kind) => info.target == *index && info.second == *kind as u32,
            Self::Namespace(file) => u64::from(info.target) == file.metadata()?.ino(),
            Self::Cgroup(file, _) => u64::from(info.target) | u64::from(info.second) << 32 == file.metadata()?.ino(),
        })
    }
}

/// What [`Links::ensure`] had to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ensured {
    /// A link was there; it runs the given program now.
    Replaced,
    /// A new link was made.
    Attached,
}

/// The directory of pinned links.
pub(crate) struct Links {
    directory: PathBuf,
}

impl Links {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes `program` run at `target` under this name, replacing without a gap.
    pub(crate) fn ensure(&self, name: &str, program: BorrowedFd<'_>, target: &Target) -> Result<Ensured, KernelError> {
        let failed = |call| move |source| KernelError::Link { name: name.to_owned(), call, source };
        let pin = self.pin(name);
        match sys::obj_get(&pin) {
            Ok(link) => {
                let info = sys::link_info(link.as_fd()).map_err(failed("reading the pinned link"))?;
                if target.is_at(&info).map_err(failed("reading the target"))? {
                    sys::link_update(link.as_fd(), program).map_err(failed("replacing the program"))?;
                    return Ok(Ensured::Replaced);
                }
                std::fs::remove_file(&pin).map_err(file("removing a dead pin", &pin))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("opening the pinned link")(error)),
        }
        let link = target.attach(program).map_err(failed("attaching the program"))?;
        sys::obj_pin(&pin, link.as_fd()).map_err(failed("pinning the link"))?;
        Ok(Ensured::Attached)
    }

    /// Detaches; a link that is not there is no error.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, KernelError> {
        let pin = self.pin(name);
        match std::fs::remove_file(&pin) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(file("removing", pin)(error)),
        }
    }

    /// Names of all pins.
    pub(crate) fn names(&self) -> Result<BTreeSet<String>, KernelError> {
        names(&self.directory).map_err(file("listing", &self.directory))
    }

    /// Whether the pinned link still is where its name says; false for one that lost its target.
    pub(crate) fn is_alive(&self, name: &str, target: &Target) -> bool {
        sys::obj_get(&self.pin(name))
            .and_then(|link| sys::link_info(link.as_fd()))
            .and_then(|info| target.is_at(&info))
            .unwrap_or(false)
    }
}

pub(crate) fn names(directory: &Path) -> io::Result<BTreeSet<String>> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
