//! Starting the echo server inside a pod and knowing when it accepts.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::layout::Place;
use crate::server::{Mode, READY};
use crate::{Lab, LabError};

/// A server needs milliseconds to bind; a busy machine may take longer.
const START_LIMIT: Duration = Duration::from_secs(20);
/// What a failing server may say.
const MAX_COMPLAINT: u64 = 4096;

/// The program that serves: this crate's `weir-lab-server`, or `weir lab serve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerProgram {
    /// The executable.
    pub path: PathBuf,
    /// Arguments before those of the server, such as `lab serve`.
    pub args: Vec<OsString>,
}

impl ServerProgram {
    /// An executable whose arguments are the server's.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new() }
    }

    /// The executable of this process, with the words that lead it to [`crate::server::run`].
    ///
    /// # Errors
    /// When the system does not tell the executable's path.
    pub fn this(words: &[&str]) -> Result<Self, LabError> {
        let path = std::env::current_exe().map_err(LabError::io("find this executable"))?;
        Ok(Self { path, args: words.iter().map(OsString::from).collect() })
    }

    /// `weir-lab-server` beside this executable or one directory up, which is where cargo
    /// puts it for tests.
    ///
    /// # Errors
    /// [`LabError::MissingTool`] when it was not built.
    pub fn beside() -> Result<Self, LabError> {
        let this = std::env::current_exe().map_err(LabError::io("find this executable"))?;
        let mut dirs = this.ancestors().skip(1).take(2);
        let found = dirs.find_map(|dir| Some(dir.join("weir-lab-server")).filter(|p| p.exists()));
        found.map(Self::at).ok_or_else(|| LabError::MissingTool {
            tool: "weir-lab-server".to_owned(),
            package: "weir-lab (cargo build -p weir-lab)".to_owned(),
        })
    }
}

/// A server to start.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// What serves.
    pub program: ServerProgram,
    /// The name it answers with, usually the pod's.
    pub name: String,
    /// The version it answers with.
    pub version: String,
    /// Where it listens; the unspecified IPv6 address accepts IPv4 as well.
    pub listen: SocketAddr,
    /// What it does with connections.
    pub mode: Mode,
    /// Threads; one is enough except for benchmarks.
    pub workers: usize,
}

impl ServerSpec {
    /// An HTTP server on every address of its pod.
    #[must_use]
    pub fn http(program: &ServerProgram, name: &str, port: u16) -> Self {
        Self {
            program: program.clone(),
            name: name.to_owned(),
            version: String::new(),
            listen: SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port),
            mode: Mode::Http,
            workers: 1,
        }
    }

    /// Sets the version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Sets the mode.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Listens on one address only, as a lab without IPv6 has to.
    #[must_use]
    pub fn on(mut self, address: IpAddr) -> Self {
        self.listen.set_ip(address);
        self
    }

    fn args(&self) -> Vec<OsString> {
        let mut args = self.program.args.clone();
        let options = [
            ("--name", self.name.clone()),
            ("--version-label", self.version.clone()),
            ("--listen", self.listen.to_string()),
            ("--mode", self.mode.name().to_owned()),
            ("--workers", self.workers.to_string()),
        ];
        args.extend(options.into_iter().flat_map(|(k, v)| [k.into(), v.into()]));
        args
    }
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The port it listens on, also when port 0 was asked for.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it with SIGKILL and waits until it is gone, so that its port is free.
    pub fn stop(self) {}

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lab {
    /// Starts a server in a place and waits until it listens. It ends with the returned
    /// value, and with the lab at the latest.
    ///
    /// # Errors
    /// [`LabError::Server`] with what the server said when it did not come up.
    pub fn serve(&self, place: impl Into<Place>, spec: &ServerSpec) -> Result<Server, LabError> {
        let mut command = self.command(place, &spec.program.path)?;
        command
            .args(spec.args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C on the terminal is for the owner of the lab, who ends the servers.
            .process_group(0);
        let fail = |detail: String| LabError::Server { name: spec.name.clone(), detail };
        let path = spec.program.path.display();
        let child = self.spawn(command).map_err(LabError::io(format!("start {path}")))?;
        let mut server = Server { child, port: spec.listen.port() };
        match first_line(&mut server.child) {
            Ok(line) if line.starts_with(READY) => {
                let port = line.trim().rsplit(':').next().and_then(|p| p.parse().ok());
                server.port = port.ok_or_else(|| fail(format!("it said {line:?}")))?;
                Ok(server)
            }
            Ok(line) => {
                // Its standard error ends when it does.
                let _ = server.child.kill();
                let mut said = String::new();
                if let Some(pipe) = server.child.stderr.take() {
                    let _ = pipe.take(MAX_COMPLAINT).read_to_string(&mut said);
                }
                Err(fail(format!("{} {}", line.trim(), said.trim()).trim().to_owned()))
            }
            Err(RecvTimeoutError::Timeout) => {
                Err(fail(format!("it did not listen within {} s", START_LIMIT.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => Err(fail("its output broke off".to_owned())),
        }
    }
}

/// The first line a child prints, empty when it ended without one. The reader thread ends
/// with the child's output, and so with the child.
fn first_line(child: &mut Child) -> Result<String, RecvTimeoutError> {
    let (sender, line) = channel();
    let stdout = child.stdout.take();
    thread::spawn(move || {
        let mut line = String::new();
        if let Some(pipe) = stdout {
            let _ = BufReader::new(pipe).read_line(&mut line);
        }
        let _ = sender.send(line);
    });
    line.recv_timeout(START_LIMIT)
}
