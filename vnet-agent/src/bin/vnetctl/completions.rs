//! How does a shell learn to complete our words?

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::screen;

/// What `completions` takes.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  source <(vnetctl completions bash)
  vnetctl completions zsh > ~/.zfunc/_vnetctl
  vnetctl completions fish > ~/.config/fish/completions/vnetctl.fish")]
pub struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completions.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    let mut command = crate::args::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "vnetctl", &mut script);
    screen::write(&script)?;
    Ok(ExitCode::SUCCESS)
}
