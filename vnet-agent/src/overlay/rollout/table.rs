//! What does one host do with a frame of one network?
//!
//! Input: the rules of its part, and the stations at its own ports, which are delivered to whether or
//! not a rule says so. Output: the decision, in the order of `vnet_common::rule`.

use std::collections::BTreeMap;

use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Shape, Source};

use crate::model::{Rule, Target};

/// The rules of one network on one host.
#[derive(Debug, Default)]
pub struct Table<'a> {
    rules: BTreeMap<(Option<Mac>, Option<Mac>), Vec<Ranked<'a>>>,
}

#[derive(Debug)]
struct Ranked<'a> {
    strength: Shape,
    age: usize,
    source: Source,
    destination: Destination,
    decision: Decision<'a>,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// A rule says so.
    Rule(&'a Target),
    /// It is for a station at this device, and no rule is about it.
    Own(&'a str),
    /// No rule is about it.
    Nothing,
}

impl Decision<'_> {
    /// Whether a frame fares the same.
    pub fn is_like(self, other: Decision<'_>) -> bool {
        match (self, other) {
            (Decision::Own(device), Decision::Rule(Target::Port(port)))
            | (Decision::Rule(Target::Port(port)), Decision::Own(device)) => device == port,
            (Decision::Nothing, Decision::Rule(Target::Drop))
            | (Decision::Rule(Target::Drop), Decision::Nothing)
            | (Decision::Nothing, Decision::Nothing) => true,
            (Decision::Rule(one), Decision::Rule(other)) => one == other,
            (Decision::Own(one), Decision::Own(other)) => one == other,
            _ => false,
        }
    }

    /// As a rule would have it; nothing where no rule is needed.
    pub fn target(self) -> Option<Target> {
        match self {
            Self::Rule(target) => Some(target.clone()),
            Self::Own(_) => None,
            Self::Nothing => Some(Target::Drop),
        }
    }
}

impl<'a> Table<'a> {
    /// The table of these rules, oldest first, with these stations at the host's own devices.
    pub fn new(
        rules: impl Iterator<Item = &'a Rule>,
        stations: impl Iterator<Item = (Mac, &'a str)>,
    ) -> Self {
        let mut table = Self::default();
        for (age, rule) in (1..).zip(rules) {
            table.add(age, rule.source, rule.destination, Decision::Rule(&rule.to));
        }
        for (station, device) in stations {
            let to = Destination::Is(station);
            if !table.is_about_all_for(station) {
                table.add(0, Source::Any, to, Decision::Own(device));
            }
        }
        table
    }

    fn is_about_all_for(&self, station: Mac) -> bool {
        let rules = self.rules.get(&(None, Some(station)));
        let mut rules = rules.into_iter().flatten();
        rules.any(|rule| rule.source == Source::Any)
    }

    fn add(
        &mut self,
        age: usize,
        source: Source,
        destination: Destination,
        decision: Decision<'a>,
    ) {
        let key = (source.exact(), destination.exact());
        self.rules.entry(key).or_default().push(Ranked {
            strength: Shape::of(source, destination),
            age,
            source,
            destination,
            decision,
        });
    }

    /// What becomes of a frame for one station.
    pub fn decide(&self, source: Mac, destination: Mac) -> Decision<'a> {
        let keys = [
            (Some(source), Some(destination)),
            (None, Some(destination)),
            (Some(source), None),
            (None, None),
        ];
        let found = keys.iter().filter_map(|key| self.rules.get(key)).flatten();
        let matching = found
            .filter(|rule| rule.source.matches(source) && rule.destination.matches(destination));
        let strongest = matching.max_by_key(|rule| (rule.strength, rule.age));
        strongest.map_or(Decision::Nothing, |rule| rule.decision)
    }
}
