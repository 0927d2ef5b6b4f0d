//! How many frames a second cross each path, tap to tap?
//!
//! Rounds of all paths one after the other, each over a fresh bed, each with every length of
//! frame. Output: the rate of every path, what was lost, and ours as ratios to the others.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use aya::programs::{ProgramInfo, loaded_programs};
use vnet_common::name;

use crate::figure::{Bound, Figure};
use crate::frame::{GUEST_ONE, GUEST_TWO, frame};
use crate::part::over_paths;
use crate::path::Path;
use crate::plan::Plan;
use crate::report::number;
use crate::rounds::Rounds;
use crate::taps::{TAP, Taps};
use crate::traffic::{self, Load, Measured};
use crate::workshop::Workshop;

/// The lengths of frames, bytes, without frame check sequence.
pub const LENGTHS: [usize; 3] = [64, 512, 1400];
/// The length for which there are goals.
const SHORT: usize = 64;
/// The length for which bits are shown too.
const LONG: usize = 1400;
/// What is compared with what, and what is aimed at.
const RATIOS: [(Path, Path, Option<Bound>); 10] = [
    (Path::VnetXdp, Path::BridgeVxlan, Some(Bound::AtLeast(3.5))),
    (Path::VnetXdp, Path::Ovs, Some(Bound::AtLeast(6.0))),
    (Path::VnetXdp, Path::Tinc, None),
    (Path::VnetXdp, Path::Redirect, Some(Bound::AtLeast(0.85))),
    (Path::VnetXdpCountedTwice, Path::BridgeVxlan, None),
    (Path::VnetXdpCountedTwice, Path::Redirect, None),
    (Path::VnetXdpUncounted, Path::BridgeVxlan, None),
    (Path::VnetXdpUncounted, Path::Redirect, None),
    (Path::VnetTc, Path::BridgeVxlan, None),
    (Path::VnetTc, Path::VnetXdp, None),
];
/// How long an agent that is on its way out is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    path: Path,
    length: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Rate,
    Lost,
}

/// Measures.
#[must_use]
pub fn measure(workshop: &Workshop, plan: &Plan) -> Vec<Figure> {
    let one = |path, rounds: &mut _| one_path(workshop, plan, path, rounds);
    let rounds = over_paths(workshop, plan, "frames", Path::joins_taps, one);
    figures(&plan.paths, &rounds)
}

fn one_path(workshop: &Workshop, plan: &Plan, path: Path, rounds: &mut Rounds<Key>) -> Result<()> {
    if !is_alone() {
        workshop.say("an agent elsewhere on this machine watches every redirect, and so slows us");
    }
    let bed = workshop.bed(TAP)?;
    let taps = Taps::new(&bed)?;
    let _held = path.lay(&bed, &workshop.packages)?;
    taps.prove()?;
    let round_trip = workshop.cores.round_trip()?;
    rounds.record_distance(round_trip);
    workshop.say(format_args!(
        "    {round_trip:?} from core to core and back"
    ));
    for length in LENGTHS {
        let measured = one_length(workshop, plan, path, &taps, length)?;
        workshop.say(format_args!(
            "    {length:>4} bytes: {} frames/s, {} % lost; the sender had {} % of its core",
            number(measured.frames_per_second),
            number(measured.lost_percent),
            number(measured.core_percent),
        ));
        let mut record = |what, value| rounds.record(Key { path, length, what }, value);
        record(What::Rate, measured.frames_per_second);
        record(What::Lost, measured.lost_percent);
    }
    Ok(())
}

/// Waits until no agent's program watches the kernel's redirects, which are the whole machine's:
/// one that a bed left behind is gone in a moment, one of somebody else's stays.
fn is_alone() -> bool {
    let deadline = Instant::now() + PATIENCE;
    // A program that is gone by the time it is asked for its name does not watch.
    let watches = |program: ProgramInfo| program.name() == name::DEVICE_REFUSED.as_bytes();
    while loaded_programs().flatten().any(watches) {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

fn one_length(
    workshop: &Workshop,
    plan: &Plan,
    path: Path,
    taps: &Taps,
    length: usize,
) -> Result<Measured> {
    let sent = frame(GUEST_ONE, GUEST_TWO, length);
    let load = Load {
        frame: &sent,
        shares_cores: path.is_in_user_space(),
        warm_up: plan.warm_up,
        window: plan.window,
    };
    let (from, to) = (taps.sender.as_fd(), taps.receiver.as_fd());
    traffic::measure(workshop.cores, from, to, load)
}

fn figures(paths: &[Path], rounds: &Rounds<Key>) -> Vec<Figure> {
    let mut figures = Vec::new();
    for length in LENGTHS {
        figures.extend(rates(paths, rounds, length));
        figures.extend(ratios(rounds, length));
    }
    figures.extend(Figure::new(
        "core_round_trip_ns",
        "a cache line from the sender's core to the receiver's and back",
        "ns",
        &rounds.distances_ns(),
    ));
    figures
}

fn rates(paths: &[Path], rounds: &Rounds<Key>, length: usize) -> Vec<Figure> {
    let kinds: [(&str, &str, &str, What, f64); 3] = [
        ("frames_per_second", "", "frames/s", What::Rate, 1.0),
        (
            "gigabits_per_second",
            "",
            "Gbit/s",
            What::Rate,
            length as f64 * 8e-9,
        ),
        ("lost_percent", ", lost", "%", What::Lost, 1.0),
    ];
    let mut figures = Vec::new();
    for (name, title, unit, what, factor) in kinds {
        if unit == "Gbit/s" && length != LONG {
            continue;
        }
        for &path in paths {
            let samples = rounds.combined([Key { path, length, what }], |[value]| value * factor);
            let figure = Figure::new(
                format!("{name}.{length}.{}", path.name()),
                format!("{length}-byte frames{title}: {}", path.title()),
                unit,
                &samples,
            );
            let about = |figure: Figure| figure.about("path", path.name()).about("size", length);
            figures.extend(figure.map(about));
        }
    }
    figures
}

fn ratios(rounds: &Rounds<Key>, length: usize) -> Vec<Figure> {
    let rate = |path| Key {
        path,
        length,
        what: What::Rate,
    };
    let ratio = |(path, peer, goal): (Path, Path, Option<Bound>)| {
        let figure = Figure::new(
            format!("ratio.{length}.{}.{}", path.name(), peer.name()),
            format!(
                "{length}-byte frames: {} over {}",
                path.title(),
                peer.title()
            ),
            "x",
            &rounds.ratios(rate(path), rate(peer)),
        )?;
        let figure = figure.about("path", path.name()).about("peer", peer.name());
        let figure = figure.about("size", length);
        // The goals are for the shortest frames.
        Some(match goal.filter(|_| length == SHORT) {
            Some(goal) => figure.with_goal(goal),
            None => figure,
        })
    };
    RATIOS.into_iter().filter_map(ratio).collect()
}
