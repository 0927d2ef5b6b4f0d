//! The benchmarks' command line. Progress goes to standard error, the result to standard output.

use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bench::cores::Cores;
use bench::datapath::{self, Plan};
use bench::path::Path;
use bench::{cost, memory, report};
use clap::{Parser, Subcommand, ValueEnum};
use lab::Lab;
use nix::unistd::Uid;

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask bench",
    about = "Figures: this data plane beside its peers"
)]
struct Arguments {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Subcommand)]
enum Suite {
    /// Frames a second from tap to tap, what a frame costs, what the agent needs
    Datapath(Datapath),
}

#[derive(clap::Args)]
struct Datapath {
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Rounds, each of which measures everything once
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=15))]
    rounds: u32,
    /// Milliseconds that are counted in each measurement of frames a second
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    window_ms: u64,
    /// Measures only this; may be given more than once
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Frames a second: leaves this path out; may be given more than once
    #[arg(long, value_name = "PATH", value_parser = Path::ALL.map(Path::name))]
    without: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For machines: one object a figure
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Frames a second, tap to tap
    Frames,
    /// What a frame costs in the programs
    Cost,
    /// What the agent needs
    Memory,
}

/// What the agents of [`cost`] and [`memory`] take to start, about, and a round of each.
const COST_START: Duration = Duration::from_secs(10);
const COST_ROUND: Duration = Duration::from_millis(600);
const MEMORY_ROUND: Duration = Duration::from_millis(900);
/// Room for the beds of one part in the numbers of all.
const BEDS: u32 = 1000;

impl Datapath {
    fn includes(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn plan(&self) -> Plan {
        let left_out = |path: &Path| self.without.iter().any(|name| name == path.name());
        Plan {
            paths: Path::ALL
                .into_iter()
                .filter(|path| !left_out(path))
                .collect(),
            rounds: self.rounds,
            warm_up: Duration::from_millis(300),
            window: Duration::from_millis(self.window_ms),
        }
    }

    fn duration(&self, plan: &Plan) -> Duration {
        let parts = [
            (Part::Frames, plan.duration()),
            (Part::Cost, COST_START + COST_ROUND * self.rounds),
            (Part::Memory, MEMORY_ROUND * self.rounds),
        ];
        parts
            .into_iter()
            .filter(|(part, _)| self.includes(*part))
            .map(|(_, duration)| duration)
            .sum()
    }

    fn run(&self) -> Result<()> {
        ensure!(
            Uid::effective().is_root(),
            "the benchmark makes network namespaces and loads programs into the kernel: run it as \
             root"
        );
        let plan = self.plan();
        let cores = Cores::choose()?;
        eprintln!("this takes about {} s", self.duration(&plan).as_secs());
        warn_of_company();
        let began = Instant::now();
        let progress = |line: &str| eprintln!("[{:>4.0} s] {line}", began.elapsed().as_secs_f64());
        let lab = Lab::new("bench")?;
        let mut figures = Vec::new();
        if self.includes(Part::Frames) {
            figures.extend(datapath::measure(&lab, &plan, cores, progress)?);
        }
        if self.includes(Part::Cost) {
            figures.extend(cost::measure(&lab, BEDS, self.rounds, cores, progress)?);
        }
        if self.includes(Part::Memory) {
            figures.extend(memory::measure(&lab, 2 * BEDS, self.rounds, progress)?);
        }
        match self.output {
            Format::Table => print!("{}", report::table(&figures)),
            Format::Json => print!("{}", report::json(&figures)),
        }
        Ok(())
    }
}

/// Says so where other programs want the cores too.
fn warn_of_company() {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let recent = load
        .split(' ')
        .next()
        .and_then(|number| number.parse::<f64>().ok());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if let Some(recent) = recent.filter(|recent| *recent > cores as f64 / 2.0) {
        eprintln!("the machine is busy (load {recent} on {cores} cores): the spread will show it");
    }
}

fn main() -> ExitCode {
    let Arguments {
        suite: Suite::Datapath(datapath),
    } = Arguments::parse();
    match datapath.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
