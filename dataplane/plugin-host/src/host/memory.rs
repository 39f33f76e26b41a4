//! What host functions read from and write to a plugin's memory. Every pointer is the plugin's word, and checked.

use wasmtime::Caller;

use crate::abi::{Answer, Refused, Status};
use crate::state::{Stage, State};

/// An instance that calls the host.
pub(crate) type Guest<'a> = Caller<'a, State>;

/// The memory and the state, both at once.
pub(crate) fn split<'g>(guest: &'g mut Guest<'_>) -> Result<(&'g mut [u8], &'g mut State), Status> {
    let memory = guest.data().memory.ok_or(Status::InternalFailure)?;
    Ok(memory.data_and_store_mut(guest))
}

/// Bytes of the plugin.
pub(crate) fn slice(memory: &[u8], at: u32, size: u32) -> Result<&[u8], Status> {
    let at = at as usize;
    memory.get(at..at + size as usize).ok_or(Status::InvalidMemoryAccess)
}

/// Whether these pointers are of numbers that can be written. To be asked before anything is done that cannot be undone.
pub(crate) fn check_words(guest: &mut Guest<'_>, pointers: &[u32]) -> Answer {
    let (memory, _) = split(guest)?;
    for at in pointers {
        slice(memory, *at, 4)?;
    }
    Ok(())
}

/// Writes bytes of a fixed number.
pub(crate) fn put<const SIZE: usize>(guest: &mut Guest<'_>, at: u32, bytes: [u8; SIZE]) -> Answer {
    let (memory, _) = split(guest)?;
    let at = at as usize;
    memory.get_mut(at..at + SIZE).ok_or(Status::InvalidMemoryAccess)?.copy_from_slice(&bytes);
    Ok(())
}

/// Writes a number.
pub(crate) fn put_word(guest: &mut Guest<'_>, at: u32, number: u32) -> Answer {
    put(guest, at, number.to_le_bytes())
}

/// Writes a size.
pub(crate) fn put_size(guest: &mut Guest<'_>, at: u32, size: usize) -> Answer {
    put_word(guest, at, u32::try_from(size).map_err(|_| Status::InternalFailure)?)
}

/// Hands bytes over: into memory that the plugin is asked for and that is its own from then on. Where it is and how much
/// is written to the two pointers. No bytes take no memory.
pub(crate) fn give(guest: &mut Guest<'_>, bytes: &[u8], at: u32, size: u32) -> Answer {
    check_words(guest, &[at, size])?;
    let mut place = 0;
    if !bytes.is_empty() {
        let length = u32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
        let allocate = guest.data().allocate.clone().ok_or(Status::InternalFailure)?;
        guest.data_mut().stage = Stage::Allocating;
        let allocated = allocate.call(&mut *guest, length);
        guest.data_mut().stage = Stage::Running;
        place = allocated.map_err(Refused::Trap)?;
        if place == 0 {
            return Err(Status::InternalFailure.into());
        }
        // It may have moved or grown meanwhile.
        let (memory, _) = split(guest)?;
        let from = place as usize;
        memory.get_mut(from..from + bytes.len()).ok_or(Status::InvalidMemoryAccess)?.copy_from_slice(bytes);
    }
    put_word(guest, at, place)?;
    put_size(guest, size, bytes.len())
}
