//! In which round does each host switch the rules for each frame?
//!
//! Input: what each host does with every frame now, and what it is to do. Output: a round for every
//! host and every sort of frame that it is to treat otherwise: later than those of all hosts that the
//! frame meets after it on its new way.
//!
//! So a host that has switched sends a frame to hosts only that have, up to its end. One that has not
//! sends it along the old way, which has no loop, until the end or the first host that has. The same
//! holds on the way back, round by round.
//!
//! Frames are sorted by the stations that rules name: sender and receiver, everybody else being one.
//! Frames for many and for stations that no rule names are one sort, and switch together.

use std::collections::{BTreeMap, BTreeSet};

use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Source};

use crate::model::Rule;

/// A sort of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// For this station, from this one, or from anybody that has no sort for itself.
    For(Mac, Option<Mac>),
    /// All others.
    Rest,
}

/// The sorts of one network.
#[derive(Clone, Debug, Default)]
pub struct Sorts {
    /// The stations that frames are for, and the senders that matter for each.
    pub stations: BTreeMap<Mac, BTreeSet<Mac>>,
    /// The senders that matter whoever a frame is for.
    pub senders: BTreeSet<Mac>,
    /// An address that nobody has.
    pub nobody: Mac,
}

impl Sorts {
    /// Those that rules tell apart.
    pub fn new<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut sorts = Self::default();
        for rule in rules {
            let sender = match rule.source {
                Source::Any => None,
                Source::Is(mac) | Source::Not(mac) => Some(mac),
            };
            match rule.destination {
                Destination::Is(mac) if !mac.is_group() => {
                    sorts.stations.entry(mac).or_default().extend(sender);
                }
                Destination::Not(mac) => {
                    sorts.stations.entry(mac).or_default();
                    sorts.senders.extend(sender);
                }
                _ => sorts.senders.extend(sender),
            }
        }
        for senders in sorts.stations.values_mut() {
            senders.extend(&sorts.senders);
        }
        let is_known = |mac: &Mac| {
            sorts.stations.contains_key(mac)
                || sorts.stations.values().any(|senders| senders.contains(mac))
                || sorts.senders.contains(mac)
        };
        let mut numbers = (1..=u32::MAX).map(|number| {
            let [a, b, c, d] = number.to_be_bytes();
            Mac([2, 0, a, b, c, d])
        });
        sorts.nobody = numbers.find(|mac| !is_known(mac)).unwrap_or(Mac::ZERO);
        sorts
    }

    /// All of them, each with the frames that stand for it: sender and receiver.
    pub fn all(&self) -> impl Iterator<Item = (Sort, Vec<(Mac, Mac)>)> + '_ {
        let stations = self.stations.iter().flat_map(move |(&station, senders)| {
            let from = senders.iter().map(|&sender| Some(sender));
            from.chain([None]).map(move |sender| {
                let frame = (sender.unwrap_or(self.nobody), station);
                (Sort::For(station, sender), vec![frame])
            })
        });
        let senders = self.senders.iter().copied().chain([self.nobody]);
        let rest = senders.map(|sender| (sender, self.nobody)).collect();
        stations.chain([(Sort::Rest, rest)])
    }
}

/// What one host is to do with one sort of frames.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Whether that is something else than now.
    pub changes: bool,
    /// Whether it is to send or deliver any.
    pub leads_on: bool,
    /// The hosts that it is to send them to.
    pub next: BTreeSet<usize>,
}

/// The round of hosts that lose their way and get no other: when everything else is done, since who
/// has not heard of the change yet still sends to them.
pub const AT_THE_END: u32 = u32::MAX;

/// The round of each host that changes, from 1, for one sort of frames.
///
/// Where the new way itself is a ring, there is no order, and none is needed.
pub fn rounds(nodes: &BTreeMap<usize, Node>) -> BTreeMap<usize, u32> {
    let mut known: BTreeMap<usize, u32> = BTreeMap::new();
    for &start in nodes.keys() {
        // Depth first, with a stack of its own: ways may be as long as there are hosts.
        let mut on_the_way: BTreeSet<usize> = BTreeSet::new();
        let mut stack = vec![(start, false)];
        while let Some((host, is_left)) = stack.pop() {
            let Some(node) = nodes.get(&host).filter(|_| !known.contains_key(&host)) else {
                continue;
            };
            if is_left {
                let before = node.next.iter().filter_map(|next| known.get(next)).max();
                let round = before.copied().unwrap_or(0) + u32::from(node.changes);
                known.insert(host, round);
                on_the_way.remove(&host);
            } else if on_the_way.insert(host) {
                stack.push((host, true));
                let ahead = node.next.iter().filter(|next| !on_the_way.contains(next));
                stack.extend(ahead.map(|&next| (next, false)));
            }
        }
    }
    known.retain(|host, round| {
        let node = nodes.get(host).filter(|node| node.changes);
        if node.is_some_and(|node| !node.leads_on) {
            *round = AT_THE_END;
        }
        node.is_some()
    });
    known
}
