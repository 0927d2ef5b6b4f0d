//! What can a developer do here?
//!
//! One file a verb; to add one, add a file and a line in each half of [`Verb`]. A verb that
//! measures or drives the agent starts its crate with cargo instead of depending on it, since
//! the agent's build script depends on this package.

mod layers;
mod source;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Every developer verb of the repository")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the kernel object, and say with what
    BuildEbpf,
    /// See that every file of the agent imports only what its layer may
    Layers,
}

impl Verb {
    fn run(self) -> Result<()> {
        match self {
            Self::BuildEbpf => {
                let built = xtask::build_ebpf::build()?;
                eprintln!("built with {}", built.toolchain);
                println!("{}", built.object.display());
                Ok(())
            }
            Self::Layers => layers::check(),
        }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().verb.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
