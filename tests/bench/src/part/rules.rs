//! What does a frame cost in our programs, however many rules there are?
//!
//! Asked of the kernel (`BPF_PROG_TEST_RUN`), of the tables that an agent filled from a settings
//! file, one frame a call: a program that puts headers on would otherwise run over its own result.
//! A call's time includes reading the clock twice; an empty program, timed in the same way, says
//! how much that is, and it is taken off. The agents' memory is read from `/proc` in passing.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Agent, BPF_DIRECTORY, Mac};
use vnet_agent::dataplane::object::OBJECT;
use vnet_agent::dataplane::{DataPlane, Fate, Role};
use vnet_agent::model::attachment::Attachment;
use vnet_agent::model::configuration::Limits;
use vnet_agent::model::door::Door;

use crate::bed::{ADDRESSES, Bed, CABLE};
use crate::bpf;
use crate::cores::Cores;
use crate::figure::{Bound, Figure, middle_mean};
use crate::frame::{GUEST_ONE, GUEST_TWO, frame};
use crate::part::memory;
use crate::report::number;
use crate::taps::{TAP, Taps};
use crate::workshop::Workshop;

/// The numbers of rules that are compared.
const RULES: [usize; 3] = [10, 1_000, 100_000];
/// How much dearer a frame may be with the most rules than with the fewest.
const FLAT: f64 = 1.05;
/// Calls that make one sample.
pub(super) const CALLS: usize = 10_000;
/// New flows that make one sample: few enough that those of 15 rounds fit in the flow table, so
/// that none pays for pushing out another.
const NEW_FLOWS: usize = 2_000;
/// The length of the frames, bytes.
pub(super) const LENGTH: usize = 64;

/// What the agents take to start, about.
pub const START: Duration = Duration::from_secs(10);
/// What a round takes, about.
pub const ROUND: Duration = Duration::from_millis(600);

/// Measures.
///
/// # Errors
///
/// An agent does not start, or a program does something else than send the frame on.
pub fn measure(workshop: &Workshop, rounds: u32) -> Result<Vec<Figure>> {
    let mut subjects = Vec::new();
    for rules in RULES {
        workshop.say(format_args!("starting an agent with {rules} rules"));
        subjects.push(Subject::new(workshop, rules)?);
    }
    for round in 1..=rounds {
        for subject in &mut subjects {
            subject.sample(workshop.cores)?;
            let last = subject.last();
            workshop.say(format_args!("round {round} of {rounds}: {last}"));
        }
    }
    Ok(figures(&subjects))
}

/// An agent with so many rules, and what was measured of it.
pub(super) struct Subject {
    rules: usize,
    pub(super) bed: Bed,
    _taps: Taps,
    agent: Agent,
    plane: DataPlane,
    pub(super) tap: u32,
    pub(super) cable: u32,
    flows: u32,
    /// As the agent of the other host would send it.
    pub(super) packet: Vec<u8>,
    costs: Costs,
}

/// Samples, one a round.
#[derive(Debug, Default)]
struct Costs {
    /// A frame of a flow that is in the table, nanoseconds.
    known_flow: Vec<f64>,
    /// The first frame of a flow to the guest that the frame before was for, nanoseconds.
    new_flow: Vec<f64>,
    /// The first frame of a flow to a guest that no frame was for in a while, nanoseconds.
    new_flow_any_rule: Vec<f64>,
    /// A packet of a known flow from the other host, nanoseconds.
    underlay: Vec<f64>,
    /// The agent's memory, MiB.
    memory: Vec<f64>,
}

impl Subject {
    pub(super) fn new(workshop: &Workshop, rules: usize) -> Result<Self> {
        let bed = workshop.bed(TAP)?;
        let taps = Taps::new(&bed)?;
        let agent = bed.one.agent(&settings(rules))?;
        let plane = open(&bed, OBJECT)?;
        let (tap, cable) = (bed.device_index(TAP)?, bed.device_index(CABLE)?);
        let mut subject = Self {
            rules,
            bed,
            _taps: taps,
            agent,
            plane,
            tap,
            cable,
            flows: 0,
            packet: Vec::new(),
            costs: Costs::default(),
        };
        subject.packet = subject.packet_from_the_other_host()?;
        Ok(subject)
    }

    fn sample(&mut self, cores: Cores) -> Result<()> {
        let Self {
            bed,
            plane,
            tap,
            cable,
            flows,
            packet,
            rules,
            costs,
            ..
        } = self;
        let (tap, cable, rules) = (*tap, *cable, *rules);
        bed.one.inside(|| -> Result<()> {
            cores.take_senders()?;
            let empty = bpf::load(bpf::Hook::Xdp, &bpf::pass())?;
            let known = frame(GUEST_ONE, rule_destination(0), LENGTH);
            let nothing = typical(CALLS, || Ok(f64::from(bpf::time(&empty, &known, 1)?)))?;
            let mut run = |role, device, frame: &[u8]| time(plane, role, device, frame);
            costs
                .known_flow
                .push(typical(CALLS, || run(Role::Port, tap, &known))? - nothing);
            costs
                .underlay
                .push(typical(CALLS, || run(Role::Underlay, cable, packet))? - nothing);
            let mut new_flow = |rule_of: fn(u32, usize) -> usize| {
                typical(NEW_FLOWS, || {
                    *flows += 1;
                    let destination = rule_destination(rule_of(*flows, rules));
                    run(Role::Port, tap, &frame(guest(*flows), destination, LENGTH))
                })
            };
            costs.new_flow.push(new_flow(|_, _| 0)? - nothing);
            costs.new_flow_any_rule.push(new_flow(scattered)? - nothing);
            Ok(())
        })??;
        self.costs.memory.push(memory::of_agent(&self.agent)?);
        Ok(())
    }

    fn last(&self) -> String {
        let Costs {
            known_flow,
            new_flow,
            new_flow_any_rule,
            underlay,
            memory,
        } = &self.costs;
        let [known_flow, new_flow, any_rule, underlay, memory] =
            [known_flow, new_flow, new_flow_any_rule, underlay, memory]
                .map(|samples| number(samples.last().copied().unwrap_or_default()));
        format!(
            "{} rules: a frame of a known flow {known_flow} ns, the first of a new flow \
             {new_flow} ns, by any of the rules {any_rule} ns, from the underlay {underlay} ns; \
             the agent has {memory} MiB",
            self.rules
        )
    }

    /// A packet as the agent of the other host would send it: our own with its ends exchanged.
    fn packet_from_the_other_host(&mut self) -> Result<Vec<u8>> {
        let Self {
            bed, plane, tap, ..
        } = self;
        let inner = frame(GUEST_TWO, rule_destination(0), LENGTH);
        // An agent is ready before the neighbour has answered.
        let mut packet =
            lab::try_eventually("the port's program sends frames over the link", || {
                let answer = bed
                    .one
                    .inside(|| plane.ask(Attachment::new(Role::Port, *tap, Door::Xdp), &inner))??;
                let is_sent = answer.fate == Fate::Redirected && answer.frame.len() > inner.len();
                Ok(is_sent.then_some(answer.frame))
            })?;
        let headers = packet.len() - inner.len();
        let (outer, inner) = packet.split_at_mut(headers);
        let addresses = outer.get_mut(26..34).context("an IPv4 header")?;
        addresses.rotate_left(4);
        inner
            .get_mut(..6)
            .context("an Ethernet header")?
            .copy_from_slice(&GUEST_ONE.0);
        Ok(packet)
    }
}

/// These programs over the tables of the agent of host one.
pub(super) fn open(bed: &Bed, object: &[u8]) -> Result<DataPlane> {
    let pins = Path::new(BPF_DIRECTORY).join("vnet");
    let open = || DataPlane::open_object(object, &pins, &Limits::default(), false);
    Ok(bed.one.inside(open)??)
}

/// How long the program takes for this frame, nanoseconds, the call included.
pub(super) fn time(plane: &mut DataPlane, role: Role, device: u32, frame: &[u8]) -> Result<f64> {
    let answer = plane.run(Attachment::new(role, device, Door::Xdp), frame, 1)?;
    ensure!(
        answer.fate == Fate::Redirected,
        "the {role:?} program does not send the frame on but answers {:?}",
        answer.fate
    );
    Ok(answer.duration_ns as f64)
}

pub(super) fn typical(calls: usize, mut call: impl FnMut() -> Result<f64>) -> Result<f64> {
    let samples: Result<Vec<f64>> = (0..calls).map(|_| call()).collect();
    middle_mean(&samples?).context("no calls")
}

/// The guest that a rule is for.
pub(super) fn rule_destination(rule: usize) -> Mac {
    let [.., a, b, c] = rule.to_be_bytes();
    Mac([0x52, 0x54, 2, a, b, c])
}

/// A guest that was not there before.
fn guest(number: u32) -> Mac {
    let [_, a, b, c] = number.to_be_bytes();
    Mac([0x52, 0x54, 1, a, b, c])
}

/// Rules in an order in which neighbours in time are none in memory: multiples of a prime.
fn scattered(number: u32, rules: usize) -> usize {
    // One of the rules is for the guest at home.
    usize::try_from(number).unwrap_or(0).wrapping_mul(7_919) % (rules - 1)
}

fn settings(rules: usize) -> String {
    let [_, remote] = ADDRESSES;
    let mut text = format!(
        r#"[underlay]
device = "{CABLE}"
door = "xdp"

[[network]]
name = "blue"
id = 7

[[port]]
name = "{TAP}"
network = "blue"
addresses = "any"
door = "xdp"

[[link]]
name = "to-other"
remote = "{remote}"
networks = ["blue"]
cookie = "5af3107a4000be1d"

[[rule]]
network = "blue"
destination = "{GUEST_ONE}"
port = "{TAP}"
"#
    );
    for rule in 0..rules.saturating_sub(1) {
        let destination = rule_destination(rule);
        text.push_str(&format!(
            "[[rule]]\nnetwork = \"blue\"\ndestination = \"{destination}\"\nlink = \"to-other\"\n"
        ));
    }
    text
}

type Of = fn(&Costs) -> &[f64];

fn figures(subjects: &[Subject]) -> Vec<Figure> {
    let kinds: [(&str, &str, Of); 3] = [
        ("known_flow", "a frame of a known flow", |costs| {
            &costs.known_flow
        }),
        ("new_flow", "first frame of a flow, same rule", |costs| {
            &costs.new_flow
        }),
        (
            "new_flow_any_rule",
            "first frame of a flow, any rule",
            |costs| &costs.new_flow_any_rule,
        ),
    ];
    let mut figures = Vec::new();
    for (name, title, of) in kinds {
        for Subject { rules, costs, .. } in subjects {
            let figure = Figure::new(
                format!("port_program_ns.{name}.{rules}"),
                format!("port program, {title}, {rules} rules"),
                "ns",
                of(costs),
            );
            figures.push(figure.map(|figure| figure.about("rules", *rules)));
        }
        if let [least, .., most] = subjects {
            let growth = Figure::new(
                format!("port_program_growth.{name}"),
                format!(
                    "port program, {title}: {} rules over {}",
                    most.rules, least.rules
                ),
                "x",
                &ratios(of(&most.costs), of(&least.costs)),
            );
            figures.push(growth.map(|growth| growth.with_goal(Bound::AtMost(FLAT))));
        }
    }
    if let Some(Subject { costs, .. }) = subjects.first() {
        figures.push(Figure::new(
            "underlay_program_ns.known_flow",
            "underlay program, a packet of a known flow",
            "ns",
            &costs.underlay,
        ));
    }
    for Subject { rules, costs, .. } in subjects {
        figures.push(Figure::new(
            format!("agent_memory_mib.{rules}_rules"),
            format!("agent's memory, {rules} rules"),
            "MiB",
            &costs.memory,
        ));
    }
    figures.into_iter().flatten().collect()
}

/// The ratios of what was measured in the same rounds.
pub(super) fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(of, to)| of / to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_have_as_many_rules_as_they_should() {
        for rules in [10, 1_000] {
            let table: toml::Table = settings(rules).parse().unwrap();
            assert_eq!(table["rule"].as_array().unwrap().len(), rules);
        }
    }

    #[test]
    fn new_flows_lead_to_every_rule_in_turn() {
        let seen: std::collections::BTreeSet<_> = (1..10).map(|flow| scattered(flow, 10)).collect();
        assert_eq!(seen, (0..9).collect());
    }
}
