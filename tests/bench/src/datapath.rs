//! How many frames a second cross each path, tap to tap?
//!
//! Rounds of all paths one after the other, each over a fresh bed, each with every length of
//! frame. Output: the rate of every path, what was lost, and ours as ratios to the others.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::Lab;

use crate::bed::Bed;
use crate::figure::{Bound, Figure, ratios};
use crate::frame::{GUEST_ONE, GUEST_TWO, frame};
use crate::path::Path;
use crate::report::number;
use crate::traffic::{self, Cores, Load, Measured};

/// The lengths of frames, bytes, without frame check sequence.
const LENGTHS: [usize; 2] = [64, 1400];
/// Laying a path and clearing it away again, about.
const LAYING: Duration = Duration::from_millis(1500);
/// What the kernel clears away behind a dropped namespace is gone by then.
const CLEARING: Duration = Duration::from_millis(300);

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
type Samples = BTreeMap<(&'static str, usize), Vec<Measured>>;

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
    let mut samples = Samples::new();
    let mut number_of_bed = 0;
    for round in 1..=plan.rounds {
        for &path in &plan.paths {
            number_of_bed += 1;
            let bed = Bed::new(lab, number_of_bed)?;
            let held = path.lay(&bed).context(path.title())?;
            for length in LENGTHS {
                let measured = one(plan, cores, &bed, length)?;
                progress(&format!(
                    "round {round} of {}: {length:>4} bytes, {}: {} frames/s, {} % lost, \
                     the sender had {} % of its core",
                    plan.rounds,
                    path.title(),
                    number(measured.frames_per_second),
                    number(measured.lost_percent),
                    number(measured.core_percent),
                ));
                samples
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
        let samples = samples.get(&(path.name(), length)).map(Vec::as_slice);
        samples.unwrap_or_default().iter().map(value).collect()
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
        for (peer, goal) in [(Path::BridgeVxlan, 3.0), (Path::Redirect, 0.75)] {
            let ratios = ratios(&rates(Path::Vnet, length), &rates(peer, length));
            let ratio = Figure::new(
                format!("ratio.{length}.vnet.{}", peer.name()),
                format!(
                    "{length}-byte frames: this data plane over {}",
                    peer.title()
                ),
                "x",
                &ratios,
            );
            // The goals are for the shortest frames.
            figures.push(ratio.map(|ratio| match length {
                64 => ratio.with_goal(Bound::AtLeast(goal)),
                _ => ratio,
            }));
        }
    }
    figures.into_iter().flatten().collect()
}
