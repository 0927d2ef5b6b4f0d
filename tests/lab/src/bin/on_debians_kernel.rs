//! Runs a program of tests in a virtual machine with Debian's kernel, instead of on this one.
//!
//! Made to be cargo's runner (`target.<triple>.runner`), so that any of the tests that need root
//! can be tried there: `tests/lab/README.md` has the command. Prints what the program printed and
//! ends as it ended.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use lab::{Lab, Luggage, Machine};

/// For a crate's longest program of tests, on a busy machine.
const LIMIT: Duration = Duration::from_secs(3600);
/// What tests read from the repository, beside this crate.
const FILES: [&str; 2] = ["frames/vectors", "dataplane/budget.toml"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((program, arguments)) = words.split_first() else {
        eprintln!("usage: on-debians-kernel PROGRAM [ARGUMENT ...]");
        return ExitCode::from(2);
    };
    match run(Path::new(program), arguments) {
        Ok(status) => u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            eprintln!("on-debians-kernel: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(program: &Path, arguments: &[String]) -> Result<i32> {
    let mut luggage = Luggage::for_a_lab()?
        .tool("tcpdump")?
        .program("tests", program);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    for path in tests
        .iter()
        .flat_map(|tests| FILES.map(|file| tests.join(file)))
    {
        luggage = luggage.files(&path);
    }
    let lab = Lab::new("machine")?;
    let machine = Machine::boot(&lab.host("around")?, &luggage)?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = machine.run_program("tests", &arguments, LIMIT)?;
    print!("{}", output.stdout);
    eprint!("{}", output.stderr);
    Ok(output.status)
}
