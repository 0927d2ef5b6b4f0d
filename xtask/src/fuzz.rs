//! Which bytes from outside break a promise?
//!
//! Builds the search in release and runs it for as long as somebody likes. What follows the verb goes
//! to it as it is (`tests/fuzz`).

use anyhow::Result;
use xtask::process::run;

use crate::check::cargo;

/// The verb.
///
/// # Errors
/// If something does not compile, or an input breaks a promise.
pub fn fuzz(arguments: &[String]) -> Result<()> {
    let release = ["--locked", "--release", "--quiet", "--package", "fuzz"];
    run(cargo("run").args(release).arg("--").args(arguments))
}
