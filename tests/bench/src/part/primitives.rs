//! How long does one change, or one question, take a client?
//!
//! The primitives of the documents (thesis proposal, section 3.2: "about 20 ms, including client
//! time"), each from the start of the client's process to its end, against an agent with a
//! configuration as a busy host has it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::Binaries;

use super::memory;
use crate::figure::{Bound, Figure, percentile};
use crate::taps::TAP;
use crate::workshop::Workshop;

/// How often each is done in a round.
const TIMES: usize = 30;
/// What the median may be, milliseconds.
const GOAL_MS: f64 = 2.0;
/// What it is in the documents.
const DOCUMENTS_MS: f64 = 20.0;

/// What a round takes, about.
pub const ROUND: Duration = Duration::from_millis(4000);

const LINK: &str = "link add to-new --remote 10.0.0.99 --network net0 --cookie 0123456789abcdef";
const RULE: &str = "rule add --network net0 --to 52:54:00:00:09:09 --link link0";

/// What is done, one after the other, so that each finds what it needs.
const PRIMITIVES: [(&str, &str); 7] = [
    ("link_add", LINK),
    ("rule_add", RULE),
    ("interface_list", "interface list"),
    ("link_list", "link list"),
    ("rule_list", "rule list"),
    (
        "rule_delete",
        "rule delete --network net0 --from any --to 52:54:00:00:09:09",
    ),
    ("link_delete", "link delete to-new"),
];

/// Where the agent keeps what changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// In memory: what the change itself costs.
    Memory,
    /// On this machine's disk, which has it before the client gets its answer.
    Disk,
}

/// Does every primitive many times a round.
///
/// # Errors
///
/// The agent does not start, or refuses one.
pub fn measure(workshop: &Workshop, rounds: u32) -> Result<Vec<Figure>> {
    let binaries = Binaries::find()?;
    let mut medians: BTreeMap<(&str, State), Vec<f64>> = BTreeMap::new();
    for round in 1..=rounds {
        for state in [State::Memory, State::Disk] {
            for (name, mut times_ms) in of_agent(workshop, &binaries, state)? {
                times_ms.sort_by(f64::total_cmp);
                let samples = medians.entry((name, state)).or_default();
                samples.extend(percentile(&times_ms, 0.5));
            }
        }
        workshop.say(format_args!("round {round} of {rounds}: primitives"));
    }
    let mut figures = Vec::new();
    for (name, line) in PRIMITIVES {
        let words: Vec<&str> = line.split(' ').take(2).collect();
        let verb = words.join(" ");
        let samples = |state| medians.get(&(name, state)).map_or(&[][..], Vec::as_slice);
        let title = format!("vnetctl {verb}, client included");
        let in_memory = samples(State::Memory);
        let figure = Figure::new(format!("primitive_ms.{name}"), &title, "ms", in_memory);
        figures.extend(figure.map(|figure| {
            let figure = figure.with_goal(Bound::AtMost(GOAL_MS));
            figure.with_documents(DOCUMENTS_MS)
        }));
        if !verb.ends_with("list") {
            let name = format!("primitive_ms.{name}.on_disk");
            let title = format!("{title}, kept on this disk first");
            figures.extend(Figure::new(name, title, "ms", samples(State::Disk)));
        }
    }
    Ok(figures)
}

fn of_agent(
    workshop: &Workshop,
    binaries: &Binaries,
    state: State,
) -> Result<BTreeMap<&'static str, Vec<f64>>> {
    let bed = workshop.bed(TAP)?;
    let _guests = memory::furnish(&bed)?;
    let in_memory = tempfile::tempdir_in("/dev/shm")?;
    let mut settings = memory::settings()?;
    if state == State::Memory {
        let directory = in_memory.path().display();
        settings = format!("[agent]\nstate_directory = \"{directory}\"\n{settings}");
    }
    let _agent = bed.one.agent(&settings)?;
    let socket = bed.one.agent_socket();
    let mut times_ms: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..TIMES {
        for (name, line) in PRIMITIVES {
            let sample_ms = once(&binaries.vnetctl, &socket, line)?;
            times_ms.entry(name).or_default().push(sample_ms);
        }
    }
    Ok(times_ms)
}

/// The time from the start of the client to its end, milliseconds.
fn once(vnetctl: &Path, socket: &Path, line: &str) -> Result<f64> {
    let mut command = Command::new(vnetctl);
    command.env("VNET_SOCKET", socket).args(line.split(' '));
    let began = Instant::now();
    let output = command.output()?;
    let took = began.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "vnetctl {line}: {said}");
    Ok(took.as_secs_f64() * 1e3)
}
