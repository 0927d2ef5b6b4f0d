//! How many frames a second cross each path, tap to tap?
//!
//! Rounds of all paths one after the other, each over a fresh bed, each with every length of
//! frame. Output: the rate of every path, what was lost, and ours as ratios to the others.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::programs::{ProgramInfo, loaded_programs};
use lab::Lab;
use vnet_common::name;

use crate::bed::Bed;
use crate::cores::Cores;
use crate::figure::{Bound, Figure, ratios};
use crate::frame::{GUEST_ONE, GUEST_TWO, frame};
use crate::path::Path;
use crate::report::number;
use crate::traffic::{self, Load, Measured};

/// The lengths of frames, bytes, without frame check sequence.
const LENGTHS: [usize; 2] = [64, 1400];
/// What is compared with what, and what is aimed at.
const RATIOS: [(Path, Path, Option<Bound>); 6] = [
    (Path::Vnet, Path::BridgeVxlan, Some(Bound::AtLeast(3.0))),
    (Path::VnetCountedOnce, Path::BridgeVxlan, None),
    (Path::VnetUncounted, Path::BridgeVxlan, None),
    (Path::Vnet, Path::Redirect, Some(Bound::AtLeast(0.75))),
    (Path::VnetCountedOnce, Path::Redirect, None),
    (Path::VnetUncounted, Path::Redirect, None),
];
/// Laying a path and clearing it away again, about.
const LAYING: Duration = Duration::from_millis(1500);
/// What the kernel clears away behind a dropped namespace is gone by then.
const CLEARING: Duration = Duration::from_millis(300);
/// How long an agent that is on its way out is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which paths.
    pub paths: Vec<Path>,
    /// How often each.
    pub rounds: u32,
    /// Sent and not counted, before each measurement.
    pub warm_up: Duration,
    /// Counted, in each measurement.
    pub window: Duration,
}

impl Plan {
    /// How long it takes, about.
    #[must_use]
    pub fn duration(&self) -> Duration {
        let lengths = u32::try_from(LENGTHS.len()).unwrap_or(u32::MAX);
        let paths = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        ((self.warm_up + self.window) * lengths + LAYING) * paths * self.rounds
    }
}

/// What was measured, by path and length, in the order of the rounds.
#[derive(Default)]
struct Samples {
    traffic: BTreeMap<(&'static str, usize), Vec<Measured>>,
    /// From core to core and back, nanoseconds, one a bed.
    round_trips: Vec<f64>,
}

/// Measures.
///
/// # Errors
///
/// A path does not work.
pub fn measure(
    lab: &Lab,
    plan: &Plan,
    cores: Cores,
    mut progress: impl FnMut(&str),
) -> Result<Vec<Figure>> {
    let mut samples = Samples::default();
    let mut number_of_bed = 0;
    for round in 1..=plan.rounds {
        for &path in &plan.paths {
            number_of_bed += 1;
            if !is_alone() {
                progress(
                    "an agent elsewhere on this machine watches every redirect, and so slows us",
                );
            }
            let bed = Bed::new(lab, number_of_bed)?;
            let held = path.lay(&bed).context(path.title())?;
            let round_trip = cores.round_trip()?;
            samples.round_trips.push(round_trip.as_secs_f64() * 1e9);
            for length in LENGTHS {
                let measured = one(plan, cores, &bed, length)?;
                progress(&format!(
                    "round {round} of {}: {length:>4} bytes, {}: {} frames/s, {} % lost; the sender \
                     had {} % of its core, {round_trip:?} from core to core and back",
                    plan.rounds,
                    path.title(),
                    number(measured.frames_per_second),
                    number(measured.lost_percent),
                    number(measured.core_percent),
                ));
                samples
                    .traffic
                    .entry((path.name(), length))
                    .or_default()
                    .push(measured);
            }
            drop(held);
            drop(bed);
            thread::sleep(CLEARING);
        }
    }
    Ok(figures(&plan.paths, &samples))
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

fn one(plan: &Plan, cores: Cores, bed: &Bed, length: usize) -> Result<Measured> {
    let sent = frame(GUEST_ONE, GUEST_TWO, length);
    let load = Load {
        frame: &sent,
        warm_up: plan.warm_up,
        window: plan.window,
    };
    traffic::measure(cores, bed.sender.as_fd(), bed.receiver.as_fd(), load)
}

fn figures(paths: &[Path], samples: &Samples) -> Vec<Figure> {
    let of = |path: Path, length: usize, value: fn(&Measured) -> f64| -> Vec<f64> {
        let measured = samples.traffic.get(&(path.name(), length));
        measured.into_iter().flatten().map(value).collect()
    };
    let rates = |path, length| of(path, length, |measured| measured.frames_per_second);
    let mut figures: Vec<Option<Figure>> = Vec::new();
    for length in LENGTHS {
        for &path in paths {
            let (name, title) = (path.name(), path.title());
            figures.push(Figure::new(
                format!("frames_per_second.{length}.{name}"),
                format!("{length}-byte frames: {title}"),
                "frames/s",
                &rates(path, length),
            ));
            if length == LENGTHS[1] {
                let gigabits: Vec<f64> = rates(path, length)
                    .iter()
                    .map(|rate| rate * length as f64 * 8e-9)
                    .collect();
                figures.push(Figure::new(
                    format!("gigabits_per_second.{length}.{name}"),
                    format!("{length}-byte frames: {title}"),
                    "Gbit/s",
                    &gigabits,
                ));
            }
            figures.push(Figure::new(
                format!("lost_percent.{length}.{name}"),
                format!("{length}-byte frames: {title}: lost"),
                "%",
                &of(path, length, |measured| measured.lost_percent),
            ));
        }
        for (path, peer, goal) in RATIOS {
            let ratios = ratios(&rates(path, length), &rates(peer, length));
            let ratio = Figure::new(
                format!("ratio.{length}.{}.{}", path.name(), peer.name()),
                format!(
                    "{length}-byte frames: {} over {}",
                    path.title(),
                    peer.title()
                ),
                "x",
                &ratios,
            );
            // The goals are for the shortest frames.
            figures.push(ratio.map(|ratio| match goal {
                Some(goal) if length == LENGTHS[0] => ratio.with_goal(goal),
                _ => ratio,
            }));
        }
    }
    figures.push(Figure::new(
        "core_round_trip_ns",
        "a cache line from the sender's core to the receiver's and back",
        "ns",
        &samples.round_trips,
    ));
    figures.into_iter().flatten().collect()
}
