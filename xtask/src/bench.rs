//! How fast is it?
//!
//! Builds the agent and the benchmarks in release and runs them. What follows the verb goes to the
//! benchmarks as it is (`tests/bench`); their result is on standard output, all else is not.

use anyhow::{Result, bail};
use xtask::process::run;

use crate::check::cargo;
use crate::release;
use crate::root_test::is_root;

/// What asks a question that needs no root.
const HELP: [&str; 2] = ["--help", "-h"];

/// The verb.
///
/// # Errors
/// If we are not root and figures are asked for, something does not compile, or the benchmarks
/// fail.
pub fn bench(arguments: &[String]) -> Result<()> {
    let wants_help = arguments.iter().any(|word| HELP.contains(&&**word));
    if !wants_help && !is_root()? {
        bail!(
            "the benchmarks load programs into the kernel and make network namespaces: run as root"
        );
    }
    release::build()?;
    eprintln!("building the benchmarks");
    let release = ["--locked", "--release"];
    run(cargo("run")
        .args(release)
        .args(["--package", "bench", "--quiet", "--"])
        .args(arguments))
}
