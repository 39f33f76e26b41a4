//! `weir plugin build`: from the source of plugins in Rust to modules.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::command::print;

/// What plugins are built for.
const TARGET: &str = "wasm32-unknown-unknown";

#[derive(Debug, clap::Args)]
pub(crate) struct Build {
    /// Folders with plugins, each with a `Cargo.toml`
    #[arg(default_value = ".")]
    folders: Vec<PathBuf>,
    /// Where the modules go, as `NAME.wasm` [default: each beside its source]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where the compiler keeps what it has built [default: `target` in each folder]
    #[arg(long)]
    target_dir: Option<PathBuf>,
    /// Refuse to change which versions of libraries are used
    #[arg(long)]
    locked: bool,
}

/// A compiler that can build for the target.
#[derive(Debug)]
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// Whether it has the source of the standard library, which is built first.
    builds_std: bool,
    linker: Option<PathBuf>,
}

impl Build {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let toolchain = Toolchain::find()?;
        for folder in &self.folders {
            let module = self.one(folder, &toolchain).with_context(|| folder.display().to_string())?;
            let size = fs::metadata(&module)?.len() >> 10;
            print(&format!("{} ({size} KiB)\n", module.display()))?;
        }
        Ok(())
    }

    fn one(&self, folder: &Path, toolchain: &Toolchain) -> anyhow::Result<PathBuf> {
        let folder = folder.canonicalize()?;
        let manifest = folder.join("Cargo.toml");
        anyhow::ensure!(manifest.is_file(), "there is no Cargo.toml");
        let built = match &self.target_dir {
            Some(folder) => std::path::absolute(folder)?,
            None => folder.join("target"),
        };
        let mut command = toolchain.command();
        command.args(["build", "--quiet", "--release", "--lib", "--target", TARGET]).current_dir(&folder);
        command.arg("--target-dir").arg(&built);
        if self.locked {
            command.arg("--locked");
        }
        if toolchain.builds_std {
            command.arg("-Zbuild-std=std,panic_abort");
        }
        let status = command.status().with_context(|| toolchain.cargo.display().to_string())?;
        anyhow::ensure!(status.success(), "it does not build");
        let name = folder.file_name().context("a folder without a name")?;
        let stem = name.to_string_lossy().replace('-', "_");
        let module = built.join(TARGET).join("release").join(stem).with_extension("wasm");
        let out = self.out.as_ref().unwrap_or(&folder);
        fs::create_dir_all(out)?;
        let mut file = OsString::from(name);
        file.push(".wasm");
        let to = out.join(file);
        let bytes = fs::read(&module).with_context(|| {
            format!("{}: is the crate called as its folder, with the crate-type cdylib?", module.display())
        })?;
        // One that is the same is left alone: nodes and builds look at when it was written.
        if fs::read(&to).ok().as_deref() != Some(&bytes) {
            fs::write(&to, bytes)?;
        }
        Ok(to)
    }
}

impl Toolchain {
    /// The first of these that there is: a compiler that has the target's standard library, one that has the library's
    /// source, Debian's pair of compiler and source.
    fn find() -> anyhow::Result<Self> {
        let own = |builds_std| Self { cargo: "cargo".into(), rustc: "rustc".into(), builds_std, linker: None };
        let sysroot = sysroot("rustc".as_ref());
        if sysroot.as_ref().is_some_and(|root| root.join("lib/rustlib").join(TARGET).join("lib").is_dir()) {
            return Ok(own(false));
        }
        let has_source = |root: &PathBuf| root.join("lib/rustlib/src/rust/library/std").is_dir();
        if sysroot.as_ref().is_some_and(has_source) {
            return Ok(own(true));
        }
        let debian = Path::new("/usr/bin/rustc");
        if self::sysroot(debian).as_ref().is_some_and(has_source) {
            let linker = linker(sysroot.as_deref());
            return Ok(Self { cargo: "/usr/bin/cargo".into(), rustc: debian.to_owned(), builds_std: true, linker });
        }
        anyhow::bail!("there is no compiler for {TARGET}; `rustup target add {TARGET}` installs one")
    }

    /// Its `cargo`, without what a build around this one wants: that is not meant for plugins.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let is_kept = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR"];
            let is_kept = is_kept.iter().any(|kept| name.starts_with(kept));
            let is_flags = name.starts_with("RUST") && name.ends_with("FLAGS");
            let is_of_cargo = name == "CARGO" || name.starts_with("CARGO_") || name.starts_with("RUSTC");
            if !is_kept && (is_flags || is_of_cargo) {
                command.env_remove(name);
            }
        }
        if self.builds_std {
            // The standard library is built with what only its own compiler may use.
            command.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        }
        if let Some(linker) = &self.linker {
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        command
    }
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim()))
}

/// A linker for modules: that of another compiler, or of LLVM.
fn linker(sysroot: Option<&Path>) -> Option<PathBuf> {
    let own = sysroot.and_then(|root| fs::read_dir(root.join("lib/rustlib")).ok());
    let own = own.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path().join("bin/rust-lld")));
    let paths = env::var_os("PATH").unwrap_or_default();
    let of_path =
        |name: &'static str| env::split_paths(&paths).map(move |folder| folder.join(name)).collect::<Vec<_>>();
    let of_llvm = ["wasm-ld", "wasm-ld-22", "wasm-ld-21", "wasm-ld-20", "wasm-ld-19"].into_iter().flat_map(of_path);
    own.chain(of_llvm).find(|path| path.is_file())
}
