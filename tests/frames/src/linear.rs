//! Which rule decides, by reading all of them: the reference for tables, shapes and flows.
//!
//! Written from the thesis proposal, section 3.1 and figure 2, and from nothing else: it shares
//! with the frame path the words of a rule, but neither its matching nor its order.

use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Source};

use crate::world::Rule;

/// The rule for a frame with these addresses; `rules` are in order of age, oldest first.
#[must_use]
pub fn deciding(rules: &[Rule], source: Mac, destination: Mac) -> Option<&Rule> {
    let mut best: Option<(&Rule, [u8; 2])> = None;
    for rule in rules {
        let Some(by_source) = strength_of_source(rule.source, source) else {
            continue;
        };
        let Some(by_destination) = strength_of_destination(rule.destination, destination) else {
            continue;
        };
        let strength = [by_destination, by_source];
        // "The newer" among equals: a later rule takes the place of an equal one.
        if best.is_none_or(|(_, strongest)| strength >= strongest) {
            best = Some((rule, strength));
        }
    }
    best.map(|(rule, _)| rule)
}

/// "Exact over `not` over `any`"; nothing where the rule is not for this source.
fn strength_of_source(rule: Source, source: Mac) -> Option<u8> {
    match rule {
        Source::Is(named) if named.0 == source.0 => Some(2),
        Source::Not(named) if named.0 != source.0 => Some(1),
        Source::Any => Some(0),
        Source::Is(_) | Source::Not(_) => None,
    }
}

/// The same, with `none`, the default, below all.
fn strength_of_destination(rule: Destination, destination: Mac) -> Option<u8> {
    match rule {
        Destination::Is(named) if named.0 == destination.0 => Some(3),
        Destination::Not(named) if named.0 != destination.0 => Some(2),
        Destination::Any => Some(1),
        Destination::None => Some(0),
        Destination::Is(_) | Destination::Not(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::deciding;
    use crate::actor::{GUEST_ONE, GUEST_TWO};
    use crate::heap::Heap;
    use crate::runner::Runner;
    use crate::world::rule;

    /// The table in figure 2 of the thesis proposal, in our words.
    #[test]
    fn the_strongest_rule_decides() {
        let heap = Heap::new();
        let words = [
            "guest_one -> guest_two: link to_two",
            "guest_one -> not neighbour: link to_three",
            "any -> not neighbour: link to_proxy",
            "guest_one -> any: link to_appliance",
            "any -> none: drop",
        ];
        let rules = words.map(|words| rule(words, heap.stage()).unwrap());
        for first in 0..rules.len() {
            let decided = deciding(&rules[first..], GUEST_ONE.mac, GUEST_TWO.mac);
            assert_eq!(decided, Some(&rules[first]), "{}", words[first]);
        }
        assert_eq!(deciding(&[], GUEST_ONE.mac, GUEST_TWO.mac), None);
        // Among equals the newer, which is the later.
        let newer = rule("any -> none: flood", heap.stage()).unwrap();
        let both = [rules[4], newer];
        assert_eq!(deciding(&both, GUEST_ONE.mac, GUEST_TWO.mac), Some(&newer));
    }
}
