//! The promise: Debian's kernel (6.1 on bookworm) takes the programs, for no more than its budget,
//! and they do there what they do here. Runs in a virtual machine.

use std::path::Path;

use anyhow::{Context, Result};
use dataplane::budget;
use dataplane::kernel::Kernel;
use dataplane::machine::on_a_machine;
use frames::judge::{Manner, judge};
use frames::vector;
use lab::{Luggage, on_debians_kernel};

/// The vectors are read when the test runs.
fn luggage() -> Result<Luggage> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let vectors = tests
        .context("this crate is in a directory")?
        .join("frames/vectors");
    Ok(Luggage::new().tool("ip")?.files(&vectors))
}

/// What the programs cost is said there, and compared here, where the budget is.
#[test]
fn every_vector_holds_within_the_budget() {
    let said = on_debians_kernel("every_vector_holds_within_the_budget", luggage, || {
        let failures = on_a_machine(|machine| {
            let mut kernel = Kernel::load(machine)?;
            budget::print(&budget::costs(&kernel.plane)?)?;
            let mut failures = Vec::new();
            for vector in vector::all()? {
                failures.extend(judge(&vector, &mut kernel, Manner::AskAndRun)?);
            }
            anyhow::Ok(failures)
        })?;
        assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
        Ok(())
    });
    if let Some(said) = said {
        let costs = budget::printed(&said.output).unwrap();
        let wrong = budget::check(budget::kernel(&said.kernel_version), &costs).unwrap();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
