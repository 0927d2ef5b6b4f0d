//! What must change to get from one configuration to another?
//!
//! Input: two configurations. Output: changes as values, which logs print and `apply` carries out.
//! The order among networks, ports, links and rules counts (it is the age of rules and the rank of
//! patterns), so a change says after which entry its own comes. In which order changes reach the
//! kernel is not decided here.

use std::collections::BTreeMap;
use std::fmt;

use vnet_common::rule::{Destination, Source};

use super::configuration::{Limits, Underlay};
use super::{Configuration, DeviceMatch, Link, Network, Port, Rule};

/// One difference between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is a change of the part of its name")]
pub enum Change {
    Underlay { from: Underlay, to: Underlay },
    Limits { from: Limits, to: Limits },
    Network(Edit<Network>),
    Port(Edit<Port>),
    Link(Edit<Link>),
    Rule(Edit<Rule>),
}

/// What happens to one entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit<E: Entry> {
    /// It goes.
    Remove(E),
    /// It comes, right after the entry with this key, or first of all.
    Add {
        /// The entry.
        entry: E,
        /// The key of the one before it.
        after: Option<E::Key>,
    },
    /// It gets another value, and keeps its place.
    Change {
        /// What it was.
        from: E,
        /// What it will be, with the same key.
        to: E,
    },
    /// It gets another place, and perhaps another value.
    Move {
        /// What it was.
        from: E,
        /// What it will be, with the same key.
        to: E,
        /// The key of the one before it.
        after: Option<E::Key>,
    },
}

/// What lists of a configuration consist of: entries that a key tells apart.
pub trait Entry: Clone + Eq + fmt::Debug {
    /// What makes an entry the same entry.
    type Key: Clone + Ord + fmt::Debug;

    /// This entry's key.
    fn key(&self) -> Self::Key;
}

impl Entry for Network {
    type Key = String;

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Entry for Port {
    type Key = DeviceMatch;

    fn key(&self) -> DeviceMatch {
        self.device.clone()
    }
}

impl Entry for Link {
    type Key = String;

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Entry for Rule {
    type Key = (String, Source, Destination);

    fn key(&self) -> Self::Key {
        (self.network.clone(), self.source, self.destination)
    }
}

/// The changes that make `from` into `to`: fewest moves, nothing where they are equal.
///
/// Both must be valid; where a list has two entries with one key, only the last of them counts.
pub fn diff(from: &Configuration, to: &Configuration) -> Vec<Change> {
    let mut changes = Vec::new();
    if from.underlay != to.underlay {
        let (from, to) = (from.underlay.clone(), to.underlay.clone());
        changes.push(Change::Underlay { from, to });
    }
    if from.limits != to.limits {
        changes.push(Change::Limits {
            from: from.limits,
            to: to.limits,
        });
    }
    changes.extend(
        edits(&from.networks, &to.networks)
            .into_iter()
            .map(Change::Network),
    );
    changes.extend(edits(&from.ports, &to.ports).into_iter().map(Change::Port));
    changes.extend(edits(&from.links, &to.links).into_iter().map(Change::Link));
    changes.extend(edits(&from.rules, &to.rules).into_iter().map(Change::Rule));
    changes
}

/// Carries out changes, in their order. A change of something that is not there changes nothing.
pub fn apply(configuration: &mut Configuration, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Underlay { to, .. } => configuration.underlay = to.clone(),
            Change::Limits { to, .. } => configuration.limits = *to,
            Change::Network(edit) => apply_edit(&mut configuration.networks, edit),
            Change::Port(edit) => apply_edit(&mut configuration.ports, edit),
            Change::Link(edit) => apply_edit(&mut configuration.links, edit),
            Change::Rule(edit) => apply_edit(&mut configuration.rules, edit),
        }
    }
}

fn edits<E: Entry>(from: &[E], to: &[E]) -> Vec<Edit<E>> {
    let old: BTreeMap<E::Key, usize> = from
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.key(), place))
        .collect();
    let wanted: BTreeMap<E::Key, usize> = to
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.key(), place))
        .collect();
    let removed = old
        .iter()
        .filter(|(key, _)| !wanted.contains_key(key))
        .map(|(_, &place)| place);
    let mut removed: Vec<usize> = removed.collect();
    removed.sort_unstable();
    let mut edits: Vec<Edit<E>> = removed
        .into_iter()
        .map(|place| Edit::Remove(from[place].clone()))
        .collect();

    let places: Vec<Option<usize>> = to
        .iter()
        .map(|entry| old.get(&entry.key()).copied())
        .collect();
    let stays = longest_rising(&places);
    for (place, entry) in to.iter().enumerate() {
        let after = || place.checked_sub(1).map(|before| to[before].key());
        let before = places[place].map(|place| from[place].clone());
        match before {
            None => edits.push(Edit::Add {
                entry: entry.clone(),
                after: after(),
            }),
            Some(before) if !stays[place] => {
                edits.push(Edit::Move {
                    from: before,
                    to: entry.clone(),
                    after: after(),
                });
            }
            Some(before) if before != *entry => {
                edits.push(Edit::Change {
                    from: before,
                    to: entry.clone(),
                });
            }
            Some(_) => {}
        }
    }
    edits
}

/// Which of the numbers belong to a longest rising subsequence (patience sorting): those entries
/// may stay where they are, the fewest others move.
///
/// From the back, since of two equally long ones that prefers the one that ends earlier: then the
/// entries that move are those that came last, such as a rule that has become the newest.
fn longest_rising(numbers: &[Option<usize>]) -> Vec<bool> {
    // For each length, the place of the largest number that begins a rising sequence of it.
    let mut beginnings: Vec<usize> = Vec::new();
    let mut after: Vec<Option<usize>> = vec![None; numbers.len()];
    for (place, number) in numbers.iter().enumerate().rev() {
        let Some(number) = number else { continue };
        let rises = |&later: &usize| numbers[later].is_some_and(|later| later > *number);
        let length = beginnings.partition_point(rises);
        after[place] = length.checked_sub(1).map(|shorter| beginnings[shorter]);
        if length == beginnings.len() {
            beginnings.push(place);
        } else {
            beginnings[length] = place;
        }
    }
    let mut stays = vec![false; numbers.len()];
    let mut next = beginnings.last().copied();
    while let Some(place) = next {
        stays[place] = true;
        next = after[place];
    }
    stays
}

fn apply_edit<E: Entry>(list: &mut Vec<E>, edit: &Edit<E>) {
    let place_of = |list: &[E], key: &E::Key| list.iter().position(|entry| entry.key() == *key);
    let insert = |list: &mut Vec<E>, entry: &E, after: &Option<E::Key>| {
        let place = match after {
            None => 0,
            Some(key) => place_of(list, key).map_or(list.len(), |place| place + 1),
        };
        list.insert(place, entry.clone());
    };
    match edit {
        Edit::Remove(entry) => {
            let key = entry.key();
            list.retain(|entry| entry.key() != key);
        }
        Edit::Add { entry, after } => insert(list, entry, after),
        Edit::Change { from, to } => {
            if let Some(place) = place_of(list, &from.key()) {
                list[place] = to.clone();
            }
        }
        Edit::Move { from, to, after } => {
            if let Some(place) = place_of(list, &from.key()) {
                list.remove(place);
                insert(list, to, after);
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Underlay { from, to } => write!(f, "~ underlay {from} becomes {to}"),
            Self::Limits { from, to } => write!(f, "~ limits {from} become {to}"),
            Self::Network(edit) => line(f, "network", edit),
            Self::Port(edit) => line(f, "port", edit),
            Self::Link(edit) => {
                line(f, "link", edit)?;
                match edit {
                    Edit::Change { from, to } | Edit::Move { from, to, .. }
                        if from.cookie != to.cookie =>
                    {
                        f.write_str(" (another cookie)")
                    }
                    _ => Ok(()),
                }
            }
            Self::Rule(edit) => line(f, "rule", edit),
        }
    }
}

fn line<E: Entry + fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    noun: &str,
    edit: &Edit<E>,
) -> fmt::Result {
    match edit {
        Edit::Remove(entry) => write!(f, "- {noun} {entry}"),
        Edit::Add { entry, .. } => write!(f, "+ {noun} {entry}"),
        Edit::Move { from, to, .. } if from == to => write!(f, "~ {noun} {to} (another place)"),
        Edit::Change { from, to } | Edit::Move { from, to, .. } => {
            write!(f, "~ {noun} {from} becomes {to}")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vnet_common::addr::Cookie;

    use super::*;
    use crate::model::Target;
    use crate::model::sample::{GUEST_THREE, host_one, link, some_configuration};

    fn shown(from: &Configuration, to: &Configuration) -> Vec<String> {
        diff(from, to).iter().map(Change::to_string).collect()
    }

    #[test]
    fn a_difference_reads_like_what_was_done() {
        let from = host_one();
        let mut to = host_one();
        to.add_link(link("to-three", 4, &["green"])).unwrap();
        to.links[0].cookie = Some(Cookie(5));
        to.links[1].remote = std::net::IpAddr::from([10, 0, 0, 9]);
        to.ports[0].set_mtu = false;
        to.limits.flows = 1000;
        let mut rule = from.rules[0].clone();
        rule.to = Target::Drop;
        to.add_rule(rule).unwrap();
        to.networks.pop();
        let expected = [
            "~ limits 256 ports, 256 links, 64 networks, 131072 rules, 65536 flows become 256 ports, 256 links, 64 networks, 131072 rules, 1000 flows",
            "- network green (id 8)",
            "~ port tap0 in blue, addresses 52:54:00:00:00:01, slow path 2000/s and 1000 at once becomes tap0 in blue, addresses 52:54:00:00:00:01, slow path 2000/s and 1000 at once, MTU left alone",
            "~ link to-two to 10.0.0.2 for blue, flood from-ports becomes to-two to 10.0.0.2 for blue, flood from-ports (another cookie)",
            "~ link to-proxy to 10.0.0.3 for blue, green, flood from-ports becomes to-proxy to 10.0.0.9 for blue, green, flood from-ports",
            "+ link to-three to 10.0.0.4 for green, flood from-ports",
            "~ rule blue: any -> 52:54:00:00:00:03 = link to-two becomes blue: any -> 52:54:00:00:00:03 = drop",
        ];
        assert_eq!(shown(&from, &to), expected);
    }

    #[test]
    fn a_rule_that_only_becomes_the_newest_is_one_move() {
        let from = host_one();
        let mut to = host_one();
        to.add_rule(from.rules[0].clone()).unwrap();
        let expected = format!("~ rule blue: any -> {GUEST_THREE} = link to-two (another place)");
        assert_eq!(shown(&from, &to), [expected]);
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_other(
            from in some_configuration(),
            to in some_configuration(),
        ) {
            let changes = diff(&from, &to);
            let mut changed = from.clone();
            apply(&mut changed, &changes);
            prop_assert_eq!(&changed, &to, "{:#?}", changes);
            prop_assert_eq!(diff(&to, &to), vec![]);
            let shown: Vec<String> = changes.iter().map(Change::to_string).collect();
            prop_assert!(shown.iter().all(|line| !line.contains("000000000000000")), "{:?}", shown);
        }
    }
}
