//! How did a series of checks go?
//!
//! Runs steps one after the other, and a failed one does not stop the next; says how long each
//! took, adds up what the test runners counted, and closes with one plain line.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// What test runners counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    /// Marked as ignored.
    skipped: u64,
}

impl Count {
    /// What a runner's closing line says: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn in_line(line: &str) -> Option<Self> {
        let (_, results) = line.split_once("test result: ")?;
        let number = |what: &str| {
            let (before, _) = results.split_once(what)?;
            before.split_whitespace().next_back()?.parse().ok()
        };
        Some(Self {
            passed: number(" passed;")?,
            failed: number(" failed;")?,
            skipped: number(" ignored;")?,
        })
    }

    fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// The steps done so far.
#[derive(Debug, Default)]
pub struct Steps {
    count: Count,
    failures: Vec<String>,
}

impl Steps {
    /// Does one step; says what it does, how it went and how long it took.
    pub fn step(&mut self, what: &str, work: impl FnOnce() -> Result<()>) {
        println!("==> {what}");
        let began = Instant::now();
        let result = work();
        let seconds = began.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("<== {what}: ok, {seconds:.1} s"),
            Err(error) => {
                println!("<== {what}: FAILED, {seconds:.1} s: {error:#}");
                self.failures.push(what.to_owned());
            }
        }
    }

    /// Does one step that runs tests with cargo, and counts them.
    pub fn tests(&mut self, what: &str, cargo: &mut Command) {
        let mut count = Count::default();
        self.step(what, || run_tests(cargo, &mut count));
        self.count = self.count.plus(count);
    }

    /// Closes the series: what failed, what was left out, and last the plain line of counts.
    pub fn finish(self, left_out: Option<&str>) -> ExitCode {
        let Self {
            count:
                Count {
                    passed,
                    failed,
                    skipped,
                },
            failures,
        } = self;
        if !failures.is_empty() {
            println!("failed: {}", failures.join(", "));
        }
        if let Some(left_out) = left_out {
            println!("left out: {left_out}");
        }
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        if failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Runs `cargo test`, shows what it prints, and counts.
fn run_tests(cargo: &mut Command, count: &mut Count) -> Result<()> {
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo")?;
    let output = child.stdout.take().context("cargo's output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        *count = count.plus(Count::in_line(&line).unwrap_or_default());
    }
    let status = child.wait()?;
    if count.failed > 0 {
        bail!("{} tests failed", count.failed);
    }
    if !status.success() {
        bail!("it does not compile, or a test binary ended before its time: {status}");
    }
    if *count == Count::default() {
        bail!("no test ran");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_runner_is_counted() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 2 filtered out";
        let expected = Count {
            passed: 12,
            failed: 3,
            skipped: 1,
        };
        assert_eq!(Count::in_line(line), Some(expected));
        assert_eq!(Count::in_line("test steps::counts ... ok"), None);
    }

    #[test]
    fn failures_are_counted_and_make_the_series_fail() {
        let mut steps = Steps::default();
        let said = "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured";
        steps.tests("a runner", Command::new("echo").arg(said));
        assert_eq!(
            steps.count,
            Count {
                passed: 1,
                failed: 1,
                skipped: 0
            }
        );
        assert_eq!(steps.finish(None), ExitCode::FAILURE);
    }

    #[test]
    fn a_runner_that_ran_nothing_makes_the_series_fail() {
        let mut steps = Steps::default();
        steps.tests("a runner", &mut Command::new("true"));
        assert_eq!(steps.finish(None), ExitCode::FAILURE);
    }

    #[test]
    fn a_failed_step_does_not_hide_the_next() {
        let mut steps = Steps::default();
        steps.step("one", || bail!("no"));
        let mut reached = false;
        steps.step("two", || {
            reached = true;
            Ok(())
        });
        assert!(reached);
        assert_eq!(steps.finish(None), ExitCode::FAILURE);
    }
}
