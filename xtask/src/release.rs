//! What do hosts run?
//!
//! Output: the agent and its client, built as they are for hosts, in cargo's directory for releases.

use std::env;
use std::path::PathBuf;

use anyhow::Result;
use xtask::package::{self, Programs};
use xtask::process::run;

use crate::check::cargo;

/// How much of the client the dynamic linker would have to find each time: nothing. Finding and
/// mapping three libraries is a third of what a short question takes.
const STATIC: [&str; 2] = ["-C", "target-feature=+crt-static"];

/// Builds both, and says where they are.
///
/// # Errors
/// Something does not compile.
pub fn build() -> Result<PathBuf> {
    eprintln!("building the agent and vnetctl in release: minutes the first time");
    let release = ["--locked", "--release", "--package", "vnet-agent"];
    run(cargo("build").args(release).args(["--bin", "vnet-agent"]))?;
    let client = ["--bin", "vnetctl", "--"];
    run(cargo("rustc").args(release).args(client).args(STATIC))?;
    Ok(target_directory().join("release"))
}

/// Builds both, and makes a package of them.
///
/// # Errors
/// As [`build()`], and [`package::build`].
pub fn package() -> Result<PathBuf> {
    let built = build()?;
    let programs = Programs {
        agent: built.join("vnet-agent"),
        vnetctl: built.join("vnetctl"),
    };
    let into = target_directory().join("package");
    package::build(&programs, env!("CARGO_PKG_VERSION"), &into)
}

/// Where cargo builds for the host.
fn target_directory() -> PathBuf {
    let said = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    xtask::root().join(said.unwrap_or_else(|| "target".into()))
}
