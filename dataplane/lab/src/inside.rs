//! Running things inside a lab's namespaces.
//!
//! Not `ip netns exec`: that remounts `/sys` in a private mount namespace and so hides bpffs
//! and cgroup v2 from the program. Here only the network namespace changes, and the cgroup,
//! by which connect-time eBPF programs know a pod's processes.
#![expect(unsafe_code, reason = "Command::pre_exec is the only way to act between fork and exec")]

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid, write};

use crate::layout::{Layout, Namespace, Place};
use crate::{LabError, tool};

impl Layout {
    /// A command that will run in a place: in its network namespace and its cgroup. It gets
    /// SIGKILL when the thread that spawned it ends (Linux ties the signal to the thread),
    /// so that nothing outlives the lab; [`Lab::spawn`](crate::Lab::spawn) starts it from a
    /// thread that lives as long as the lab. `CommandExt::exec` works as well.
    ///
    /// # Errors
    /// When the place does not exist or its namespace or cgroup cannot be opened.
    pub fn command(&self, place: impl Into<Place>, program: impl AsRef<OsStr>) -> Result<Command, LabError> {
        command(self.namespace(place)?, program.as_ref())
    }

    /// Runs a program in a place to its end, without input. `argv` is the program and its
    /// arguments.
    ///
    /// # Errors
    /// When it cannot be started or did not end within `limit`.
    pub fn run(&self, place: impl Into<Place>, argv: &[&str], limit: Duration) -> Result<Output, LabError> {
        let (program, args) =
            argv.split_first().ok_or_else(|| LabError::BadSpec("no program to run was given".to_owned()))?;
        let mut command = self.command(place, program)?;
        command.args(args);
        tool::run(command, b"", limit)
    }

    /// Runs a closure on a thread inside a place's network namespace. Sockets made there stay
    /// there, so they can be returned and used outside. The cgroup is the caller's: Linux
    /// moves whole processes only; use [`Layout::command`] where the cgroup matters.
    /// Processes that the closure spawns through `command` die with it.
    ///
    /// # Errors
    /// When the place does not exist or cannot be entered. A panic of `f` goes on in the
    /// caller.
    pub fn enter<T: Send>(&self, place: impl Into<Place>, f: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        enter(self.namespace(place)?, f)
    }

    /// A TCP connection opened from a place.
    ///
    /// # Errors
    /// `InvalidInput` when the place does not exist, otherwise what `connect` said.
    pub fn connect(&self, place: impl Into<Place>, to: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        self.enter(place, || TcpStream::connect_timeout(&to, limit))
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?
    }
}

/// See [`Layout::enter`].
pub(crate) fn enter<T: Send>(namespace: &Namespace, f: impl FnOnce() -> T + Send) -> Result<T, LabError> {
    let file = open_namespace(namespace)?;
    let name = &namespace.name;
    let inside = thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name(name.chars().take(15).collect())
            .spawn_scoped(scope, || {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                Ok::<T, nix::Error>(f())
            })
            .map_err(LabError::io(format!("start a thread for {name}")))?;
        match thread.join() {
            Ok(entered) => entered.map_err(|e| LabError::io(format!("enter {name}"))(e.into())),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    Ok(inside)
}

fn open_namespace(namespace: &Namespace) -> Result<File, LabError> {
    let path = &namespace.path;
    File::open(path).map_err(LabError::io(format!("open the namespace {}", path.display())))
}

fn command(namespace: &Namespace, program: &OsStr) -> Result<Command, LabError> {
    let net = open_namespace(namespace)?;
    let procs = namespace.cgroup.join("cgroup.procs");
    let cgroup =
        OpenOptions::new().write(true).open(&procs).map_err(LabError::io(format!("open {}", procs.display())))?;
    let parent = getpid();
    let mut command = Command::new(program);
    let prepare = move || {
        // "0" stands for the writing process.
        write(&cgroup, b"0")?;
        setns(&net, CloneFlags::CLONE_NEWNET)?;
        // With `exec` there was no fork, and the parent is not ours to judge.
        if getpid() != parent {
            set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != parent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes
    // system calls on open descriptors, and its errors are codes: it allocates nothing and
    // takes no lock.
    unsafe { command.pre_exec(prepare) };
    Ok(command)
}
