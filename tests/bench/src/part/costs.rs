//! What do counting, and the fields of a link's option, cost a frame?
//!
//! Each is switched off: the kernel side is built once more without it, and its programs run over the
//! tables of the same agent, in turn with the whole ones, as in [`super::rules`]. Every round has all
//! of them, so that what disturbs one disturbs the others.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use vnet_agent::dataplane::object::OBJECT;
use vnet_agent::dataplane::{DataPlane, Role};
use xtask::build_ebpf;

use crate::bpf;
use crate::figure::Figure;
use crate::frame::{GUEST_ONE, frame};
use crate::part::rules::{CALLS, LENGTH, Subject, open, ratios, rule_destination, time, typical};
use crate::report::number;
use crate::workshop::Workshop;

/// Rules of the agent: what a frame of a known flow costs does not depend on them.
const RULES: usize = 10;

/// What building all of them and starting an agent takes, about.
pub const START: Duration = Duration::from_secs(60);
/// What a round takes, about.
pub const ROUND: Duration = Duration::from_millis(600);

/// What is left out: the word in names of figures, people's words, and the features of `vnet-ebpf`.
const LESS: [(&str, &str, &[&str]); 4] = [
    (
        "without_ledgers",
        "without ledgers of ports, links and the underlay",
        &["without-ledgers"],
    ),
    (
        "without_flow_counters",
        "without counters of flows",
        &["without-flow-counters"],
    ),
    (
        "without_link_fields",
        "without a link's stream, sequence and time",
        &["without-link-fields"],
    ),
    (
        "without_all",
        "without all of these",
        &[
            "without-ledgers",
            "without-flow-counters",
            "without-link-fields",
        ],
    ),
];

/// Programs, and their samples, one a round, in nanoseconds.
struct Build {
    name: &'static str,
    title: &'static str,
    plane: DataPlane,
    port: Vec<f64>,
    underlay: Vec<f64>,
}

/// Measures.
///
/// # Errors
///
/// The kernel side cannot be built, an agent does not start, or a program does something else than
/// send the frame on.
pub fn measure(workshop: &Workshop, rounds: u32) -> Result<Vec<Figure>> {
    let mut objects = vec![("whole", "whole", OBJECT.to_vec())];
    for (name, title, features) in LESS {
        workshop.say(format_args!("building the programs {title}"));
        let built = build_ebpf::build(features)?;
        objects.push((name, title, fs::read(built.object)?));
    }
    let subject = Subject::new(workshop, RULES)?;
    let builds: Result<Vec<Build>> = objects
        .into_iter()
        .map(|(name, title, object)| {
            Ok(Build {
                name,
                title,
                plane: open(&subject.bed, &object)
                    .with_context(|| format!("the programs {title}"))?,
                port: Vec::new(),
                underlay: Vec::new(),
            })
        })
        .collect();
    let mut builds = builds?;
    for round in 1..=rounds {
        sample(workshop, &subject, &mut builds)?;
        for build in &builds {
            let last = |samples: &[f64]| number(samples.last().copied().unwrap_or_default());
            workshop.say(format_args!(
                "round {round} of {rounds}: {}: port {} ns, underlay {} ns",
                build.title,
                last(&build.port),
                last(&build.underlay)
            ));
        }
    }
    Ok(figures(&builds))
}

fn sample(workshop: &Workshop, subject: &Subject, builds: &mut [Build]) -> Result<()> {
    let (tap, cable) = (subject.tap, subject.cable);
    let known = frame(GUEST_ONE, rule_destination(0), LENGTH);
    subject.bed.one.inside(|| -> Result<()> {
        workshop.cores.take_senders()?;
        let empty = bpf::load(bpf::Hook::Xdp, &bpf::pass())?;
        let nothing = typical(CALLS, || Ok(f64::from(bpf::time(&empty, &known, 1)?)))?;
        for build in builds {
            let plane = &mut build.plane;
            let port = typical(CALLS, || time(plane, Role::Port, tap, &known))?;
            let packet = &subject.packet;
            let underlay = typical(CALLS, || time(plane, Role::Underlay, cable, packet))?;
            build.port.push(port - nothing);
            build.underlay.push(underlay - nothing);
        }
        Ok(())
    })?
}

fn figures(builds: &[Build]) -> Vec<Figure> {
    type Of = fn(&Build) -> &[f64];
    let programs: [(&str, Of); 2] = [
        ("port", |build| &build.port),
        ("underlay", |build| &build.underlay),
    ];
    let mut figures = Vec::new();
    for (program, of) in programs {
        for build in builds {
            figures.push(Figure::new(
                format!("cost_ns.{program}.{}", build.name),
                format!("{program} program, a known flow, {}", build.title),
                "ns",
                of(build),
            ));
        }
        let Some((whole, less)) = builds.split_first() else {
            continue;
        };
        for build in less {
            figures.push(Figure::new(
                format!("cost_frames.{program}.{}", build.name),
                format!(
                    "{program} program, frames a second, {} over whole",
                    build.title
                ),
                "x",
                &ratios(of(whole), of(build)),
            ));
        }
    }
    figures.into_iter().flatten().collect()
}
