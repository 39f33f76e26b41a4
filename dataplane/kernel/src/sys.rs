//! The few operations of `bpf(2)` on links that aya does not offer for all kinds: create, replace
//! the program, look at, pin and open. Layouts are those of `union bpf_attr` in `linux/bpf.h`.
#![expect(unsafe_code, reason = "system calls take pointers")]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;

/// Run before the programs that are there.
pub(crate) const BEFORE: u32 = 1 << 3;

/// Where a program can be attached, with the kernel's numbers.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AttachType {
    Connect4 = 10,
    Connect6 = 11,
    SkLookup = 36,
    TcxIngress = 46,
    TcxEgress = 47,
}

#[repr(C)]
#[derive(Default)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreateAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u32,
    pad: u32,
    expected_revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_link_info` up to the first fields of its union.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) prog_id: u32,
    pad: u32,
    /// Interface index, inode of the namespace, or, in its low half, id of the cgroup.
    pub(crate) target: u32,
    /// Attach type; for cgroups the high half of their id.
    pub(crate) second: u32,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i32> {
    // SAFETY: every caller passes the attribute of its command, whose pointers live until the call
    // returns; the kernel reads and writes no more than the given size.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>() as libc::c_uint) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us; nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Opens a pinned link.
pub(crate) fn obj_get(pin: &Path) -> io::Result<OwnedFd> {
    let pin = path(pin)?;
    let mut attr = ObjAttr { pathname: pin.as_ptr() as u64, ..ObjAttr::default() };
    bpf(OBJ_GET, &mut attr).map(owned)
}

/// Pins a link.
pub(crate) fn obj_pin(pin: &Path, link: BorrowedFd<'_>) -> io::Result<()> {
    let pin = path(pin)?;
    let mut attr = ObjAttr { pathname: pin.as_ptr() as u64, bpf_fd: link.as_raw_fd() as u32, ..ObjAttr::default() };
    bpf(OBJ_PIN, &mut attr).map(drop)
}

/// Attaches a program; `target` is an interface index or a descriptor.
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    target: u32,
    attach_type: AttachType,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        prog_fd: program.as_raw_fd() as u32,
        target,
        attach_type: attach_type as u32,
        flags,
        ..LinkCreateAttr::default()
    };
    bpf(LINK_CREATE, &mut attr).map(owned)
}

/// Replaces the program of a link at once.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: program.as_raw_fd() as u32,
        ..LinkUpdateAttr::default()
    };
    bpf(LINK_UPDATE, &mut attr).map(drop)
}

/// What a link is attached to.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut attr = InfoAttr {
        bpf_fd: link.as_raw_fd() as u32,
        info_len: size_of::<LinkInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}
