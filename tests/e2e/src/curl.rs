//! curl in a pod: a client that knows nothing of Weir.

use std::time::Duration;

use serde_json::Value;
use weir_lab::{Layout, Place};

/// What curl may take at most; its own `--max-time` is shorter unless a story says otherwise.
const LIMIT: Duration = Duration::from_secs(60);
/// Separates the body from what curl tells about the transfer.
const MARK: &str = "\n--weir-e2e--";

/// What curl got.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status; 0 when there was no response.
    pub status: u16,
    /// Response headers by lower-case name.
    pub headers: Value,
    /// The body.
    pub body: String,
    /// How the transfer took, in seconds.
    pub seconds: f64,
    /// curl's exit code: 0 good, 7 refused, 18 partial, 28 timeout, 52 empty, 56 reset.
    pub exit: i32,
    /// What curl complained about.
    pub complaint: String,
}

impl Answer {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The server that answered, empty when none did.
    #[must_use]
    pub fn server(&self) -> &str {
        self.header("x-served-by")
    }

    /// A response header, empty when absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers[name][0].as_str().unwrap_or_default()
    }

    /// Status and server in one text, for comparisons that show what came instead.
    #[must_use]
    pub fn brief(&self) -> String {
        match (self.exit, self.header("x-weir-cause")) {
            (0, "") => format!("{} {}", self.status, self.server()),
            (0, cause) => format!("{} {cause}", self.status),
            _ => self.complaint.clone(),
        }
    }
}

/// Runs curl with these arguments. A failing transfer is an answer, too; `--max-time` is 10 s unless given.
#[track_caller]
pub(crate) fn curl(lab: &Layout, from: impl Into<Place>, arguments: &[&str]) -> Answer {
    let program = weir_lab::require("curl").unwrap();
    let format = format!("{MARK}%{{http_code}} %{{time_total}} %{{header_json}}");
    let mut words = vec![program.to_str().unwrap(), "-sS", "--max-time", "10", "-w", &format];
    words.extend(arguments);
    let output = lab.run(from, &words, LIMIT).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, told) = text.rsplit_once(MARK).unwrap_or((&text, "0 0 {}"));
    let mut told = told.splitn(3, ' ');
    let mut next = || told.next().unwrap_or_default();
    Answer {
        status: next().parse().unwrap_or_default(),
        seconds: next().parse().unwrap_or_default(),
        headers: serde_json::from_str(next()).unwrap_or_default(),
        body: body.to_owned(),
        exit: output.status.code().unwrap_or(-1),
        complaint: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    }
}
