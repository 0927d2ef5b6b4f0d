//! What did a frame move? Everything that is counted or remembered, before and after, in words.
//!
//! Input: the raw books of a runner. Output: lines by subject, in one canonical form, so that what
//! a vector expects and what was seen compare as text and every other movement shows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use vnet_common::addr::Mac;
use vnet_common::reason::Reason;
use vnet_common::table::action::Decision;
use vnet_common::table::event::Event;
use vnet_common::table::flow::{FlowEntry, FlowKey};
use vnet_common::table::ledger::{Ledger, Tally};
use vnet_common::table::port::PortState;

use crate::actor;
use crate::stage::Stage;

/// Everything that programs write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Ledgers by slot.
    pub ledgers: BTreeMap<u32, Ledger>,
    /// Flows.
    pub flows: BTreeMap<FlowKey, FlowEntry>,
    /// What is kept for ports.
    pub states: BTreeMap<u32, PortState>,
    /// Events since the last look.
    pub events: Vec<Event>,
}

/// Movements by subject, canonical.
pub type Movements = BTreeMap<String, BTreeSet<String>>;

impl Books {
    /// What moved since `before`.
    pub fn since(&self, before: &Self, stage: &Stage) -> Movements {
        let mut movements = Movements::new();
        for (slot, ledger) in &self.ledgers {
            let earlier = before.ledgers.get(slot).copied().unwrap_or(Ledger::ZERO);
            movements.insert(Stage::ledger_name(*slot), ledger_moves(ledger, &earlier));
        }
        for (key, flow) in &self.flows {
            let (packets, bytes) = match before.flows.get(key) {
                Some(earlier) => (flow.packets - earlier.packets, flow.bytes - earlier.bytes),
                None => (flow.packets, flow.bytes),
            };
            let is_same = before.flows.get(key) == Some(flow);
            let decision = decision(flow.action.decision(), stage);
            let moved = (!is_same).then(|| format!("{packets}/{bytes} {decision}"));
            movements.insert(flow_name(key, stage), moved.into_iter().collect());
        }
        for (device, state) in &self.states {
            let earlier = before.states.get(device).map_or(0, |state| state.learned);
            let learned = (state.learned != earlier)
                .then(|| format!("learned {}", actor::name_of(Mac::from_bits(state.learned))));
            let subject = format!("port {}", stage.device_name(*device));
            movements.entry(subject).or_default().extend(learned);
        }
        for event in &self.events {
            let subject = format!("port {}", stage.device_name(event.port.0));
            let told = format!("told of {}", actor::name_of(event.address));
            movements.entry(subject).or_default().insert(told);
        }
        movements.retain(|_, moves| !moves.is_empty());
        movements
    }

    /// Whose books do not add up.
    pub fn unbalanced(&self) -> Vec<String> {
        let wrong = self
            .ledgers
            .iter()
            .filter(|(_, ledger)| !ledger.is_balanced());
        wrong.map(|(slot, _)| Stage::ledger_name(*slot)).collect()
    }
}

fn flow_name(key: &FlowKey, stage: &Stage) -> String {
    let network = match stage.network_name(key.network).as_str() {
        "blue" => String::new(),
        other => format!("{other} "),
    };
    let (from, to) = (key.stations.source(), key.stations.destination());
    format!(
        "flow {network}{} -> {}",
        actor::name_of(from),
        actor::name_of(to)
    )
}

fn decision(decision: Option<Decision>, stage: &Stage) -> String {
    match decision {
        Some(Decision::Deliver(port)) => format!("to port {}", stage.device_name(port.0)),
        Some(Decision::Send(link)) => format!("to link {}", stage.link_name(link)),
        Some(Decision::Flood) => "to the agent".to_owned(),
        Some(Decision::Drop(reason)) => format!("dropped {reason}"),
        None => "undecided".to_owned(),
    }
}

fn ledger_moves(after: &Ledger, before: &Ledger) -> BTreeSet<String> {
    let mut moves = BTreeSet::new();
    let tallies = [
        ("received", after.received, before.received),
        ("sent", after.sent, before.sent),
    ];
    for (name, after, before) in tallies {
        let Tally { packets, bytes } = after;
        if after != before {
            let (packets, bytes) = (packets - before.packets, bytes - before.bytes);
            moves.insert(format!("{name} {packets}/{bytes}"));
        }
    }
    let counts = [
        ("forwarded", after.forwarded, before.forwarded),
        ("delivered", after.delivered, before.delivered),
        ("slow-path", after.slow_path, before.slow_path),
        ("answered", after.answered, before.answered),
        ("passed", after.passed, before.passed),
        ("refused", after.refused, before.refused),
    ];
    for (name, after, before) in counts {
        if after != before {
            moves.insert(format!("{name} {}", after - before));
        }
    }
    for (number, (after, before)) in after.dropped.iter().zip(before.dropped).enumerate() {
        if *after != before {
            let reason = u8::try_from(number).ok().and_then(Reason::from_number);
            let name = reason.map_or("?", Reason::name);
            moves.insert(format!("dropped {name} {}", after - before));
        }
    }
    moves
}

/// What a vector's `counts` say, in the same form. A count that is not said is 1; `len` is the
/// frame's length, `len-N` less.
///
/// # Errors
///
/// A word that no movement begins with.
pub fn expected(counts: &BTreeMap<String, String>, length: usize) -> Result<Movements> {
    const COUNTED: [&str; 6] = [
        "forwarded",
        "delivered",
        "slow-path",
        "answered",
        "passed",
        "refused",
    ];
    let mut movements = Movements::new();
    for (subject, text) in counts {
        let mut moves = BTreeSet::new();
        for part in text.split(',') {
            let words: Vec<&str> = part.split_whitespace().collect();
            let part = match *words.as_slice() {
                [name] if COUNTED.contains(&name) => format!("{name} 1"),
                ["dropped", reason] => format!("dropped {reason} 1"),
                [name, _] if COUNTED.contains(&name) => words.join(" "),
                [name @ ("received" | "sent"), tally] => {
                    format!("{name} {}", with_length(tally, length)?)
                }
                ["learned", _] | ["told", "of", _] | ["dropped", _, _] => words.join(" "),
                _ if subject.starts_with("flow") => with_length(&words.join(" "), length)?,
                _ => bail!("`{}` of {subject} says nothing", words.join(" ")),
            };
            moves.insert(part);
        }
        movements.insert(subject.clone(), moves);
    }
    Ok(movements)
}

/// A movement with the frame's length in place of `len`, or less so many bytes in place of `len-N`.
fn with_length(text: &str, length: usize) -> Result<String> {
    let Some((before, after)) = text.split_once("len") else {
        return Ok(text.to_owned());
    };
    let Some(rest) = after.strip_prefix('-') else {
        return Ok(format!("{before}{length}{after}"));
    };
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let less: usize = rest[..digits].parse()?;
    let left = length.checked_sub(less).context("a length below zero")?;
    Ok(format!("{before}{left}{}", &rest[digits..]))
}

/// The differences, one line each; nothing where there are none.
pub fn differences(expected: &Movements, seen: &Movements) -> Vec<String> {
    let lines = |movements: &Movements| -> BTreeSet<String> {
        movements
            .iter()
            .flat_map(|(subject, moves)| moves.iter().map(move |m| format!("{subject}: {m}")))
            .collect()
    };
    let (expected, seen) = (lines(expected), lines(seen));
    let missing = expected.difference(&seen).map(|line| format!("- {line}"));
    let surplus = seen.difference(&expected).map(|line| format!("+ {line}"));
    missing.chain(surplus).collect()
}
