//! As much of WASI as modules need that were made for a command line: output goes to the log, there are clocks, random
//! numbers and environment variables, and nothing else. The rest is there so that modules link, and answers that there
//! is no such thing. Numbers are those of `wasi_snapshot_preview1`.

use wasmtime::{Caller, FuncType, Linker, Val, ValType};

use super::logging::nanoseconds;
use super::memory::{Guest, put, put_size, put_word, slice, split};
use crate::abi::{Answer, LogLevel, Refused, Status};
use crate::state::State;

/// Modules of older compilers look for the second.
const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

const BAD_FILE: u32 = 8;
const FAULT: u32 = 21;
const INVALID: u32 = 28;
const NOT_OFFERED: u32 = 52;
const NOT_SUPPORTED: u32 = 58;

/// Bytes that are drawn at a time.
const RANDOM_BYTES: u32 = 64 << 10;

/// What a module that calls `proc_exit` ends with.
#[derive(Debug, thiserror::Error)]
#[error("it exits with status {0}")]
pub(crate) struct Exit(pub(crate) u32);

/// What does something, with its parameters: `i` of 32 bits, `I` of 64.
const REAL: [&str; 15] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_close",
    "fd_fdstat_get",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_write",
    "poll_oneoff",
    "proc_exit",
    "random_get",
    "sched_yield",
];

/// What only exists, with its parameters.
const ABSENT: [(&str, &str); 31] = [
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_datasync", "i"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("proc_raise", "i"),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// What compilers for C++ import from `env`.
const EMSCRIPTEN: [&str; 2] = ["emscripten_notify_memory_growth", "pthread_equal"];

/// The modules and names of everything here.
pub(super) fn offered() -> impl Iterator<Item = (&'static str, &'static str)> {
    let names = || REAL.into_iter().chain(ABSENT.into_iter().map(|(name, _)| name));
    MODULES
        .into_iter()
        .flat_map(move |module| names().map(move |name| (module, name)))
        .chain(EMSCRIPTEN.into_iter().map(|name| (super::MODULE, name)))
}

/// Makes an error number of what a function comes to.
fn errno(answer: Answer) -> wasmtime::Result<u32> {
    match answer {
        Ok(()) => Ok(0),
        Err(Refused::With(Status::InvalidMemoryAccess)) => Ok(FAULT),
        Err(Refused::With(_)) => Ok(INVALID),
        Err(Refused::Trap(error)) => Err(error),
    }
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for module in MODULES {
        linker.func_wrap(module, "args_get", |_: Guest<'_>, _: u32, _: u32| 0_u32)?;
        linker.func_wrap(module, "args_sizes_get", |mut guest: Guest<'_>, count: u32, size: u32| {
            errno(put_word(&mut guest, count, 0).and_then(|()| put_word(&mut guest, size, 0)))
        })?;
        linker.func_wrap(module, "clock_res_get", |mut guest: Guest<'_>, clock: u32, to: u32| match clock {
            0 | 1 => errno(put(&mut guest, to, 1_u64.to_le_bytes())),
            _ => Ok(NOT_SUPPORTED),
        })?;
        linker.func_wrap(
            module,
            "clock_time_get",
            |mut guest: Guest<'_>, clock: u32, _: u64, to: u32| match clock {
                0 => errno(put(&mut guest, to, nanoseconds().to_le_bytes())),
                1 => errno(put(&mut guest, to, monotonic().to_le_bytes())),
                _ => Ok(NOT_SUPPORTED),
            },
        )?;
        linker.func_wrap(module, "environ_get", |mut guest: Guest<'_>, pointers: u32, texts: u32| {
            errno(environment(&mut guest, pointers, texts))
        })?;
        linker.func_wrap(module, "environ_sizes_get", |mut guest: Guest<'_>, count: u32, size: u32| {
            let variables = &guest.data().plugin.options.environment;
            let (number, bytes) = (variables.len(), variables.iter().map(|one| one.len() + 1).sum());
            errno(put_size(&mut guest, count, number).and_then(|()| put_size(&mut guest, size, bytes)))
        })?;
        linker.func_wrap(module, "fd_close", |_: Guest<'_>, _: u32| BAD_FILE)?;
        linker.func_wrap(module, "fd_fdstat_get", |mut guest: Guest<'_>, file: u32, to: u32| match file {
            // A character device that is appended to and may be written to.
            1 | 2 => {
                let mut status = [0_u8; 24];
                (status[0], status[2], status[8]) = (2, 1, 64);
                errno(put(&mut guest, to, status))
            }
            _ => Ok(BAD_FILE),
        })?;
        linker.func_wrap(module, "fd_prestat_dir_name", |_: Guest<'_>, _: u32, _: u32, _: u32| BAD_FILE)?;
        linker.func_wrap(module, "fd_prestat_get", |_: Guest<'_>, _: u32, _: u32| BAD_FILE)?;
        linker.func_wrap(module, "fd_write", |mut guest: Guest<'_>, file: u32, parts: u32, count: u32, to: u32| {
            match file {
                1 | 2 => errno(write(&mut guest, file, (parts, count), to)),
                _ => Ok(BAD_FILE),
            }
        })?;
        linker.func_wrap(module, "poll_oneoff", |mut guest: Guest<'_>, _: u32, _: u32, _: u32, to: u32| {
            errno(put_word(&mut guest, to, 0))
        })?;
        linker.func_wrap(module, "proc_exit", |_: Guest<'_>, status: u32| -> wasmtime::Result<()> {
            Err(wasmtime::Error::new(Exit(status)))
        })?;
        linker.func_wrap(module, "random_get", |mut guest: Guest<'_>, at: u32, size: u32| match size {
            0..=RANDOM_BYTES => errno(random(&mut guest, at, size)),
            _ => Ok(INVALID),
        })?;
        linker.func_wrap(module, "sched_yield", |_: Guest<'_>| 0_u32)?;
        for (name, parameters) in ABSENT {
            let parameters = parameters.chars().map(|one| if one == 'I' { ValType::I64 } else { ValType::I32 });
            let signature = FuncType::new(linker.engine(), parameters, [ValType::I32]);
            linker.func_new(module, name, signature, |_: Caller<'_, State>, _, results| {
                results[0] = Val::I32(NOT_OFFERED.cast_signed());
                Ok(())
            })?;
        }
    }
    let [grown, equal] = EMSCRIPTEN;
    linker.func_wrap(super::MODULE, grown, |_: Guest<'_>, _: u32| {})?;
    linker.func_wrap(super::MODULE, equal, |_: Guest<'_>, one: u32, other: u32| u32::from(one == other))?;
    Ok(())
}

/// Nanoseconds of a clock that only goes on.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

fn environment(guest: &mut Guest<'_>, pointers: u32, texts: u32) -> Answer {
    let plugin = std::sync::Arc::clone(&guest.data().plugin);
    let (mut pointer, mut text) = (pointers, texts);
    for variable in &plugin.options.environment {
        put_word(guest, pointer, text)?;
        let (memory, _) = split(guest)?;
        let bytes = variable.as_bytes();
        let end = (text as usize).checked_add(bytes.len() + 1).ok_or(Status::InvalidMemoryAccess)?;
        let place = memory.get_mut(text as usize..end).ok_or(Status::InvalidMemoryAccess)?;
        place[..bytes.len()].copy_from_slice(bytes);
        place[bytes.len()] = 0;
        pointer = pointer.checked_add(4).ok_or(Status::InvalidMemoryAccess)?;
        text = u32::try_from(end).map_err(|_| Status::InvalidMemoryAccess)?;
    }
    Ok(())
}

/// Standard output and error are lines of the log.
fn write(guest: &mut Guest<'_>, file: u32, (parts, count): (u32, u32), to: u32) -> Answer {
    /// More parts than anybody writes at once.
    const PARTS: u32 = 64;
    if count > PARTS {
        return Err(Status::BadArgument.into());
    }
    let (memory, state) = split(guest)?;
    let limit = state.plugin.options.limits.log_line;
    let mut text = Vec::new();
    let mut written = 0_usize;
    for part in 0..count {
        let word = |at: u32| -> Result<u32, Status> {
            let bytes = slice(memory, at, 4)?;
            Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| Status::InvalidMemoryAccess)?))
        };
        let at = parts.checked_add(part * 8).ok_or(Status::InvalidMemoryAccess)?;
        let bytes = slice(memory, word(at)?, word(at.checked_add(4).ok_or(Status::InvalidMemoryAccess)?)?)?;
        written += bytes.len();
        let room = limit.saturating_sub(text.len());
        text.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    state.log(if file == 1 { LogLevel::Info } else { LogLevel::Error }, &text);
    put_size(guest, to, written)
}

fn random(guest: &mut Guest<'_>, at: u32, size: u32) -> Answer {
    let (memory, _) = split(guest)?;
    let at = at as usize;
    let place = memory.get_mut(at..at + size as usize).ok_or(Status::InvalidMemoryAccess)?;
    let mut filled = 0;
    while filled < place.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut place[filled..], flags).map_err(|_| Status::InternalFailure)?;
    }
    Ok(())
}
