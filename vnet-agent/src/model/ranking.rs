//! Which rules are about a frame, and which of them is the strongest?
//!
//! Input: rules of one network on one host, in whatever form the caller has them, with their sides and ages.
//! Output: those that match two addresses, in the order of `vnet_common::rule`. They are arranged by the
//! addresses that they name exactly, so that a frame meets those only that may be about it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Shape, Source};

/// The addresses that a rule names exactly: source, destination.
type Exact = (Option<Mac>, Option<Mac>);

/// Rules of one network on one host.
#[derive(Clone, Debug)]
pub(crate) struct Ranking<T> {
    rules: BTreeMap<Exact, Vec<Ranked<T>>>,
}

/// A rule and what decides between it and others.
#[derive(Clone, Debug)]
pub(crate) struct Ranked<T> {
    pub(crate) strength: Shape,
    /// The younger of two that are as strong is stronger.
    pub(crate) age: usize,
    pub(crate) source: Source,
    pub(crate) destination: Destination,
    /// What it says.
    pub(crate) rule: T,
}

impl<T> Default for Ranking<T> {
    fn default() -> Self {
        Self {
            rules: BTreeMap::new(),
        }
    }
}

impl<T> Ranking<T> {
    /// One more rule; a greater age number is a younger rule.
    pub(crate) fn add(&mut self, age: usize, source: Source, destination: Destination, rule: T) {
        let key = (source.exact(), destination.exact());
        self.rules.entry(key).or_default().push(Ranked {
            strength: Shape::of(source, destination),
            age,
            source,
            destination,
            rule,
        });
    }

    /// The rules that are about a frame with these addresses, strongest first.
    pub(crate) fn matching(&self, source: Mac, destination: Mac) -> Vec<&Ranked<T>> {
        let keys = [
            (Some(source), Some(destination)),
            (None, Some(destination)),
            (Some(source), None),
            (None, None),
        ];
        let found = keys.iter().filter_map(|key| self.rules.get(key)).flatten();
        let mut found: Vec<_> = found
            .filter(|rule| rule.source.matches(source) && rule.destination.matches(destination))
            .collect();
        found.sort_by_key(|rule| Reverse((rule.strength, rule.age)));
        found
    }

    /// Whether a rule is about exactly these sides.
    pub(crate) fn has(&self, source: Source, destination: Destination) -> bool {
        let rules = self.rules.get(&(source.exact(), destination.exact()));
        let mut rules = rules.into_iter().flatten();
        rules.any(|rule| rule.source == source && rule.destination == destination)
    }
}
