//! Rules as the kernel looks them up.
//!
//! Input: rules, oldest first, and what their targets are in the tables. Output: one entry for
//! each shape and pair of exact addresses, and the set of shapes of each network.

use std::collections::BTreeMap;

use vnet_common::addr::{NetworkId, Stations};
use vnet_common::rule::{Destination, Shape, Source};
use vnet_common::table::action::Action;
use vnet_common::table::rule::{Alternative, RuleEntry, RuleKey};

/// A rule whose target has been found.
#[derive(Clone, Copy, Debug)]
pub struct Compilable {
    /// Its network.
    pub network: NetworkId,
    /// Its sender.
    pub source: Source,
    /// Its receiver.
    pub destination: Destination,
    /// What it does.
    pub action: Action,
}

/// The rule table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The entries.
    pub rules: BTreeMap<RuleKey, RuleEntry>,
    /// The shapes that have any, one bit each, by network.
    pub shapes: BTreeMap<NetworkId, u32>,
}

/// Compiles rules, oldest first. Of two with the same addresses and qualifiers the newer counts.
pub fn compile_rules(oldest_first: impl IntoIterator<Item = Compilable>) -> Compiled {
    let mut compiled = Compiled::default();
    let mut by_key: BTreeMap<RuleKey, Vec<Alternative>> = BTreeMap::new();
    for rule in oldest_first {
        let shape = Shape::of(rule.source, rule.destination);
        let (source, destination) = (rule.source.address(), rule.destination.address());
        let key = RuleKey::new(rule.network, shape, Stations::new(source, destination));
        let mut alternative = Alternative {
            action: rule.action,
            ..Alternative::NONE
        };
        if let Source::Not(address) = rule.source {
            alternative.not_source = address;
        }
        if let Destination::Not(address) = rule.destination {
            alternative.not_destination = address;
        }
        let alternatives = by_key.entry(key).or_default();
        alternatives.retain(|other| {
            (other.not_source, other.not_destination)
                != (alternative.not_source, alternative.not_destination)
        });
        alternatives.push(alternative);
        *compiled.shapes.entry(rule.network).or_default() |= shape.bit();
    }
    for (key, mut alternatives) in by_key {
        alternatives.reverse();
        compiled
            .rules
            .extend(RuleEntry::compile(&alternatives).map(|entry| (key, entry)));
    }
    compiled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vnet_common::addr::{LinkId, Mac, NetworkId, Stations};
    use vnet_common::rule::{Destination, Shape, Source};
    use vnet_common::table::action::Action;
    use vnet_common::table::network::NetworkEntry;
    use vnet_ebpf::step::rules::strongest;
    use vnet_ebpf::tables::heap::HeapTables;

    use super::{Compilable, compile_rules};

    fn mac() -> impl Strategy<Value = Mac> {
        (1..5u8).prop_map(|n| Mac([2, 0, 0, 0, 0, n]))
    }

    fn source() -> impl Strategy<Value = Source> {
        prop_oneof![
            Just(Source::Any),
            mac().prop_map(Source::Not),
            mac().prop_map(Source::Is)
        ]
    }

    fn destination() -> impl Strategy<Value = Destination> {
        prop_oneof![
            Just(Destination::None),
            Just(Destination::Any),
            mac().prop_map(Destination::Not),
            mac().prop_map(Destination::Is)
        ]
    }

    proptest! {
        /// The frame path's own lookup over the compiled table, against reading the list.
        #[test]
        fn the_compiled_table_decides_like_the_list(
            rules in proptest::collection::vec((source(), destination()), 0..40),
            frame_source in mac(),
            frame_destination in mac(),
        ) {
            let network = NetworkId::new(7).unwrap();
            let rules: Vec<Compilable> = rules
                .into_iter()
                .zip(0..)
                .map(|((source, destination), number)| Compilable {
                    network,
                    source,
                    destination,
                    action: Action::send(LinkId(number)),
                })
                .collect();
            let compiled = compile_rules(rules.iter().copied());
            let shapes = compiled.shapes.get(&network).copied().unwrap_or(0);
            let mut tables = HeapTables::default();
            tables.rules = compiled.rules;
            tables.networks.insert(0, NetworkEntry { id: 7, generation: 1, shapes, _pad: 0 });

            let expected = rules
                .iter()
                .enumerate()
                .filter(|(_, rule)| {
                    rule.source.matches(frame_source) && rule.destination.matches(frame_destination)
                })
                .max_by_key(|(age, rule)| (Shape::of(rule.source, rule.destination), *age))
                .map_or(Action::NONE, |(_, rule)| rule.action);
            let stations = Stations::new(frame_source, frame_destination);
            prop_assert_eq!(strongest(&tables, network, shapes, stations), expected);
        }
    }
}
