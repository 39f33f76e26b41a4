//! Where the programs under test are: beside this test's own target directory.

use std::path::{Path, PathBuf};

use weir_lab::ServerProgram;

/// The `weir` binary: `WEIR_BIN`, or the one in this test's target directory.
///
/// # Panics
/// When it was not built.
#[track_caller]
pub fn weir() -> PathBuf {
    match std::env::var_os("WEIR_BIN") {
        Some(path) => built(PathBuf::from(path)),
        None => built(beside("weir")),
    }
}

/// The application in the pods.
///
/// # Panics
/// When it was not built.
#[track_caller]
pub fn server_program() -> ServerProgram {
    ServerProgram::at(built(beside("weir-lab-server")))
}

/// A plugin of `plugins/`.
///
/// # Panics
/// When it was not built.
#[track_caller]
pub fn plugin(name: &str) -> PathBuf {
    let path = beside("../plugins").join(name).with_extension("wasm");
    assert!(path.is_file(), "{} is missing: run `make plugins`", path.display());
    path
}

/// `target/release/deps/stories-…` is two levels below what cargo builds for people.
fn beside(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let directory = this.ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default();
    directory.join(name)
}

#[track_caller]
fn built(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} is missing: run `make build` (or name another with WEIR_BIN)", path.display());
    path
}
