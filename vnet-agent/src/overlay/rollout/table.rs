//! What does one host do with a frame of one network?
//!
//! Input: the rules of its part, and the stations at its own ports, which are delivered to whether or
//! not a rule says so. Output: the decision, in the order of `vnet_common::rule`.

use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Source};

use crate::model::ranking::Ranking;
use crate::model::{Rule, Target};

/// The rules of one network on one host.
#[derive(Debug, Default)]
pub struct Table<'a> {
    rules: Ranking<Decision<'a>>,
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
            let decision = Decision::Rule(&rule.to);
            table
                .rules
                .add(age, rule.source, rule.destination, decision);
        }
        for (station, device) in stations {
            let to = Destination::Is(station);
            if !table.rules.has(Source::Any, to) {
                table.rules.add(0, Source::Any, to, Decision::Own(device));
            }
        }
        table
    }

    /// What becomes of a frame for one station.
    pub fn decide(&self, source: Mac, destination: Mac) -> Decision<'a> {
        let matching = self.rules.matching(source, destination);
        matching.first().map_or(Decision::Nothing, |rule| rule.rule)
    }
}
