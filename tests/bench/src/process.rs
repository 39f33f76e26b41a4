//! Processes under measurement: started on one core, measured as a whole tree, and never left behind.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    time::clock_getcpuclockid,
    unistd::Pid,
};

/// How long a process may take to end after it was asked to.
const STOP: Duration = Duration::from_secs(3);
/// Lines of a process's log that an error quotes.
const QUOTED_LINES: usize = 8;

/// What to start, and on which core.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) core: usize,
}

impl Launch {
    /// The command, pinned to its core and told to end when this process does; `taskset` and `setpriv` replace themselves,
    /// so that the process id is the program's own.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(self.core.to_string());
        command.args(["setpriv", "--pdeathsig", "TERM"]).arg(&self.program).args(&self.args);
        command
    }
}

/// A running process and its descendants.
#[derive(Debug)]
pub(crate) struct Tree {
    child: Child,
    log: PathBuf,
}

impl Tree {
    /// Starts it with its output going to a log file in `directory`.
    pub(crate) fn start(launch: &Launch, name: &str, directory: &Path) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = launch
            .command()
            .stdin(Stdio::null())
            .stdout(out.try_clone().context("share the log file")?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("start {} (taskset and setpriv are of util-linux)", launch.program.display()))?;
        Ok(Self { child, log })
    }

    /// Fails, with the end of its log, when it has ended.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait().context("look after a process")? {
            None => Ok(()),
            Some(status) => bail!("ended with {status}; its log ends with:\n{}", self.log_end()),
        }
    }

    /// The last lines it wrote.
    pub(crate) fn log_end(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
    }

    /// Takes the process from its core, and gives each of its threads whose name begins so this time of each period on
    /// whatever processor, at once and no more (`SCHED_DEADLINE`, sched(7)). How many threads that are.
    pub(crate) fn ration(&self, threads: &str, time: Duration, period: Duration) -> anyhow::Result<usize> {
        let pid = self.child.id();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        run("taskset", &["-a", "-c", "-p", &format!("0-{}", cores - 1), &pid.to_string()])?;
        let named = |entry: &fs::DirEntry| {
            fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with(threads))
        };
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("list the threads of a process")?;
        let tasks: Vec<_> = tasks.flatten().filter(named).map(|entry| entry.file_name()).collect();
        let [time, period] = [time, period].map(|time| time.as_nanos().to_string());
        for task in &tasks {
            let task = task.to_string_lossy();
            run("chrt", &["-d", "-T", &time, "-D", &period, "-P", &period, "-p", "0", &task])?;
        }
        Ok(tasks.len())
    }

    /// Processor time used so far, user and system, of all its processes and their threads, ended threads included.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut total = Duration::ZERO;
        for pid in self.pids() {
            let clock = clock_getcpuclockid(pid).with_context(|| format!("find the CPU clock of process {pid}"))?;
            total += Duration::from(clock.now().with_context(|| format!("read the CPU clock of process {pid}"))?);
        }
        Ok(total)
    }

    /// Resident memory of all its processes in KiB; pages that they share count once for each.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<u64> {
        self.pids().into_iter().map(resident_kib_of).sum()
    }

    fn pids(&self) -> Vec<Pid> {
        let parents = parents();
        let mut found = vec![Pid::from_raw(self.child.id().cast_signed())];
        let mut next = 0;
        while let Some(&parent) = found.get(next) {
            found.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        found
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let pids = self.pids();
        for pid in pids.iter().rev() {
            let _ = kill(*pid, Signal::SIGTERM);
        }
        let deadline = Instant::now() + STOP;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                for pid in pids.into_iter().rev() {
                    let _ = kill(pid, Signal::SIGKILL);
                }
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs a program of util-linux to its end.
fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(args).output().with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {} (this needs root)", args.join(" "), said.trim());
    Ok(())
}

/// Resident memory of one process in KiB.
pub(crate) fn resident_kib_of(pid: Pid) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).with_context(|| format!("no VmRSS in {path}"))?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| format!("VmRSS in {path}"))
}

/// Every process's parent.
fn parents() -> HashMap<Pid, Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((Pid::from_raw(pid), Pid::from_raw(parent_in(&stat)?)))
        })
        .collect()
}

/// The fourth field of `/proc/<pid>/stat`; the second may itself hold spaces and brackets (proc(5)).
fn parent_in(stat: &str) -> Option<i32> {
    stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_behind_odd_names() {
        for (stat, expected) in [("7 (a) S 3 7", Some(3)), ("7 (a) b) (c d) R 12 7", Some(12)), ("7 (a", None)] {
            assert_eq!(parent_in(stat), expected, "{stat}");
        }
    }

    #[test]
    fn measures_a_tree_and_ends_it() {
        let directory = tempfile::tempdir().expect("directory");
        let script = "while :; do :; done & echo busy; wait";
        let launch = Launch { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], core: 0 };
        let tree = Tree::start(&launch, "busy", directory.path()).expect("start");
        let deadline = Instant::now() + Duration::from_secs(20);
        while tree.pids().len() < 2 || tree.cpu().expect("cpu") < Duration::from_millis(20) {
            assert!(Instant::now() < deadline, "the shell's child never used any time: {}", tree.log_end());
            std::thread::yield_now();
        }
        let pids = tree.pids();
        assert!(tree.resident_kib().expect("memory") > 100);
        drop(tree);
        assert!(!Path::new(&format!("/proc/{}", pids[0])).exists(), "the shell is still there");
    }
}
