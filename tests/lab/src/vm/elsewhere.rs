//! How does a test run on another kernel?
//!
//! As it is: the program of the tests is taken along into a [`Machine`] and told there to run the
//! one test again, which then finds itself in the machine and does its work.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::laboratory::Lab;

use super::luggage::Luggage;
use super::machine::{IN_MACHINE, Machine};

/// The tests' program in a machine.
const TESTS: &str = "tests";
/// How long a program may take there.
const LIMIT: Duration = Duration::from_secs(1200);

/// What was said elsewhere.
#[derive(Clone, Debug)]
pub struct Said {
    /// The kernel there, for example `6.1.0-56-cloud-amd64`.
    pub kernel_version: String,
    /// What the program of the tests printed, and in it what the test printed.
    pub output: String,
}

/// Runs a test on Debian's kernel. Call it first in the test, with the test's own name. Returns
/// what was said there; there itself, nothing.
///
/// # Panics
///
/// The test fails, or there is no machine; with what was said there.
pub fn on_debians_kernel(
    test: &str,
    luggage: impl FnOnce() -> Result<Luggage>,
    work: impl FnOnce() -> Result<()>,
) -> Option<Said> {
    let result = if std::env::var_os(IN_MACHINE).is_some() {
        work().map(|()| None)
    } else {
        luggage()
            .and_then(|luggage| run_there(test, &luggage))
            .map(Some)
    };
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

fn run_there(test: &str, luggage: &Luggage) -> Result<Said> {
    let ourselves = std::env::current_exe()?;
    let luggage = luggage.clone().program(TESTS, &ourselves);
    let lab = Lab::new("machine")?;
    let machine = Machine::boot(&lab.host("around")?, &luggage)?;
    let arguments = ["--exact", test, "--show-output"];
    let output = machine
        .run_program(TESTS, &arguments, LIMIT)?
        .successful()?
        .stdout;
    ensure!(
        output.contains("test result: ok. 1 passed"),
        "there is no test `{test}` in {}",
        ourselves.display()
    );
    Ok(Said {
        kernel_version: machine.kernel_version().to_owned(),
        output,
    })
}
