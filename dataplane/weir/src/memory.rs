//! Memory that nobody uses goes back to the system. The allocator does that by itself only where it is busy; the
//! control thread needs much to load the programs and to parse documents, and then little.
#![expect(unsafe_code, reason = "the allocator's function is C's")]

/// Gives back what the calling thread has freed.
pub(crate) fn give_back() {
    // SAFETY: may be called from any thread at any time; it touches no memory that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
