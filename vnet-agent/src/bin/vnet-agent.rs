//! The daemon: `run`, `check`, `teardown`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use vnet_agent::agent::{self, Traces};
use vnet_agent::settings::check::Report;
use vnet_agent::store::SettingsFile;
use vnet_common::wire::geneve::UDP_PORT;

/// The agent of a host: ties the VMs of many hosts into one Ethernet LAN.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
#[command(after_help = "Log level: VNET_LOG (error, warn, info, debug, trace). \
                        A running agent is asked with `vnetctl`.")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Load the data plane and keep it true to the settings, until SIGTERM. SIGHUP reads the
    /// settings again. When the agent stops or dies, the data plane forwards on.
    Run {
        #[command(flatten)]
        settings: SettingsArgument,
    },
    /// Say what is wrong with the settings, line by line, or what they amount to.
    Check {
        #[command(flatten)]
        settings: SettingsArgument,
        /// How to say it.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Remove every trace of the data plane, and nothing else. Frames are not forwarded any more.
    Teardown {
        #[command(flatten)]
        settings: SettingsArgument,
        /// Where the data plane is pinned; then no settings file is read.
        #[arg(long)]
        pin_directory: Option<PathBuf>,
        /// The agent's tap; with --pin-directory.
        #[arg(long, default_value = "vnet-slow", requires = "pin_directory")]
        slow_path_device: String,
        /// The overlay's UDP port; with --pin-directory.
        #[arg(long, default_value_t = UDP_PORT, requires = "pin_directory")]
        udp_port: u16,
    },
}

#[derive(clap::Args)]
struct SettingsArgument {
    /// The settings file.
    #[arg(
        short,
        long,
        env = "VNET_CONFIG",
        default_value = "/etc/vnet/agent.toml"
    )]
    config: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

pub(crate) fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("VNET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let outcome = match Arguments::parse().verb {
        Verb::Run { settings } => on_one_thread(agent::run(&settings.config)),
        Verb::Check { settings, output } => return check(&settings.config, output),
        Verb::Teardown {
            pin_directory: Some(pin_directory),
            slow_path_device,
            udp_port,
            ..
        } => teardown(&Traces {
            pin_directory,
            slow_path_device,
            udp_port,
        }),
        Verb::Teardown { settings, .. } => {
            Traces::of(&settings.config).and_then(|traces| teardown(&traces))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vnet-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread: the network namespace belongs to a thread, and none of the work needs a second.
fn on_one_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(work)
}

fn check(path: &Path, output: Output) -> ExitCode {
    let file = match SettingsFile::read(path) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("vnet-agent: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = Report::new(&file.text, &file.name, file.mode);
    match output {
        Output::Text => println!("{report}"),
        Output::Json => match serde_json::to_string_pretty(&report) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                eprintln!("vnet-agent: {error}");
                return ExitCode::FAILURE;
            }
        },
    }
    if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn teardown(what: &Traces) -> Result<()> {
    let done = on_one_thread(agent::teardown(what))?;
    println!(
        "removed: {} programs, {} tables, {} neighbour entries, {}{}; put back: {} MTUs",
        done.pins.links,
        done.pins.maps,
        done.neighbours,
        if done.tap {
            "the agent's tap"
        } else {
            "no tap"
        },
        if done.joiner {
            ", the device for joining frames"
        } else {
            ""
        },
        done.mtus,
    );
    Ok(())
}
