//! Compiles the eBPF programs from source, with whichever toolchain of the machine can.
//!
//! Two ways are known: a compiler that carries the target's standard library (Debian's packages),
//! and nightly with `rust-src`, which builds it. Everything that the outer build put into the
//! environment is taken out: it describes another compiler and another target.

use std::{
    env,
    error::Error,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

const PROGRAMS: &str = "../../ebpf/programs";
const COMMON: &str = "../../ebpf/common";

const HELP: &str = "no toolchain here can compile the eBPF programs. Either of these makes one:
  - Debian: apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf llvm-22-dev libpolly-22-dev
            LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --no-default-features --features llvm-22
  - rustup: rustup toolchain install nightly --component rust-src
            cargo install bpf-linker";

fn main() -> Result<(), Box<dyn Error>> {
    for path in [PROGRAMS, COMMON] {
        for inner in ["src", "Cargo.toml"] {
            println!("cargo::rerun-if-changed={path}/{inner}");
        }
    }
    println!("cargo::rerun-if-changed={PROGRAMS}/Cargo.lock");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PATH");

    let target = match env::var("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    if Command::new("bpf-linker").arg("--version").output().is_err() {
        return Err(format!("bpf-linker is not in PATH. {HELP}").into());
    }
    let toolchain = Toolchain::find(target).ok_or(HELP)?;
    let output = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let target_dir = output.join("ebpf");
    build(&toolchain, target, &target_dir)?;
    let built = std::fs::read(target_dir.join(target).join("release/weir-ebpf"))?;
    std::fs::write(output.join("weir-ebpf.o"), without_dwarf(&built)?)?;
    Ok(())
}

/// BTF, which the kernel reads, is made of DWARF, which nobody reads any more; it is most of the file.
fn without_dwarf(built: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut elf = object::build::elf::Builder::read(built)?;
    for section in &mut elf.sections {
        section.delete = section.name.starts_with(b".debug_") || section.name.starts_with(b".rel.debug_");
    }
    // LLVM keeps the names of sections among those of symbols, which cannot be written back so.
    let names = elf.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = object::build::elf::SectionData::SectionString;
    let mut bytes = Vec::new();
    elf.write(&mut bytes)?;
    Ok(bytes)
}

enum Toolchain {
    /// A compiler with the target's library, and the cargo beside it.
    Prebuilt { rustc: PathBuf, cargo: PathBuf },
    /// rustup's nightly, which builds the library.
    Nightly,
}

impl Toolchain {
    fn find(target: &str) -> Option<Self> {
        let outer = env::var_os("RUSTC").map(PathBuf::from);
        let candidates = outer.into_iter().chain([PathBuf::from("/usr/bin/rustc")]);
        for rustc in candidates {
            if has_library(&rustc, target) {
                let cargo = rustc.with_file_name("cargo");
                return Some(Self::Prebuilt { rustc, cargo });
            }
        }
        let sysroot = stdout(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))?;
        Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir().then_some(Self::Nightly)
    }

    fn cargo(&self) -> Command {
        match self {
            Self::Prebuilt { cargo, .. } => Command::new(cargo),
            Self::Nightly => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", "nightly", "cargo"]);
                rustup
            }
        }
    }
}

fn has_library(rustc: &Path, target: &str) -> bool {
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", target]);
    stdout(&mut command).and_then(|directory| std::fs::read_dir(directory).ok()).is_some_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn build(toolchain: &Toolchain, target: &str, target_dir: &Path) -> Result<(), Box<dyn Error>> {
    let arch = match env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        // The names that aya-ebpf knows.
        "riscv64gc" => "riscv64".to_owned(),
        other => other.to_owned(),
    };
    let mut cargo = toolchain.cargo();
    for (name, _) in env::vars_os() {
        if is_outer(&name) {
            cargo.env_remove(name);
        }
    }
    let flags = [
        "-Clinker=bpf-linker".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
    ];
    cargo
        .current_dir(PROGRAMS)
        .args(["build", "--release", "--locked", "--target", target, "--target-dir"])
        .arg(target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    match toolchain {
        Toolchain::Prebuilt { rustc, .. } => {
            // aya-ebpf uses unstable features of the compiler for this target.
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        }
        Toolchain::Nightly => {
            cargo.args(["-Z", "build-std=core"]);
        }
    }
    let output = cargo.output().map_err(|error| format!("{cargo:?} did not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{cargo:?} failed:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

/// Whether a variable describes the outer build. Where things are kept and fetched from stays.
fn is_outer(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let stays = name == "CARGO_HOME"
        || name == "RUSTUP_HOME"
        || ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
    !stays
        && (name.starts_with("CARGO")
            || name.starts_with("RUST")
            || matches!(&*name, "TARGET" | "HOST" | "OPT_LEVEL" | "PROFILE" | "DEBUG" | "NUM_JOBS"))
}
