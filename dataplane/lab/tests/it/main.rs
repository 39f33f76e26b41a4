//! Labs are really built here: this needs root, `ip`, `nft`, `curl`, cgroup v2 and
//! br_netfilter, and fails saying what is missing.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its tests do")]

mod life;
mod misbehave;
mod reach;

use std::path::PathBuf;

use weir_lab::{Lab, LabError, ServerProgram, ServerSpec, Spec};

fn program() -> ServerProgram {
    ServerProgram::at(PathBuf::from(env!("CARGO_BIN_EXE_weir-lab-server")))
}

fn server(name: &str) -> ServerSpec {
    ServerSpec::http(&program(), name, 8080).version("1")
}

fn pair() -> Lab {
    build(&Spec::with_pods(["client", "v1"])).unwrap()
}

/// A lab that goes with this process, also when that is ended by a signal.
fn build(spec: &Spec) -> Result<Lab, LabError> {
    weir_lab::remove_on_signals(|| {});
    Lab::build(spec)
}
