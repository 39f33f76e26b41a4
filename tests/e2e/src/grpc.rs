//! gRPC in pods: a server and a caller that know nothing of Weir (grpcio, which is C-core).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use weir_lab::{Lab, Place};

/// A Python that has grpcio: the system's, unless another one comes first on the path and has it too.
#[track_caller]
fn python() -> &'static str {
    let has_it = |python: &&str| {
        let import = Command::new(python).args(["-I", "-c", "import grpc"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has_it);
    found.expect("no python3 has the module grpc: `make setup` installs it (Debian's python3-grpcio)")
}

/// A process in a pod that speaks in lines; it ends with this.
struct Lines {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Lines {
    #[track_caller]
    fn start(lab: &Lab, place: impl Into<Place>, script: &str, arguments: &[&str]) -> (Self, ChildStdin) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("grpcio").join(script);
        let mut command: Command = lab.command(place, python()).unwrap();
        command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = lab.spawn(command).unwrap();
        let (input, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        (Self { child, said }, input)
    }

    /// What it says next.
    #[track_caller]
    fn next(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the script has ended");
        line.trim_end().to_owned()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server of gRPC in a pod, on port 8080.
pub struct GrpcServer(Lines);

impl GrpcServer {
    /// Starts it, with the pod's name.
    #[track_caller]
    #[must_use]
    pub fn start(lab: &Lab, pod: &str) -> Self {
        let (mut lines, _) = Lines::start(lab, pod, "server.py", &[pod, "8080"]);
        assert_eq!(lines.next(), "listening");
        Self(lines)
    }

    /// Waits until a call that hangs was cancelled.
    #[track_caller]
    pub fn await_cancelled(&mut self) {
        assert_eq!(self.0.next(), "cancelled");
    }
}

/// A caller in a pod, with one channel.
pub struct GrpcClient {
    lines: Lines,
    orders: ChildStdin,
}

impl GrpcClient {
    /// A caller of this target, `ip:port`.
    #[track_caller]
    #[must_use]
    pub fn start(lab: &Lab, place: impl Into<Place>, target: &str) -> Self {
        let (lines, orders) = Lines::start(lab, place, "client.py", &[target]);
        Self { lines, orders }
    }

    /// Gives an order (they are described in `client.py`) and returns what came of it.
    #[track_caller]
    pub fn order(&mut self, order: &Value) -> Value {
        writeln!(self.orders, "{order}").unwrap();
        serde_json::from_str(&self.lines.next()).unwrap()
    }
}
