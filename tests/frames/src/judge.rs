//! Did a frame become what its vector says?
//!
//! Input: a vector and a runner. Output: every difference, as text for people, and a capture file
//! of input, expected and actual frame.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use vnet_common::reason::Reason;

use crate::actor::{AGENT, WIRE};
use crate::books::{self, Books};
use crate::build::{Built, build};
use crate::diff;
use crate::runner::{Door, Ran, Runner, Verdict};
use crate::stage::Stage;
use crate::vector::{Step, Vector};
use crate::world;

/// What a vector says that becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Out over a link.
    Forwarded(String),
    /// Up to the agent, which carries it over a link.
    Carried(String),
    /// Into a port.
    Delivered(String),
    /// Up to the agent.
    SlowPath,
    /// A probe, answered.
    Answered,
    /// Left to the host.
    Passed,
    /// Dropped.
    Dropped(Reason),
    /// Dropped as too big, and its beginning went up to the agent.
    Told,
}

impl Outcome {
    /// Reads a step's outcome.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn of(step: &Step) -> Result<Self> {
        let text = step.outcome.as_str();
        if let Some(link) = text.strip_prefix("forwarded over ") {
            return Ok(Self::Forwarded(link.to_owned()));
        }
        if let Some(link) = text.strip_prefix("carried over ") {
            return Ok(Self::Carried(link.to_owned()));
        }
        if let Some(port) = text.strip_prefix("delivered to ") {
            return Ok(Self::Delivered(port.to_owned()));
        }
        if text == "dropped: too-big, and told" {
            return Ok(Self::Told);
        }
        if let Some(name) = text.strip_prefix("dropped: ") {
            let reason = Reason::from_name(name);
            return Ok(Self::Dropped(
                reason.with_context(|| format!("no reason `{name}`"))?,
            ));
        }
        match text {
            "up to the agent" => Ok(Self::SlowPath),
            "answered" => Ok(Self::Answered),
            "passed" => Ok(Self::Passed),
            _ => bail!("`{text}` is no outcome"),
        }
    }

    fn is_met_by(&self, verdict: Verdict, stage: &Stage) -> Result<bool> {
        let is_out_by = |device| {
            Ok::<_, anyhow::Error>(
                verdict
                    == Verdict::Out {
                        at: stage.device(device)?,
                    },
            )
        };
        let redirected_to = |device: &str| {
            let device = stage.device(device)?;
            Ok::<_, anyhow::Error>(match verdict {
                Verdict::Redirected(Some(seen)) | Verdict::Out { at: seen } => seen == device,
                Verdict::Redirected(None) | Verdict::RedirectedOrBack => true,
                _ => false,
            })
        };
        Ok(match self {
            Self::Forwarded(_) => redirected_to(WIRE)?,
            Self::Delivered(port) => redirected_to(port)?,
            Self::Carried(_) | Self::SlowPath | Self::Told => redirected_to(AGENT)?,
            Self::Answered => {
                matches!(verdict, Verdict::Back | Verdict::RedirectedOrBack) || is_out_by(WIRE)?
            }
            Self::Passed => matches!(verdict, Verdict::Passed | Verdict::Nowhere),
            Self::Dropped(reason) => match verdict {
                Verdict::Dropped(seen) => seen.is_none_or(|seen| seen == *reason),
                Verdict::Nowhere => true,
                _ => false,
            },
        })
    }
}

/// The door and the device that a step's frame enters by.
///
/// # Errors
///
/// There is no such door.
pub fn door(step: &Step, stage: &Stage) -> Result<(Door, u32)> {
    Ok(match step.enters.as_str() {
        "underlay" => (Door::Underlay, stage.device(WIRE)?),
        "agent" => (Door::Agent, stage.device(AGENT)?),
        other => {
            let port = other.strip_prefix("port ");
            let port = port.with_context(|| format!("`{other}` is no door"))?;
            (Door::Port, stage.device(port)?)
        }
    })
}

/// How thoroughly a vector is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Each frame is run.
    Run,
    /// Each frame is asked about first, which must tell the truth and move nothing.
    AskAndRun,
}

/// Runs a vector. What is different from what it says comes back as text; nothing, if nothing is.
///
/// # Errors
///
/// The vector is not understood, or the runner fails.
pub fn judge(vector: &Vector, runner: &mut dyn Runner, manner: Manner) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    let mut added = Vec::new();
    runner.reset()?;
    runner.write(&world::entries(vector, &added, runner.stage())?)?;
    for (place, step) in vector.frame.iter().enumerate() {
        let number = place + 1;
        if !step.adds.is_empty() {
            added.extend_from_slice(&step.adds);
            runner.write(&world::entries(vector, &added, runner.stage())?)?;
        }
        let whole = build(&step.is, runner.stage(), None)
            .with_context(|| format!("{}, frame {number}", vector.name))?;
        for length in step.lengths()? {
            let input = length.map_or_else(|| whole.clone(), |length| whole.truncated(length));
            if input.bytes.len() < runner.frame_bytes_min() {
                continue;
            }
            let cut = length.map_or(String::new(), |length| format!(", cut to {length}"));
            let title = format!("{}, frame {number}{cut}", vector.name);
            let different = one(step, &input, &title, runner, manner)
                .with_context(|| format!("{title}, on {}", runner.name()))?;
            failures.extend(different);
        }
    }
    Ok(failures)
}

fn one(
    step: &Step,
    input: &Built,
    title: &str,
    runner: &mut dyn Runner,
    manner: Manner,
) -> Result<Option<String>> {
    let stage = runner.stage().clone();
    let outcome = Outcome::of(step)?;
    let leaves = match (&step.leaves, &outcome) {
        (None, Outcome::Dropped(_)) => None,
        (Some(layers), Outcome::Forwarded(_) | Outcome::Delivered(_) | Outcome::SlowPath)
        | (Some(layers), Outcome::Answered | Outcome::Passed | Outcome::Told)
        | (Some(layers), Outcome::Carried(_)) => {
            Some(build(layers, &stage, Some(input)).context("in what leaves")?)
        }
        (Some(_), Outcome::Dropped(_)) => bail!("a dropped frame does not leave"),
        (None, _) => bail!("how does the frame leave?"),
    };
    let (door, device) = door(step, &stage)?;
    let times = step.runs.unwrap_or(1);
    let mut problems = Vec::new();
    let before = runner.books()?;
    let asked = match manner {
        Manner::AskAndRun if times == 1 => runner.ask(door, device, &input.bytes)?,
        _ => None,
    };
    if let Some(asked) = &asked {
        problems.extend(traces(&before, &runner.books()?, &stage));
        ensure!(asked.verdict != Verdict::Aborted, "the program gave up");
    }
    let ran = runner.run(door, device, &input.bytes, times)?;
    let after = runner.books()?;
    if !outcome.is_met_by(ran.verdict, &stage)? {
        problems.push(format!("- {}\n+ {:?}", step.outcome, ran.verdict));
    }
    let counted = books::expected(&step.counts, input.bytes.len())?;
    problems.extend(books::differences(&counted, &after.since(&before, &stage)));
    for whose in after.unbalanced() {
        problems.push(format!("the books of {whose} do not add up"));
    }
    if let Some(asked) = &asked {
        problems.extend(untruth(asked, &ran, leaves.as_ref()));
    }
    // What passes is out of sight where nobody but the host could see it.
    let is_seen = ran.verdict != Verdict::Nowhere;
    let expected = leaves
        .filter(|_| is_seen)
        .map(|leaves| at_its_time(leaves, &ran));
    if expected
        .as_ref()
        .is_some_and(|expected| *expected != ran.frame)
        || !problems.is_empty()
    {
        let shown = diff::show(
            title,
            runner.name(),
            &input.bytes,
            expected.as_deref(),
            &ran.frame,
        );
        return Ok(Some(format!(
            "{title}, on {}\n{}\n{shown}",
            runner.name(),
            problems.join("\n")
        )));
    }
    Ok(None)
}

/// What a question moved, which must be nothing at all.
fn traces(before: &Books, after: &Books, stage: &Stage) -> Vec<String> {
    let moved: BTreeMap<_, _> = after.since(before, stage);
    let mut traces = books::differences(&BTreeMap::new(), &moved);
    if before.states != after.states {
        traces.push("+ a port's state".to_owned());
    }
    traces
        .iter()
        .map(|trace| format!("a question moved {trace}"))
        .collect()
}

/// How the answer to a question differs from what then happened.
fn untruth(asked: &Ran, ran: &Ran, leaves: Option<&Built>) -> Option<String> {
    let told = match leaves {
        Some(built) => masked(built, &asked.frame) == masked(built, &ran.frame),
        None => true,
    };
    (asked.verdict != ran.verdict || !told)
        .then(|| format!("asked, it said {:?} and another frame", asked.verdict))
}

/// A frame without its times.
fn masked(built: &Built, frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for &(at, bytes) in &built.clocks {
        if let Some(field) = frame.get_mut(at..at + bytes) {
            field.fill(0);
        }
    }
    frame
}

/// The expected frame, with the actual one's times where those lie within the run.
fn at_its_time(mut leaves: Built, ran: &Ran) -> Vec<u8> {
    let (began_ns, ended_ns) = ran.clock_ns;
    for &(at, bytes) in &leaves.clocks {
        let Some(seen) = ran.frame.get(at..at + bytes) else {
            continue;
        };
        let seen_ns = seen
            .iter()
            .fold(0u64, |time, byte| time << 8 | u64::from(*byte));
        // A field of four bytes has the low half of the clock.
        let mask = u64::MAX >> (64 - 8 * bytes.min(8));
        let is_within = (seen_ns.wrapping_sub(began_ns) & mask) <= (ended_ns - began_ns);
        if is_within && seen_ns != 0 {
            leaves.bytes[at..at + bytes].copy_from_slice(seen);
        }
    }
    leaves.bytes
}
