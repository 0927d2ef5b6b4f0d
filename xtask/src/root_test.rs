//! Does it work in a kernel?
//!
//! The tests that load programs, make network namespaces and start virtual machines. They are the
//! crates of [`CRATES`], whole; run by anybody but root they fail.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use xtask::process::run;

use crate::check::{self, cargo};
use crate::steps::Steps;

/// The crates all of whose tests need root, cheap ones first.
pub const CRATES: [&str; 4] = ["dataplane", "lab", "e2e", "bench"];

/// The verb: these tests, and the closing line.
///
/// # Errors
/// If we are not root.
pub fn root_test() -> Result<ExitCode> {
    if !is_root()? {
        bail!("these tests load programs into the kernel and make network namespaces: run as root");
    }
    let mut steps = Steps::default();
    add_to(&mut steps);
    Ok(steps.finish(None))
}

/// The verb: everything that this user can run; with `all`, everything or nothing.
///
/// # Errors
/// If `all` is wanted by somebody who is not root.
pub fn test(all: bool) -> Result<ExitCode> {
    let is_root = is_root()?;
    if all && !is_root {
        bail!("nothing may be left out, and without root much would be: run as root");
    }
    let mut steps = Steps::default();
    check::add_to(&mut steps);
    if is_root {
        add_to(&mut steps);
        return Ok(steps.finish(None));
    }
    let crates = CRATES.map(|name| format!("tests/{name}")).join(", ");
    Ok(steps.finish(Some(&format!("{crates}: they need root"))))
}

fn add_to(steps: &mut Steps) {
    // The tests start the agent and its client as programs.
    steps.step("the agent's programs", || {
        run(cargo("build").args(["--locked", "--package", "vnet-agent", "--bins"]))
    });
    steps.step("an agent with other programs, to upgrade to", || {
        let agent = ["--locked", "--package", "vnet-agent"];
        let log = ["--features", "log", "--bin", "vnet-agent-log"];
        run(cargo("build").args(agent).args(log))
    });
    for name in CRATES {
        let mut tests = cargo("test");
        tests.args(["--locked", "--no-fail-fast", "--package", name]);
        // One at a time: they share the machine's devices and processors.
        steps.tests(
            &format!("tests/{name}"),
            tests.args(["--", "--test-threads=1"]),
        );
    }
}

/// Whether we are root.
///
/// # Errors
/// If `/proc` is not there.
pub fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self")
        .context("asking /proc who we are")?
        .uid()
        == 0)
}
