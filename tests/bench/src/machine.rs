//! What the figures were measured on.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::available_parallelism,
};

use serde::Serialize;

/// The machine of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Mean number of runnable processes over the minute before the run; above about 0.5 something else was running.
    pub(crate) load_before: f64,
    /// Version lines of what took part.
    pub(crate) versions: Vec<String>,
}

impl Machine {
    pub(crate) fn look(versions: Vec<String>) -> Self {
        let first = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processors = first("/proc/cpuinfo");
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = first("/proc/loadavg");
        Self {
            processor: processor.map_or("unknown processor", |(_, name)| name).to_owned(),
            cores: available_parallelism().map_or(1, usize::from),
            kernel: first("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load.split(' ').next().and_then(|minute| minute.parse().ok()).unwrap_or_default(),
            versions,
        }
    }
}

/// The checkout that this program was built in.
pub(crate) fn project_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
