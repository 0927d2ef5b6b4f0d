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

/// Runs a test on Debian's kernel. Call it with nothing around it, with the test's own name.
///
/// What the test prints there is printed here.
///
/// # Panics
///
/// The test fails, or there is no machine; with what was said there.
pub fn on_debians_kernel(
    test: &str,
    luggage: impl FnOnce() -> Result<Luggage>,
    work: impl FnOnce() -> Result<()>,
) {
    let result = if std::env::var_os(IN_MACHINE).is_some() {
        work()
    } else {
        luggage().and_then(|luggage| run_there(test, &luggage))
    };
    if let Err(error) = result {
        panic!("{error:?}");
    }
}

fn run_there(test: &str, luggage: &Luggage) -> Result<()> {
    let ourselves = std::env::current_exe()?;
    let luggage = luggage.clone().program(TESTS, &ourselves);
    let lab = Lab::new("machine")?;
    let machine = Machine::boot(&lab.host("around")?, &luggage)?;
    let arguments = ["--exact", test, "--show-output"];
    let output = machine
        .run_program(TESTS, &arguments, LIMIT)?
        .successful()?;
    println!("on Linux {}:{}", machine.kernel_version(), output.stdout);
    ensure!(
        output.stdout.contains("test result: ok. 1 passed"),
        "there is no test `{test}` in {}",
        ourselves.display()
    );
    Ok(())
}
