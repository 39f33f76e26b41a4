//! A node that intercepts the pods of a lab, where a case needs more of Weir than its proxy.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    time::clock_getcpuclockid,
    unistd::Pid,
};
use weir_lab::Lab;

use crate::process::resident_kib_of;

/// How long the node may take to be ready, and the API to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node whose programs are on the links of the lab's enrolled pods. Dropping it ends it.
pub(crate) struct Intercepting(Child);

impl Intercepting {
    /// Starts it with these documents as its only file, and waits until it is ready.
    pub(crate) fn start(lab: &Lab, weir: &Path, directory: &Path, documents: &str) -> anyhow::Result<Self> {
        let rules = directory.join("rules");
        fs::create_dir_all(&rules)?;
        fs::write(rules.join("cluster.yaml"), documents)?;
        let admin = directory.join("admin.sock");
        let settings = format!(
            "node: bench-{}\nworkers: 1\nadmin: {{address: \"unix:{}\"}}\nstate: {}\nsource: {{folder: {}}}\n\
             interception: {{bridge: cni0}}\n",
            lab.id,
            admin.display(),
            directory.join("state").display(),
            rules.display()
        );
        let path = directory.join("node.yaml");
        fs::write(&path, settings)?;
        let log: PathBuf = directory.join("node.log");
        let out = fs::File::create(&log)?;
        let mut command = lab.command("node", weir)?;
        command.arg("node").arg("--settings").arg(path);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let mut node = Self(lab.spawn(command).context("start Weir")?);
        let begun = Instant::now();
        while !is_ready(&admin) {
            if let Some(status) = node.0.try_wait()? {
                bail!("Weir ended with {status}:\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            ensure!(begun.elapsed() < PATIENCE, "Weir is not ready after {PATIENCE:?}");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(node)
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<u64> {
        resident_kib_of(self.pid())
    }

    /// Processor time used so far, user and system.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let clock = clock_getcpuclockid(self.pid()).context("find the node's CPU clock")?;
        Ok(clock.now().context("read the node's CPU clock")?.into())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }
}

impl Drop for Intercepting {
    fn drop(&mut self) {
        // In order, so that it removes its pins; both fail only when it is gone.
        let _ = kill(self.pid(), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn is_ready(admin: &Path) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(admin)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
