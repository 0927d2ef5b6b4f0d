//! What can a developer do here?
//!
//! One file a verb; to add one, add a file and a line in each half of [`Verb`]. A verb that
//! measures or drives the agent starts its crate with cargo instead of depending on it, since
//! the agent's build script depends on this package.

mod abi;
mod bench;
mod check;
mod fuzz;
mod layers;
mod release;
mod root_test;
mod source;
mod steps;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    about = "Every developer verb of the repository"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the kernel object, and say with what
    BuildEbpf,
    /// Check everything that needs no root: form, lints, layers, binary interface, tests
    Check,
    /// Run the tests that need root
    RootTest,
    /// Check and test everything that this user can
    Test {
        /// Fail instead of leaving anything out
        #[arg(long)]
        all: bool,
    },
    /// Measure this data plane beside its peers (needs root); `bench --help` says what there is
    #[command(disable_help_flag = true)]
    Bench {
        /// What to measure and how: `--quick`, `--only frames`, `-o json`, `--help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Look for bytes from outside that break a promise; `fuzz --help` says how
    #[command(disable_help_flag = true)]
    Fuzz {
        /// Where they come in, and for how long: `language --seconds 600`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the agent and vnetctl as hosts run them, and say where they are
    Release,
    /// Make a Debian package of them
    Package,
    /// See that every file of the agent imports only what its layer may
    Layers,
    /// Write what lies in the maps into vnet-common/abi.txt
    Abi {
        /// Compare instead, and fail if it changed
        #[arg(long)]
        check: bool,
        /// Write it although the layouts changed and SCHEMA did not: nobody has such maps yet
        #[arg(long, conflicts_with = "check")]
        same_schema: bool,
    },
}

impl Verb {
    fn run(self) -> Result<ExitCode> {
        match self {
            Self::BuildEbpf => {
                let built = xtask::build_ebpf::build(&[])?;
                eprintln!("built with {}", built.toolchain);
                println!("{}", built.object.display());
            }
            Self::Check => return Ok(check::check()),
            Self::RootTest => return root_test::root_test(),
            Self::Test { all } => return root_test::test(all),
            Self::Bench { arguments } => bench::bench(&arguments)?,
            Self::Fuzz { arguments } => fuzz::fuzz(&arguments)?,
            Self::Release => println!("{}", release::build()?.display()),
            Self::Package => println!("{}", release::package()?.display()),
            Self::Layers => layers::check()?,
            Self::Abi { check: true, .. } => abi::check()?,
            Self::Abi { same_schema, .. } => abi::write(same_schema)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn main() -> ExitCode {
    Arguments::parse().verb.run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
