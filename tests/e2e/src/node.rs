//! The process under test.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_lab::Lab;

use crate::{until_within, weir};

/// An orderly stop lets requests under way finish.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A running `weir node`. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct NodeProcess(Child);

impl NodeProcess {
    /// Starts it in the namespace of a node with further arguments; its log is appended to `node.log` in the folder.
    #[track_caller]
    pub(crate) fn start(lab: &Lab, place: &str, folder: &Path, arguments: &[&str]) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(folder.join("node.log")).unwrap();
        let mut command = lab.command(place, weir()).unwrap();
        command.arg("node").arg("--settings").arg(folder.join("node.yaml")).args(arguments);
        command.env("NO_COLOR", "1").env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        Self(lab.spawn(command).unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// Asks it to stop and waits.
    #[track_caller]
    pub(crate) fn stop(self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.await_end()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn await_end(mut self) -> ExitStatus {
        until_within(STOP_LIMIT, "the node ends in order", || self.ended().ok_or("running"))
    }

    /// SIGKILL, as the system's memory killer does it.
    #[track_caller]
    pub(crate) fn kill9(mut self) {
        self.signal(Signal::SIGKILL);
        until_within(KILL_LIMIT, "the node is gone", || self.ended().ok_or("running"));
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
