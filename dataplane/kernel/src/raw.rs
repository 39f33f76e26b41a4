//! Records of `weir-ebpf-common` as aya wants them.
#![expect(unsafe_code, reason = "aya's marker for plain data must be implemented here")]

use weir_ebpf_common::Plain;

/// A plain record.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Raw<T>(pub(crate) T);

// SAFETY: transparent over a type that promises fixed layout, no padding and no invalid values.
unsafe impl<T: Plain> aya::Pod for Raw<T> {}

/// Reads a record from bytes of the kernel; nothing when the length is another.
pub(crate) fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the length is right, `Plain` accepts every bit pattern, and the read does not need
    // alignment.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) })
}
