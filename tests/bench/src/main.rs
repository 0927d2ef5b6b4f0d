//! The benchmarks' command line. Progress goes to standard error, the result to standard output.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use bench::cores::Cores;
use bench::figure::Figure;
use bench::packages::Packages;
use bench::part::{costs, frames, memory, overlay, primitives, rules, streams};
use bench::path::Path;
use bench::plan::{Part, Plan};
use bench::workshop::Workshop;
use bench::{machine, report};
use clap::{Parser, ValueEnum};
use nix::unistd::Uid;

/// Figures: this data plane beside its peers, and the overlay. Needs root. All of it takes twenty
/// minutes; `overlay`, with `primitives`, five.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Arguments {
    /// Measures only this: the same as --only
    #[arg(value_enum)]
    subjects: Vec<Subject>,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Measures only this; may be given more than once
    #[arg(long, value_enum)]
    only: Vec<Subject>,
    /// Leaves this path out; may be given more than once
    #[arg(long, value_name = "PATH", value_parser = Path::ALL.map(Path::name))]
    without: Vec<String>,
    /// Rounds, each of which measures everything once
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=15))]
    rounds: Option<u32>,
    /// Fewer rounds and shorter ones: a few minutes, and figures to look at, not to quote
    #[arg(long)]
    quick: bool,
    /// Go before no other program on this machine: the spread will show it
    #[arg(long)]
    polite: bool,
    /// Where figures, plots and the peers' programs are put
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For machines: one object a figure
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Frames a second, tap to tap
    Frames,
    /// TCP between guests, and what it costs
    Tcp,
    /// Small packets there and back
    RoundTrips,
    /// What a frame costs in the programs, from 10 to 100,000 rules
    Rules,
    /// What counting and a link's fields cost a frame, by programs that are built without them
    Costs,
    /// What the agent needs
    Memory,
    /// How long one change, or one question, takes a client
    Primitives,
    /// How long it takes until the overlay has another shape: a star from nothing, links and rules from
    /// each to each, a bus; and what that costs the frames under way
    Shapes,
    /// All about the overlay: shapes, failover, many rules, links over TLS: how long they take, and what they cost the frames under way.
    /// Primitives too
    Overlay,
}

impl Subject {
    const fn parts(self) -> &'static [Part] {
        match self {
            Self::Frames => &[Part::Frames],
            Self::Tcp => &[Part::Tcp],
            Self::RoundTrips => &[Part::RoundTrips],
            Self::Rules => &[Part::Rules],
            Self::Costs => &[Part::Costs],
            Self::Memory => &[Part::Memory],
            Self::Primitives => &[Part::Primitives],
            Self::Shapes => &[Part::Shapes],
            Self::Overlay => &[Part::Primitives, Part::Shapes, Part::Overlay],
        }
    }
}

impl Arguments {
    fn plan(&self) -> Plan {
        let only = [self.subjects.as_slice(), &self.only].concat();
        let subjects = match only.as_slice() {
            [] => Subject::value_variants(),
            only => only,
        };
        let parts = subjects.iter().flat_map(|subject| subject.parts());
        let left_out = |path: &Path| self.without.iter().any(|name| name == path.name());
        let (rounds, window, tcp_window) = match self.quick {
            true => (2, Duration::from_millis(300), Duration::from_secs(1)),
            false => (5, Duration::from_secs(1), Duration::from_secs(2)),
        };
        Plan {
            parts: parts.copied().collect(),
            paths: Path::ALL
                .into_iter()
                .filter(|path| !left_out(path))
                .collect(),
            rounds: self.rounds.unwrap_or(rounds),
            warm_up: window * 3 / 10,
            window,
            tcp_window,
        }
    }

    fn run(&self) -> Result<Vec<String>> {
        ensure!(
            Uid::effective().is_root(),
            "the benchmark makes network namespaces and loads programs into the kernel: run it as \
             root"
        );
        let mut plan = self.plan();
        eprintln!("this takes about {}", minutes(plan.duration()));
        eprintln!("{}", machine::description());
        if let Some(warning) = machine::company() {
            eprintln!("{warning}");
        }
        let cores = Cores::choose(!self.polite)?;
        let packages = Packages::below(self.directory.join("packages"));
        let workshop = Workshop::new(cores, packages)?;
        fetch_packages(&workshop, &mut plan);
        let figures = measure(&workshop, &plan);
        match self.output {
            Format::Table => print!("{}", report::tables(&figures)),
            Format::Json => print!("{}", report::json(&figures)),
        }
        for path in report::keep(&figures, &self.directory)? {
            workshop.say(path.display());
        }
        Ok(workshop.troubles())
    }
}

fn measure(workshop: &Workshop, plan: &Plan) -> Vec<Figure> {
    let mut figures = Vec::new();
    if plan.includes(Part::Frames) {
        figures.extend(frames::measure(workshop, plan));
    }
    if plan.includes(Part::Tcp) || plan.includes(Part::RoundTrips) {
        figures.extend(streams::measure(workshop, plan));
    }
    let mut take = |what: &str, result: Result<Vec<Figure>>| match result {
        Ok(more) => figures.extend(more),
        Err(error) => workshop.complain(format_args!("{what}: {error:#}")),
    };
    if plan.includes(Part::Rules) {
        take("rules", rules::measure(workshop, plan.rounds));
    }
    if plan.includes(Part::Costs) {
        take("costs", costs::measure(workshop, plan.rounds));
    }
    if plan.includes(Part::Memory) {
        take("memory", memory::measure(workshop, plan.rounds));
    }
    if plan.includes(Part::Primitives) {
        take("primitives", primitives::measure(workshop, plan.rounds));
    }
    if plan.includes(Part::Shapes) {
        figures.extend(overlay::measure_shapes(workshop, plan));
    }
    if plan.includes(Part::Overlay) {
        figures.extend(overlay::measure(workshop, plan));
    }
    figures
}

/// Gets the peers' programs before anything is measured; a path without its programs is left out.
fn fetch_packages(workshop: &Workshop, plan: &mut Plan) {
    let pairs = |part| plan.includes(part);
    let used = |path: &Path| {
        (pairs(Part::Frames) && path.joins_taps())
            || ((pairs(Part::Tcp) || pairs(Part::RoundTrips)) && path.joins_stations())
    };
    let used: Vec<Path> = plan.paths.iter().copied().filter(used).collect();
    for path in used {
        let Some(package) = path.package() else {
            continue;
        };
        if !workshop.packages.has(package) {
            workshop.say(format_args!(
                "fetching Debian's {package}: it is unpacked, not installed"
            ));
        }
        if let Err(error) = workshop.packages.unpacked(package) {
            workshop.complain(format_args!("{} is left out: {error:#}", path.title()));
            plan.paths.retain(|other| *other != path);
        }
    }
}

fn minutes(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..100 => format!("{seconds} s"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}

fn main() -> ExitCode {
    match Arguments::parse().run() {
        Ok(troubles) if troubles.is_empty() => ExitCode::SUCCESS,
        Ok(troubles) => {
            eprintln!("not everything could be measured:\n{}", troubles.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
