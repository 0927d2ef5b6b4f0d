//! Is everything in order that can be checked without root?
//!
//! The sources (form, lints, layers, binary interface) and every test that runs anywhere.

use std::process::{Command, ExitCode};

use xtask::process::run;

use crate::root_test::CRATES;
use crate::steps::Steps;
use crate::{abi, layers};

/// The verb: all of it, and the closing line.
pub fn check() -> ExitCode {
    let mut steps = Steps::default();
    add_to(&mut steps);
    steps.finish(None)
}

/// The steps, for a longer series.
pub fn add_to(steps: &mut Steps) {
    steps.step(
        "formatting",
        || run(cargo("fmt").args(["--all", "--check"])),
    );
    steps.step("layers of the agent", layers::check);
    steps.step("binary interface of the maps", abi::check);
    steps.step("lints", || {
        let everything = ["--locked", "--workspace", "--all-targets"];
        run(cargo("clippy")
            .args(everything)
            .args(["--", "--deny", "warnings"]))
    });
    steps.step("lints of the kernel side", xtask::build_ebpf::clippy);
    let mut tests = cargo("test");
    tests.args(["--locked", "--no-fail-fast", "--workspace"]);
    for name in CRATES {
        tests.args(["--exclude", name]);
    }
    steps.tests("unit and property tests", &mut tests);
}

/// The host's cargo, for a verb, in the root of the repository.
pub fn cargo(verb: &str) -> Command {
    let mut command = Command::new("cargo");
    command.arg(verb).current_dir(xtask::root());
    command
}
