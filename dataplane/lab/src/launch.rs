//! A thread that starts processes and lives as long as its lab. The kernel sends the
//! parent-death signal when the *thread* that forked ends, so a server started by a test's
//! or a runtime's short-lived thread would die at a moment nobody chose.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

/// A command, and where its child or the error goes.
type Job = (Command, Sender<io::Result<Child>>);

#[derive(Debug)]
pub(crate) struct Launcher {
    /// `None` only while dropping. The queue is bounded by the callers, who wait.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Launcher {
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let work = move || {
            for (mut command, answer) in queue {
                // A caller that went away leaves a child that dies with this thread.
                let _ = answer.send(command.spawn());
            }
        };
        let thread = thread::Builder::new().name("weir-lab-launch".into()).spawn(work)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    pub(crate) fn spawn(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts processes is gone");
        let (answer, child) = channel();
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send((command, answer)).map_err(|_| gone())?;
        child.recv().map_err(|_| gone())?
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
