//! How is the kernel object built?
//!
//! Input: the sources of `vnet-ebpf` and `vnet-common`, and a [`Toolchain`]. Output: an ELF file
//! for the BPF machine with BTF in it, at [`Built::object`]. Cargo does the work, in a target
//! directory of its own, because the compiler is another than the host's.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{clean_command, run};
use crate::root;
use crate::toolchain::{self, Core, LINKER_VARIABLE, RUSTC_VARIABLE, TARGET, Toolchain};

/// The environment that the object depends on; a build script watches it.
pub const ENVIRONMENT: [&str; 2] = [RUSTC_VARIABLE, LINKER_VARIABLE];

/// The instruction set, version 3 (Linux 5.12): 64-bit atomics that return the old value and
/// 32-bit arithmetic. What LLVM calls `generic` refuses the former.
const CPU: &str = "v3";

/// What a build left.
#[derive(Debug)]
pub struct Built {
    /// The kernel object.
    pub object: PathBuf,
    /// What it was built with.
    pub toolchain: Toolchain,
}

/// Builds the kernel object with these features of `vnet-ebpf`, where something changed since the
/// last time; what cargo says goes to standard error.
///
/// # Errors
/// If no toolchain will do (with what to install), or the sources do not compile.
pub fn build(features: &[&str]) -> Result<Built> {
    let toolchain = toolchain::find()?;
    run(command(&toolchain, "build")
        .args(["--bin", "vnet-ebpf", "--features"])
        .arg(features.join(",")))
    .with_context(|| format!("building the kernel object with {toolchain}"))?;
    let object = target_directory().join(TARGET).join("release/vnet-ebpf");
    if !object.is_file() {
        bail!("cargo succeeded, but {} is not there", object.display());
    }
    Ok(Built { object, toolchain })
}

/// Runs clippy over the kernel side as the kernel gets it: most of it does not exist on the host.
///
/// # Errors
/// If no toolchain will do, it has no clippy, or clippy has something to say.
pub fn clippy() -> Result<()> {
    let toolchain = toolchain::find()?;
    let driver = toolchain.cargo.with_file_name("cargo-clippy");
    if !driver.exists() {
        bail!(
            "{} is not there (on Debian: scripts/setup.sh check)",
            driver.display()
        );
    }
    // Cargo looks for `cargo-clippy` in PATH, and another toolchain's may come first there.
    let mut command = command(&toolchain, "clippy");
    if let Some(directory) = toolchain.cargo.parent() {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let path = [directory.to_owned()]
            .into_iter()
            .chain(env::split_paths(&inherited));
        command.env("PATH", env::join_paths(path)?);
    }
    run(command.args(["--lib", "--bins", "--", "--deny", "warnings"]))
        .context("clippy over the kernel side")
}

/// The files and folders that the object is made of.
pub fn inputs() -> Vec<PathBuf> {
    [
        "vnet-ebpf/src",
        "vnet-ebpf/Cargo.toml",
        "vnet-common/src",
        "vnet-common/Cargo.toml",
    ]
    .into_iter()
    .chain(["Cargo.toml", "Cargo.lock", "xtask/bpf-linker.txt"])
    .map(|path| root().join(path))
    .collect()
}

/// Cargo of the toolchain, with `verb` for the kernel side.
fn command(toolchain: &Toolchain, verb: &str) -> Command {
    let mut command = clean_command(&toolchain.cargo);
    command
        .current_dir(root())
        .env("RUSTC", &toolchain.rustc)
        // aya-ebpf uses features that only a nightly admits to have.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            rustc_flags(toolchain).join("\x1f"),
        )
        .args([
            verb,
            "--release",
            "--package",
            "vnet-ebpf",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(target_directory());
    if toolchain.core == Core::FromSource {
        command.args(["-Z", "build-std=core"]);
    }
    command
}

/// What the compiler is told. The linker makes BTF from the debug information.
fn rustc_flags(toolchain: &Toolchain) -> Vec<String> {
    vec![
        format!("-Clinker={}", toolchain.linker.display()),
        format!("-Ctarget-cpu={CPU}"),
        // Headers lie anywhere in a packet; without this the compiler reads them byte by byte.
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ]
}

/// Apart from the host's: the compilers differ, and a build inside a build would wait for its own
/// lock.
fn target_directory() -> PathBuf {
    root().join("target/ebpf")
}
