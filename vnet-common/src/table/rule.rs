//! Which rules are there? Map `RULES`: one entry for everything of one shape that names the same
//! exact addresses.
//!
//! A frame is looked up once a shape, strongest first. `not` is not a key: all `not` rules with
//! the same exact side share an entry. Of those, whatever the frame, one of at most five decides
//! (see [`RuleEntry::strongest`]), so an entry holds five and a lookup costs the same for ten
//! rules and a hundred thousand.
//!
//! Written by the agent (compiled from the configuration), read by the programs on a flow's first
//! frame.

use super::action::Action;
use super::plain;
use crate::addr::{Mac, NetworkId, Stations};
use crate::rule::Shape;

plain! {
    /// A network, a shape, and the addresses that the shape names exactly.
    pub struct RuleKey[16] {
        /// Shape in the high 8 bits, network in the low 24.
        shape_and_network: u32,
        stations: Stations,
    }
}

impl RuleKey {
    /// The key under which rules of this shape are found for a frame (or stored for a rule) with
    /// these addresses; those that the shape does not name exactly are left out.
    #[inline(always)]
    pub const fn new(network: NetworkId, shape: Shape, stations: Stations) -> Self {
        Self {
            shape_and_network: (shape.strength() as u32).wrapping_shl(24) | network.get(),
            stations: stations.keep(shape.has_exact_source(), shape.has_exact_destination()),
        }
    }

    /// The shape, or nothing where the key is not one of ours.
    pub const fn shape(&self) -> Option<Shape> {
        Shape::new((self.shape_and_network >> 24) as u8)
    }

    /// The network, or nothing where the key is not one of ours.
    pub const fn network(&self) -> Option<NetworkId> {
        NetworkId::new(self.shape_and_network & NetworkId::MAX)
    }

    /// The exact source, or zero.
    pub const fn source(&self) -> Mac {
        self.stations.source()
    }

    /// The exact destination, or zero.
    pub const fn destination(&self) -> Mac {
        self.stations.destination()
    }
}

plain! {
    /// One rule of an entry: the addresses after its `not`s, and what it does.
    pub struct Alternative[20] {
        /// The source it is not for; zero where it is for all that the key admits.
        pub not_source: Mac,
        /// The destination it is not for; zero likewise.
        pub not_destination: Mac,
        /// What it does.
        pub action: Action,
    }
}

impl Alternative {
    /// An unused place.
    pub const NONE: Self = Self {
        not_source: Mac::ZERO,
        not_destination: Mac::ZERO,
        action: Action::NONE,
    };
}

plain! {
    /// The rules of one key, reduced to those that can ever decide.
    pub struct RuleEntry[100] {
        /// 0: the newest. 1: the newest with another `not` source than 0. 2: the same, and
        /// another `not` destination than 1. 3: the newest with another `not` destination than 0.
        /// 4: the same, and another `not` source than 3.
        alternatives: [Alternative; 5],
    }
}

impl RuleEntry {
    /// How many rules at most decide.
    pub const PLACES: usize = 5;

    /// The entry for these rules, newest first; they share the key, so they differ in their `not`
    /// addresses. Nothing where there are no rules.
    pub fn compile(newest_first: &[Alternative]) -> Option<Self> {
        let first = *newest_first.first()?;
        let newest = |keep: &dyn Fn(&Alternative) -> bool| {
            newest_first
                .iter()
                .find(|rule| keep(rule))
                .copied()
                .unwrap_or(Alternative::NONE)
        };
        let other_source = newest(&|rule| rule.not_source != first.not_source);
        let other_destination = newest(&|rule| rule.not_destination != first.not_destination);
        Some(Self {
            alternatives: [
                first,
                other_source,
                newest(&|rule| {
                    rule.not_source != first.not_source
                        && rule.not_destination != other_source.not_destination
                }),
                other_destination,
                newest(&|rule| {
                    rule.not_destination != first.not_destination
                        && rule.not_source != other_destination.not_source
                }),
            ],
        })
    }

    /// The newest rule of the entry that is for a frame with these addresses.
    ///
    /// Why five suffice: let 0 be the newest. Where it is not for the frame, either the frame's
    /// source is 0's `not` source, so the answer is the newest with another `not` source: that is
    /// 1, unless the destination is 1's `not` destination, and then it is 2. Or the frame's
    /// destination is 0's `not` destination, and the same holds with the sides exchanged: 3, or
    /// else 4. Valid frames have no zero addresses, so a zero `not` never excludes.
    #[inline(always)]
    pub fn strongest(&self, source: Mac, destination: Mac) -> Option<&Alternative> {
        let [
            newest,
            other_source,
            both_others,
            other_destination,
            both_others_too,
        ] = &self.alternatives;
        let found = if source == newest.not_source {
            if destination == other_source.not_destination {
                both_others
            } else {
                other_source
            }
        } else if destination == newest.not_destination {
            if source == other_destination.not_source {
                both_others_too
            } else {
                other_destination
            }
        } else {
            newest
        };
        if found.action == Action::NONE {
            None
        } else {
            Some(found)
        }
    }

    /// The rules it holds, for listing.
    pub const fn alternatives(&self) -> &[Alternative; 5] {
        &self.alternatives
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::{Action, Alternative, RuleEntry};
    use crate::addr::{LinkId, Mac};

    fn mac(n: u8) -> Mac {
        if n == 0 {
            Mac::ZERO
        } else {
            Mac([2, 0, 0, 0, 0, n])
        }
    }

    proptest! {
        /// Few addresses, so that `not`s collide with frames and with each other often.
        #[test]
        fn five_alternatives_decide_like_all_of_them(
            sides in proptest::collection::vec((0..4u8, 0..4u8), 1..12),
            no_source in any::<bool>(),
            no_destination in any::<bool>(),
            source in 1..5u8,
            destination in 1..5u8,
        ) {
            // All rules of a key have the same shape: a side either has a `not` in all or in none.
            let mut rules: Vec<Alternative> = Vec::new();
            for (number, &(s, d)) in sides.iter().enumerate() {
                let rule = Alternative {
                    not_source: if no_source { Mac::ZERO } else { mac(s + 1) },
                    not_destination: if no_destination { Mac::ZERO } else { mac(d + 1) },
                    action: Action::send(LinkId(u32::try_from(number).unwrap())),
                };
                if !rules.iter().any(|other| {
                    (other.not_source, other.not_destination) == (rule.not_source, rule.not_destination)
                }) {
                    rules.push(rule);
                }
            }
            let (source, destination) = (mac(source), mac(destination));
            let expected = rules.iter().find(|rule| {
                rule.not_source != source && rule.not_destination != destination
            });
            let entry = RuleEntry::compile(&rules).unwrap();
            prop_assert_eq!(entry.strongest(source, destination), expected);
        }
    }
}
