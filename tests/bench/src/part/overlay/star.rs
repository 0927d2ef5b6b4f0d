//! How long does it take until the overlay has another shape?
//!
//! A star from nothing, then direct links and rules: from each agent to each, and from each to the next
//! one (a bus). The time is that of `vnetctl topology apply`, from its start to its end: it ends when
//! every agent has its part on disk and in force. While the last changes are made, guests send each
//! other numbered frames.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vnet_agent::model::topology::Topology;

use super::shapes::{bus, mesh};
use crate::constellation::Constellation;
use crate::figure::{Bound, Figure};
use crate::paced::{Arrived, Stream, while_sending};
use crate::workshop::Workshop;

/// How many agents there are, and how often the smaller overlay is reshaped in a round.
const FEW: usize = 8;
const MANY: usize = 28;
const TIMES: usize = 3;
/// Between two frames of a stream under which the overlay is reshaped.
const PAUSE: Duration = Duration::from_micros(100);
/// Before the first change and after each.
const BETWEEN: Duration = Duration::from_millis(100);

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Star(usize),
    Mesh(usize),
    Bus(usize),
    Crossed(usize),
    Sent,
    Lost,
    Doubled,
}

type Samples = BTreeMap<What, Vec<f64>>;

/// Measures: few agents every round, many every second one.
///
/// # Errors
///
/// An agent does not start, or a change is refused.
pub fn measure(workshop: &Workshop, rounds: u32) -> Result<Vec<Figure>> {
    let mut samples = Samples::new();
    for round in 0..rounds {
        workshop.say(format_args!(
            "round {} of {rounds}: {FEW} agents",
            round + 1
        ));
        few(workshop, &mut samples)?;
        if round % 2 == 0 {
            workshop.say(format_args!(
                "round {} of {rounds}: {MANY} agents",
                round + 1
            ));
            many(workshop, &mut samples)?;
        }
    }
    Ok(figures(&samples))
}

fn few(workshop: &Workshop, samples: &mut Samples) -> Result<()> {
    let constellation = workshop.constellation(FEW)?;
    form(workshop, &constellation, FEW, samples)?;
    let star = constellation.topology()?;
    let (mesh, bus) = (mesh(&star, &constellation), bus(&star, &constellation));
    for _ in 0..TIMES {
        reshape(workshop, &constellation, &mesh, What::Mesh(FEW), samples)?;
        constellation.apply(&star)?;
        reshape(workshop, &constellation, &bus, What::Bus(FEW), samples)?;
        constellation.apply(&star)?;
    }
    under_load(workshop, &constellation, &[mesh, bus, star], samples)
}

fn many(workshop: &Workshop, samples: &mut Samples) -> Result<()> {
    let constellation = workshop.constellation(MANY)?;
    form(workshop, &constellation, MANY, samples)?;
    let mesh = mesh(&constellation.topology()?, &constellation);
    reshape(workshop, &constellation, &mesh, What::Mesh(MANY), samples)
}

fn form(
    workshop: &Workshop,
    constellation: &Constellation,
    count: usize,
    samples: &mut Samples,
) -> Result<()> {
    let took = constellation.form()?;
    let [in_force, crossed] = [took.in_force, took.crossed].map(ms);
    workshop.say(format_args!(
        "    a star of {count}: {in_force:.1} ms, frames crossed after {crossed:.1} ms"
    ));
    samples.entry(What::Star(count)).or_default().push(in_force);
    samples
        .entry(What::Crossed(count))
        .or_default()
        .push(crossed);
    Ok(())
}

fn reshape(
    workshop: &Workshop,
    constellation: &Constellation,
    wanted: &Topology,
    what: What,
    samples: &mut Samples,
) -> Result<()> {
    let took = constellation.apply(wanted)?;
    let [in_force, crossed] = [took.in_force, took.crossed].map(ms);
    workshop.say(format_args!(
        "    {} links and {} rules: {in_force:.1} ms, frames crossed after {crossed:.1} ms",
        wanted.links.len(),
        wanted.rules.len()
    ));
    samples.entry(what).or_default().push(in_force);
    Ok(())
}

/// Reshapes the overlay again and again while guests of distant agents send each other frames.
fn under_load(
    workshop: &Workshop,
    constellation: &Constellation,
    shapes: &[Topology],
    samples: &mut Samples,
) -> Result<()> {
    let agents = constellation.agents();
    let first = agents.first().context("there are agents")?;
    let last = agents.last().context("there are agents")?;
    let streams = [(first, last), (last, first)].map(|(from, to)| Stream {
        from: &from.guest,
        to: &to.guest,
        pause: PAUSE,
    });
    let arrived = while_sending(&streams, || {
        thread::sleep(BETWEEN);
        for shape in shapes {
            constellation.apply_only(shape)?;
            thread::sleep(BETWEEN);
        }
        Ok(())
    })?;
    let sum = |of: fn(&Arrived) -> u64| -> f64 { arrived.iter().map(|one| of(one) as f64).sum() };
    let sent = sum(|one| one.sent);
    let (lost, doubled) = (sum(|one| one.lost()), sum(|one| one.doubled));
    ensure!(sent > 1000.0, "{sent} frames are no load");
    workshop.say(format_args!(
        "    {} changes under load: of {sent} frames {lost} lost, {doubled} doubled",
        shapes.len()
    ));
    for (what, value) in [
        (What::Sent, sent),
        (What::Lost, lost),
        (What::Doubled, doubled),
    ] {
        samples.entry(what).or_default().push(value);
    }
    Ok(())
}

fn figures(samples: &Samples) -> Vec<Figure> {
    let figure = |what, name: &str, title: &str, unit, goal: Option<f64>, documents| {
        let samples = samples.get(&what).map_or(&[][..], Vec::as_slice);
        let figure = Figure::new(name, title, unit, samples)?;
        let figure = match goal {
            Some(goal) => figure.with_goal(Bound::AtMost(goal)),
            None => figure,
        };
        Some(match documents {
            Some(documents) => figure.with_documents(documents),
            None => figure,
        })
    };
    let few = "8 agents that are up";
    let many = "28 agents that are up";
    let whole = "a star from nothing";
    let apply = "topology apply";
    [
        figure(
            What::Star(FEW),
            "overlay_ms.star.8",
            &format!("{whole}, {few}"),
            "ms",
            Some(100.0),
            Some(940.0),
        ),
        figure(
            What::Crossed(FEW),
            "overlay_ms.star_crossed.8",
            &format!("{whole}, {few}, until frames crossed it"),
            "ms",
            None,
            None,
        ),
        figure(
            What::Mesh(FEW),
            "overlay_ms.mesh.8",
            &format!("{apply}: links and rules from each of 8 to each"),
            "ms",
            Some(100.0),
            Some(1600.0),
        ),
        figure(
            What::Bus(FEW),
            "overlay_ms.bus.8",
            &format!("{apply}: links and rules along 8 as a bus"),
            "ms",
            Some(100.0),
            Some(3230.0),
        ),
        figure(
            What::Star(MANY),
            "overlay_ms.star.28",
            &format!("{whole}, {many}"),
            "ms",
            Some(1000.0),
            Some(2900.0),
        ),
        figure(
            What::Crossed(MANY),
            "overlay_ms.star_crossed.28",
            &format!("{whole}, {many}, until frames crossed it"),
            "ms",
            None,
            None,
        ),
        figure(
            What::Mesh(MANY),
            "overlay_ms.mesh.28",
            &format!("{apply}: links and rules from each of 28 to each"),
            "ms",
            Some(1000.0),
            Some(20_500.0),
        ),
        figure(
            What::Sent,
            "overlay_frames.sent",
            "three changes of the whole topology under load: frames sent",
            "frames",
            None,
            None,
        ),
        figure(
            What::Lost,
            "overlay_frames.lost",
            "three changes of the whole topology under load: lost",
            "frames",
            Some(0.0),
            None,
        ),
        figure(
            What::Doubled,
            "overlay_frames.doubled",
            "three changes of the whole topology under load: came twice",
            "frames",
            Some(0.0),
            None,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
