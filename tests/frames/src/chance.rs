//! Rules and frames by chance, for tests of properties.
//!
//! Few addresses, so that rules meet the same frames, and each other's exceptions, all the time;
//! packets that are nearly right, because those get furthest.

use std::cell::RefCell;

use anyhow::Result;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vnet_common::addr::{LinkId, Mac, PortId};
use vnet_common::reason::Reason;
use vnet_common::rule::{Destination, Source};
use vnet_common::table::action::Action;
use vnet_common::table::link::LinkEntry;

use crate::actor::{LINKS, WIRE};
use crate::build::build;
use crate::judge;
use crate::runner::Door;
use crate::stage::Stage;
use crate::vector;
use crate::world::{self, Entries, Rule};

/// Tests a property on this many values. A value that breaks it is made simpler first, unless what
/// it meets depends on the values before it (`alone` is false).
///
/// # Panics
///
/// The property does not hold: with the value.
pub fn for_all<S: Strategy>(
    cases: u32,
    alone: bool,
    values: &S,
    property: impl FnMut(S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: if alone { 2000 } else { 0 },
        ..Config::default()
    };
    let property = RefCell::new(property);
    let result = TestRunner::new(config).run(values, |value| (property.borrow_mut())(value));
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// The stations of chance.
pub const STATIONS: [Mac; 5] = [
    Mac([2, 0, 0, 0, 0, 1]),
    Mac([2, 0, 0, 0, 0, 2]),
    Mac([2, 0, 0, 0, 0, 3]),
    Mac([2, 0, 0, 0, 1, 0]),
    Mac([0x52, 0x54, 0, 0, 0, 1]),
];

/// A station that rules may name: all but the last.
fn named() -> impl Strategy<Value = Mac> {
    (0..STATIONS.len() - 1).prop_map(|place| STATIONS[place])
}

/// A source of any shape.
pub fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        Just(Source::Any),
        named().prop_map(Source::Not),
        named().prop_map(Source::Is)
    ]
}

/// A destination of any shape.
pub fn destination() -> impl Strategy<Value = Destination> {
    prop_oneof![
        Just(Destination::None),
        Just(Destination::Any),
        named().prop_map(Destination::Not),
        named().prop_map(Destination::Is)
    ]
}

/// How many rules there are at most, each with a link of its own.
pub const RULES_MAX: usize = 40;

/// Rules, oldest first: each has an action that no other has, so that a frame shows which decided,
/// save a few that drop, flood or deliver.
pub fn rules(first_link: u32, port: PortId) -> impl Strategy<Value = Vec<Rule>> {
    let action = prop_oneof![
        8 => Just(None),
        1 => Just(Some(Action::drop(Reason::Rule))),
        1 => Just(Some(Action::FLOOD)),
        1 => Just(Some(Action::deliver(port))),
    ];
    vec((source(), destination(), action), 0..RULES_MAX).prop_map(move |sides| {
        let numbered = sides.into_iter().zip(first_link..);
        let rule = |((source, destination, action), number)| Rule {
            source,
            destination,
            action: Option::<Action>::unwrap_or(action, Action::send(LinkId(number))),
        };
        numbered.map(rule).collect()
    })
}

/// Links that tell their number: one for each rule, the number as the cookie.
///
/// # Errors
///
/// A number of this run is missing.
pub fn telling_links(entries: &mut Entries, stage: &Stage, first_link: u32) -> Result<()> {
    const COOKIE: std::ops::Range<usize> = 54..62;
    let sample = world::link_entry(&LINKS[0], stage)?;
    for number in (first_link..).take(RULES_MAX) {
        let mut link: LinkEntry = sample;
        link.device = stage.device(WIRE)?;
        link.header[COOKIE].copy_from_slice(&u64::from(number).to_be_bytes());
        entries.links.insert(number, link);
    }
    Ok(())
}

/// What became of a frame, as its bytes show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Sent by this link.
    Link(u64),
    /// With the agent's header.
    Agent,
    /// As it came.
    Port,
}

/// How the frame left: `input` is as it came in.
#[must_use]
pub fn shown(input: &[u8], output: &[u8]) -> Option<Shown> {
    let grown = output.len().checked_sub(input.len())?;
    match grown {
        0 if input == output => Some(Shown::Port),
        32 => Some(Shown::Agent),
        78 => Some(Shown::Link(u64::from_be_bytes(
            output.get(54..62)?.try_into().ok()?,
        ))),
        _ => None,
    }
}

/// The shortest ordinary frame between two stations.
#[must_use]
pub fn frame(source: Mac, destination: Mac) -> Vec<u8> {
    let mut bytes = [destination.0, source.0].concat();
    bytes.extend([0x88, 0xb6]);
    bytes.resize(60, 0);
    bytes
}

/// Every frame of every vector, with the door that it enters by.
///
/// # Errors
///
/// A vector is not understood.
pub fn corpus(stage: &Stage) -> Result<Vec<(Door, Vec<u8>)>> {
    let mut corpus = Vec::new();
    for vector in vector::all()? {
        for step in &vector.frame {
            let (door, _) = judge::door(step, stage)?;
            corpus.push((door, build(&step.is, stage, None)?.bytes));
        }
    }
    Ok(corpus)
}

/// One thing that goes wrong with a frame.
#[derive(Clone, Debug)]
enum Mishap {
    /// A byte is another.
    Byte(prop::sample::Index, u8),
    /// A byte is a little more or less.
    Step(prop::sample::Index, i8),
    /// It ends here.
    Cut(prop::sample::Index),
    /// Bytes are missing.
    Gap(prop::sample::Index, usize),
    /// Bytes are new.
    Inserted(prop::sample::Index, Vec<u8>),
    /// Bytes come after it.
    Added(Vec<u8>),
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let place = any::<prop::sample::Index>;
    let bytes = || vec(any::<u8>(), 1..24);
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Mishap::Byte(at, byte)),
        4 => (place(), -4..=4i8).prop_map(|(at, step)| Mishap::Step(at, step)),
        1 => place().prop_map(Mishap::Cut),
        1 => (place(), 1..24usize).prop_map(|(at, bytes)| Mishap::Gap(at, bytes)),
        1 => (place(), bytes()).prop_map(|(at, bytes)| Mishap::Inserted(at, bytes)),
        1 => bytes().prop_map(Mishap::Added),
    ]
}

impl Mishap {
    fn befall(self, bytes: &mut Vec<u8>) {
        // Headers are where it matters: half of all places are within the first 94 bytes.
        let place = |at: prop::sample::Index, bytes: &Vec<u8>| {
            let length = bytes.len();
            at.index(if length.is_multiple_of(2) {
                length.clamp(1, 94)
            } else {
                length.max(1)
            })
        };
        match self {
            Self::Byte(at, byte) => {
                let at = place(at, bytes);
                bytes
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|old| *old = byte);
            }
            Self::Step(at, step) => {
                let at = place(at, bytes);
                let old = bytes.iter_mut().skip(at).take(1);
                old.for_each(|old| *old = old.wrapping_add_signed(step));
            }
            Self::Cut(at) => bytes.truncate(place(at, bytes)),
            Self::Gap(at, count) => {
                let at = place(at, bytes).min(bytes.len());
                let end = (at + count).min(bytes.len());
                bytes.drain(at..end);
            }
            Self::Inserted(at, new) => {
                let at = place(at, bytes).min(bytes.len());
                bytes.splice(at..at, new);
            }
            Self::Added(new) => bytes.extend(new),
        }
    }
}

fn a_door() -> impl Strategy<Value = Door> {
    prop_oneof![Just(Door::Port), Just(Door::Underlay), Just(Door::Agent)]
}

/// Frames that are right, nearly right, and anything at all, at any door.
pub fn any_frame(corpus: Vec<(Door, Vec<u8>)>) -> impl Strategy<Value = (Door, Vec<u8>)> {
    let nearly_right = (
        prop::sample::select(corpus),
        vec(mishap(), 0..4),
        a_door(),
        0..20u8,
    );
    prop_oneof![
        9 => nearly_right.prop_map(|((door, mut bytes), mishaps, other_door, is_lost)| {
            for mishap in mishaps {
                mishap.befall(&mut bytes);
            }
            (if is_lost == 0 { other_door } else { door }, bytes)
        }),
        1 => (a_door(), vec(any::<u8>(), 0..200)),
    ]
}

/// A host where much can happen, as a vector without frames.
pub const A_BUSY_HOST: &str = r#"
why = "Every kind of port and link, and rules to all of them."
rules = [
    "any -> none: flood",
    "any -> guest_one: port guest_one",
    "any -> neighbour: port neighbour",
    "any -> guest_two: link to_two",
    "any -> guest_three: link to_three",
    "any -> printer: link to_appliance",
    "any -> stranger: link to_appliance_six",
    "not guest_two -> not guest_one: link to_proxy",
    "stranger -> any: drop",
]
frame = []
[network.red]
rules = ["any -> any: link to_proxy", "any -> guest_one: port neighbour"]
[port.guest_one]
addresses = "any"
[port.neighbour]
addresses = "learn"
network = "red"
[link.to_two]
networks = ["blue", "red"]
[link.to_three]
[link.to_proxy]
networks = ["red"]
[link.to_appliance]
[link.to_appliance_six]
"#;
