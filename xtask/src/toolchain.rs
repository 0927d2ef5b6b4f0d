//! Which compiler and which linker on this machine can make a kernel object?
//!
//! Input: the file system and what the programs say of themselves. Output: a [`Toolchain`], or
//! every place that was looked at with what was wrong there and what to do.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::process::{clean_command, output};

/// The target that kernel objects are compiled for.
pub const TARGET: &str = "bpfel-unknown-none";

/// Names another compiler than the ones that are looked for: the path of a `rustc` beside its
/// `cargo`.
pub const RUSTC_VARIABLE: &str = "VNET_EBPF_RUSTC";

/// Names another `bpf-linker` than the one that `scripts/setup.sh` installs.
pub const LINKER_VARIABLE: &str = "BPF_LINKER";

/// What must be done where no toolchain was found.
const CURE: &str = "\
One of these makes a machine able to build the kernel object:
  - on Debian: scripts/setup.sh build
    (installs rustc-web, cargo-web, libstd-rust-web-dev-bpf and the pinned bpf-linker)
  - elsewhere, with rustup: rustup toolchain install nightly --component rust-src,
    and the bpf-linker that xtask/bpf-linker.txt names for the LLVM of that nightly, in PATH";

/// Where the object's `core` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// It comes compiled with the toolchain, as Debian ships it.
    Prebuilt,
    /// It is compiled along (`-Z build-std=core`), from the sources that rustup calls `rust-src`.
    FromSource,
}

/// A compiler, its cargo, and the linker that understands its bitcode.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// The cargo beside it.
    pub cargo: PathBuf,
    /// The compiler's version, as it prints it: `1.96.0`.
    pub release: String,
    /// The major version of the compiler's LLVM.
    pub llvm: u32,
    /// Where `core` comes from.
    pub core: Core,
    /// The `bpf-linker`.
    pub linker: PathBuf,
    /// The linker's pinned version.
    pub linker_version: String,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = match self.core {
            Core::Prebuilt => "prebuilt core",
            Core::FromSource => "core from source",
        };
        let Self {
            release,
            llvm,
            linker_version,
            ..
        } = self;
        let (rustc, linker) = (self.rustc.display(), self.linker.display());
        write!(
            f,
            "{rustc} {release} (LLVM {llvm}, {core}), bpf-linker {linker_version} ({linker})"
        )
    }
}

/// The first toolchain that will do: the one that `VNET_EBPF_RUSTC` names, else Debian's, else
/// rustup's nightly.
///
/// # Errors
/// If none will do: what was wrong with each, and the cure.
pub fn find() -> Result<Toolchain> {
    let mut faults = Vec::new();
    for (name, rustc) in candidates() {
        match rustc.and_then(|rustc| examine(&rustc)) {
            Ok(toolchain) => return Ok(toolchain),
            Err(fault) => faults.push(format!("  - {name}: {fault:#}")),
        }
    }
    bail!(
        "no toolchain here can build the kernel object:\n{}\n{CURE}",
        faults.join("\n")
    )
}

/// The compilers worth a look, best first, each with a name for people.
fn candidates() -> Vec<(&'static str, Result<PathBuf>)> {
    if let Some(named) = env::var_os(RUSTC_VARIABLE) {
        return vec![(RUSTC_VARIABLE, Ok(named.into()))];
    }
    let mut rustup = clean_command("rustup");
    let nightly = output(rustup.args(["which", "--toolchain", "nightly", "rustc"]));
    vec![
        ("Debian's compiler", Ok("/usr/bin/rustc".into())),
        (
            "rustup's nightly",
            nightly.map(PathBuf::from).context("rustup knows none"),
        ),
    ]
}

/// Whether the compiler at `rustc` has all it needs.
fn examine(rustc: &Path) -> Result<Toolchain> {
    if !rustc.exists() {
        bail!("{} is not there", rustc.display());
    }
    let said = output(clean_command(rustc).arg("-vV"))?;
    let (release, llvm) = versions(&said)
        .with_context(|| format!("`{} -vV` names no LLVM version", rustc.display()))?;
    let cargo = rustc.with_file_name("cargo");
    if !cargo.exists() {
        bail!("there is no cargo beside {}", rustc.display());
    }
    let sysroot = output(clean_command(rustc).args(["--print", "sysroot"]))?;
    let core = core_of(Path::new(&sysroot)).with_context(|| {
        format!(
            "{} has no compiled core for {TARGET} and no rust-src",
            rustc.display()
        )
    })?;
    let (linker_version, feature) = pinned_linker(llvm).with_context(|| {
        format!("its LLVM is {llvm}, for which xtask/bpf-linker.txt names no bpf-linker")
    })?;
    let linker = find_linker(&linker_version, &feature)?;
    Ok(Toolchain {
        rustc: rustc.into(),
        cargo,
        release,
        llvm,
        core,
        linker,
        linker_version,
    })
}

/// The release and the LLVM's major version in what `rustc -vV` prints.
fn versions(said: &str) -> Option<(String, u32)> {
    let field = |name| said.lines().find_map(|line| line.strip_prefix(name));
    let release = field("release: ")?.to_owned();
    let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some((release, llvm))
}

/// Where a compiler with this sysroot gets `core` from, if it can.
fn core_of(sysroot: &Path) -> Option<Core> {
    let rustlib = sysroot.join("lib/rustlib");
    if rustlib.join(TARGET).join("lib").is_dir() {
        Some(Core::Prebuilt)
    } else if rustlib.join("src/rust/library/Cargo.lock").is_file() {
        Some(Core::FromSource)
    } else {
        None
    }
}

/// The version and the cargo feature of the `bpf-linker` that goes with an LLVM.
fn pinned_linker(llvm: u32) -> Option<(String, String)> {
    let pins = include_str!("../bpf-linker.txt");
    pins.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let major: u32 = words.next()?.parse().ok()?;
            (major == llvm).then_some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
}

/// The linker: the one that `BPF_LINKER` names, else what `scripts/setup.sh` built, else one in
/// `PATH`.
fn find_linker(version: &str, feature: &str) -> Result<PathBuf> {
    if let Some(named) = env::var_os(LINKER_VARIABLE) {
        let named = PathBuf::from(named);
        check_linker(&named, version)?;
        return Ok(named);
    }
    let installed =
        tools_directory().join(format!("bpf-linker-{version}-{feature}/bin/bpf-linker"));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|directory| directory.join("bpf-linker"));
    let mut fault = anyhow!(
        "bpf-linker {version} is neither at {} nor in PATH",
        installed.display()
    );
    for linker in [installed]
        .into_iter()
        .chain(in_path)
        .filter(|linker| linker.exists())
    {
        match check_linker(&linker, version) {
            Ok(()) => return Ok(linker),
            Err(wrong) => fault = wrong,
        }
    }
    Err(fault)
}

/// Whether the linker runs and is the pinned version.
fn check_linker(linker: &Path, version: &str) -> Result<()> {
    let said = output(clean_command(linker).arg("--version"))?;
    if said.strip_prefix("bpf-linker ") != Some(version) {
        bail!(
            "{} says it is `{}`, wanted is {version}",
            linker.display(),
            said.lines().next().unwrap_or_default()
        );
    }
    Ok(())
}

/// Where `scripts/setup.sh` puts what it builds: outside the clone, so that a second clone on the
/// machine finds it there.
fn tools_directory() -> PathBuf {
    if let Some(named) = env::var_os("VNET_TOOLS") {
        return named.into();
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    cache
        .or(home)
        .unwrap_or_else(|| crate::root().join(".cache"))
        .join("vnet/tools")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_compiler_says_its_release_and_its_llvm() {
        let said = "rustc 1.96.0 (ac68faa20)\nrelease: 1.96.0\nLLVM version: 22.1.8";
        assert_eq!(versions(said), Some(("1.96.0".to_owned(), 22)));
        assert_eq!(versions("release: 1.96.0"), None);
    }

    #[test]
    fn every_pin_names_a_version_and_a_feature() {
        let (version, feature) = pinned_linker(22).unwrap();
        assert!(
            version.chars().all(|c| c.is_ascii_digit() || c == '.'),
            "{version}"
        );
        assert_eq!(feature, "llvm-22");
        assert_eq!(pinned_linker(1), None);
    }

    #[test]
    fn a_compiled_core_is_preferred_to_its_sources() {
        let sysroot = tempfile::tempdir().unwrap();
        assert_eq!(core_of(sysroot.path()), None);
        let library = sysroot.path().join("lib/rustlib/src/rust/library");
        fs::create_dir_all(&library).unwrap();
        fs::write(library.join("Cargo.lock"), "").unwrap();
        assert_eq!(core_of(sysroot.path()), Some(Core::FromSource));
        fs::create_dir_all(sysroot.path().join("lib/rustlib").join(TARGET).join("lib")).unwrap();
        assert_eq!(core_of(sysroot.path()), Some(Core::Prebuilt));
    }

    #[test]
    fn a_missing_compiler_is_named() {
        let fault = examine(Path::new("/nowhere/rustc")).unwrap_err();
        assert_eq!(fault.to_string(), "/nowhere/rustc is not there");
    }

    #[test]
    fn a_linker_of_another_version_is_refused() {
        let fault = check_linker(Path::new("/bin/echo"), "0.10.3").unwrap_err();
        assert!(fault.to_string().contains("wanted is 0.10.3"), "{fault}");
    }
}
