//! Programs that build or probe a lab: found before they are needed, run with a deadline.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::LabError;

/// How long a single `ip` or `nft` call may take; they need milliseconds, and wait for the
/// kernel's network lock when many namespaces come and go.
pub(crate) const TOOL_LIMIT: Duration = Duration::from_secs(20);

/// Debian's package for each tool whose name differs from it.
const PACKAGES: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("bpftool", "bpftool"),
    ("ping", "iputils-ping"),
];

/// Finds a program on `PATH` or in the system directories, which a user's `PATH` may lack.
///
/// # Errors
/// [`LabError::MissingTool`], which names the package to install.
pub fn require(tool: &str) -> Result<PathBuf, LabError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(system).map(|dir| dir.join(tool)).find(|file| is_program(file));
    found.ok_or_else(|| {
        let known = PACKAGES.iter().find(|(name, _)| *name == tool);
        LabError::MissingTool { tool: tool.to_owned(), package: known.map_or(tool, |(_, package)| package).to_owned() }
    })
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Runs a program to its end, with `input` on its standard input, and returns what it wrote
/// and how it ended, success or not.
///
/// # Errors
/// When it cannot be started, or did not end within `limit` (it is killed then).
pub fn run(mut command: Command, input: &[u8], limit: Duration) -> Result<Output, LabError> {
    let shown = show(&command);
    let deadline = Instant::now() + limit;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(LabError::io(format!("start `{shown}`")))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    // Three pipes that can each fill up need three hands.
    thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
        let out = scope.spawn(move || read_all(stdout));
        let err = scope.spawn(move || read_all(stderr));
        let status = wait(&mut child, deadline);
        if !matches!(status, Ok(Some(_))) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let (stdout, stderr) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        match status {
            Ok(Some(status)) => Ok(Output { status, stdout, stderr }),
            Ok(None) => Err(LabError::ToolTimeout { command: shown, seconds: limit.as_secs_f64() }),
            Err(source) => Err(LabError::io(format!("wait for `{shown}`"))(source)),
        }
    })
}

/// Like [`run`], but a failing program is an error that carries what it said.
pub(crate) fn succeed(command: Command, input: &str) -> Result<String, LabError> {
    let shown = show(&command);
    let output = run(command, input.as_bytes(), TOOL_LIMIT)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(LabError::Tool { command: shown, detail: format!("{} ({})", said.trim().replace('\n', "; "), output.status) })
}

/// Runs `ip -batch` over a script, in a namespace or, with `None`, where the caller is.
pub(crate) fn ip_batch(namespace: Option<&str>, script: &str) -> Result<(), LabError> {
    let mut command = Command::new(require("ip")?);
    if let Some(name) = namespace {
        command.args(["-n", name]);
    }
    command.args(["-batch", "-"]);
    succeed(command, script).map(drop)
}

/// Waits for a child until the deadline; `None` means that it still runs.
pub(crate) fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<std::process::ExitStatus>> {
    let mut pause = Duration::from_micros(200);
    loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => thread::sleep(pause),
            ended => return Ok(ended),
        }
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Polls a condition until it holds; `false` when the deadline came first.
pub(crate) fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    true
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(mut pipe) = pipe {
        // A read error ends the output; the exit status tells the rest.
        let _ = pipe.read_to_end(&mut all);
    }
    all
}

fn show(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_names_its_package() {
        assert!(require("sh").is_ok());
        let said = require("weir-no-such-tool").unwrap_err().to_string();
        assert!(said.contains("install the package `weir-no-such-tool`"), "{said}");
    }

    #[test]
    fn output_status_and_deadline() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let limit = Duration::from_secs(10);
        let out = run(shell("cat; echo oops >&2; exit 3"), b"hello", limit).unwrap();
        assert_eq!(out.stdout, b"hello");
        assert_eq!(out.stderr, b"oops\n");
        assert_eq!(out.status.code(), Some(3));
        let begun = Instant::now();
        let late = run(shell("exec sleep 60"), b"", Duration::from_millis(50));
        assert!(matches!(late, Err(LabError::ToolTimeout { .. })), "{late:?}");
        assert!(begun.elapsed() < limit);
    }
}
