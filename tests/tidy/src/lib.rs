//! The project's rules about itself. The tests are in `tests/`; here is how they see the project.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default()
}

/// All files that git tracks or would track, relative to the root.
///
/// # Panics
/// When git cannot be run.
#[expect(clippy::panic, reason = "a test that cannot see the project must fail")]
pub fn files() -> Vec<PathBuf> {
    let list = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    match list {
        Ok(output) if output.status.success() => {
            let names = String::from_utf8_lossy(&output.stdout).into_owned();
            names.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect()
        }
        other => panic!("git ls-files does not work here: {other:?}"),
    }
}

/// Rust sources and their text.
pub fn rust_sources() -> Vec<(PathBuf, String)> {
    let rust = files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.filter_map(|path| std::fs::read_to_string(root().join(&path)).ok().map(|text| (path, text))).collect()
}
