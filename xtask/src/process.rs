//! How is another program started without what cargo left in the environment?
//!
//! Cargo tells its children about itself (the compiler, its flags, the crate being built, where
//! its libraries lie). A second cargo, perhaps of another toolchain, takes all of that as orders.

use std::env;
use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What a cargo sets or obeys and what does not hold for another one.
const FOREIGN_PREFIXES: [&str; 4] = ["CARGO", "RUSTC", "RUSTDOC", "DEP_"];

/// The same, whole names. `LD_LIBRARY_PATH`, because `cargo run` and build scripts get one that
/// puts their toolchain's libraries before everybody else's.
const FOREIGN_NAMES: [&str; 11] = [
    "DEBUG",
    "HOST",
    "LD_LIBRARY_PATH",
    "MAKEFLAGS",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "TARGET",
];

/// What the user of the machine says to every cargo: where it keeps things and how it fetches.
const KEPT_PREFIXES: [&str; 6] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_TERM_",
];

/// Whether a child must not see the variable `name`.
fn is_foreign(name: &str) -> bool {
    let kept = KEPT_PREFIXES.iter().any(|kept| name.starts_with(kept));
    let foreign = FOREIGN_PREFIXES
        .iter()
        .any(|prefix| name.starts_with(prefix));
    FOREIGN_NAMES.contains(&name) || (foreign && !kept)
}

/// A command for `program` with this environment, less everything that a cargo above us left.
pub fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_foreign) {
            command.env_remove(name);
        }
    }
    command
}

/// What `command` prints on its standard output, trimmed.
///
/// # Errors
/// If it cannot be started or fails; with what it said on standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs `command` with our own output as its own.
///
/// # Errors
/// If it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        let program = command.get_program().to_string_lossy().into_owned();
        let first = command
            .get_args()
            .next()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        bail!("`{program} {first} …` failed: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_foreign;

    #[test]
    fn what_an_outer_cargo_says_of_its_own_build_is_left_out() {
        for name in [
            "CARGO",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_TARGET_DIR",
            "LD_LIBRARY_PATH",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(is_foreign(name), "{name}");
        }
    }

    #[test]
    fn what_the_user_says_to_every_cargo_stays() {
        for name in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "HOME",
            "PATH",
            "RUSTUP_HOME",
            "RUST_LOG",
        ] {
            assert!(!is_foreign(name), "{name}");
        }
    }
}
